"""The admin's list and page of each model: records, batches, workspaces and groups.

This package chooses columns and fields, and prepares the parts that only these pages show: payloads, errors, attempts
and throughput. It changes no row itself; ``admin.actions`` does. Its five classes are registered when Django imports
it.
"""

from .action import OutboxActionAdmin
from .batch import OutboxBatchAdmin
from .group import OutboxGroupAdmin
from .record import OutboxRecordAdmin
from .workspace import OutboxWorkspaceAdmin

__all__ = [
    "OutboxActionAdmin",
    "OutboxBatchAdmin",
    "OutboxGroupAdmin",
    "OutboxRecordAdmin",
    "OutboxWorkspaceAdmin",
]

"""The admin's list and page of each model: records, batches, workspaces and groups.

This package chooses columns and fields, and prepares what only these pages draw: payloads, errors, attempts and
throughput. It changes no row itself; ``admin.actions`` does. Django finds the four registered classes when it imports
this package.
"""

from .batch import OutboxBatchAdmin
from .group import OutboxGroupAdmin
from .record import OutboxRecordAdmin
from .workspace import OutboxWorkspaceAdmin

__all__ = ["OutboxBatchAdmin", "OutboxGroupAdmin", "OutboxRecordAdmin", "OutboxWorkspaceAdmin"]

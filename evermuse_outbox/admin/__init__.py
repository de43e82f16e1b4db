"""The pages of the outbox in Django's admin.

This package shows records, batches, workspaces, groups, jobs and manual actions. Operators start jobs, and end the wait
of single rows. It changes rows only through ``jobs`` and ``operations`` and never sends anything. Django finds its
``ModelAdmin`` classes when it imports the package.
"""

from .jobs import OutboxOperationAdmin
from .pages import (
    OutboxActionAdmin,
    OutboxBatchAdmin,
    OutboxGroupAdmin,
    OutboxRecordAdmin,
    OutboxWorkspaceAdmin,
)

__all__ = [
    "OutboxActionAdmin",
    "OutboxBatchAdmin",
    "OutboxGroupAdmin",
    "OutboxOperationAdmin",
    "OutboxRecordAdmin",
    "OutboxWorkspaceAdmin",
]

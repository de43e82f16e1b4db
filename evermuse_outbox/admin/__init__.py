"""The pages of the outbox in Django's admin.

This package shows records, batches, workspaces, groups and manual actions. Operators retry records and end the wait of
batches, workspaces and groups. It changes rows only through ``operations`` and never sends anything. Django finds its
five ``ModelAdmin`` classes when it imports the package.
"""

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
    "OutboxRecordAdmin",
    "OutboxWorkspaceAdmin",
]

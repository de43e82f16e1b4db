"""The pages of the outbox in Django's admin.

This package shows records, batches, workspaces and groups, and lets operators retry and resume them. It changes
rows only through these two actions and never sends anything: the workers do that. Django finds its four
``ModelAdmin`` classes when it imports the package.
"""

from .pages import OutboxBatchAdmin, OutboxGroupAdmin, OutboxRecordAdmin, OutboxWorkspaceAdmin

__all__ = ["OutboxBatchAdmin", "OutboxGroupAdmin", "OutboxRecordAdmin", "OutboxWorkspaceAdmin"]

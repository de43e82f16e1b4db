"""The pages of the outbox in Django's admin.

This package shows an overview, records, batches, workspaces, groups, jobs, manual actions, workers, incidents and
attempts. Operators start jobs, and end the wait of single rows. It changes rows only through ``jobs`` and
``operations`` and never sends anything. Django finds its ``ModelAdmin`` classes when it imports the package.
"""

from .jobs import OutboxOperationAdmin
from .overview import OutboxAttemptAdmin, OutboxIncidentAdmin, OutboxOverviewAdmin, OutboxWorkerAdmin
from .pages import (
    OutboxActionAdmin,
    OutboxBatchAdmin,
    OutboxGroupAdmin,
    OutboxRecordAdmin,
    OutboxWorkspaceAdmin,
)
from .rules import OutboxRuleAdmin
from .runs import OutboxRunAdmin

__all__ = [
    "OutboxActionAdmin",
    "OutboxAttemptAdmin",
    "OutboxBatchAdmin",
    "OutboxGroupAdmin",
    "OutboxIncidentAdmin",
    "OutboxOperationAdmin",
    "OutboxOverviewAdmin",
    "OutboxRecordAdmin",
    "OutboxRuleAdmin",
    "OutboxRunAdmin",
    "OutboxWorkerAdmin",
    "OutboxWorkspaceAdmin",
]

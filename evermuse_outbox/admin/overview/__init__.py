"""The overview page, and the lists of workers, incidents and attempts that its numbers link to.

The figures come from ``insight``; this package arranges, draws and links them. It changes no row and makes no query of
its own, except for the workspaces that a person may not see. Its four ``ModelAdmin`` classes are registered when Django
imports it.
"""

from .lists import OutboxAttemptAdmin, OutboxIncidentAdmin, OutboxWorkerAdmin
from .page import OutboxOverviewAdmin

__all__ = ["OutboxAttemptAdmin", "OutboxIncidentAdmin", "OutboxOverviewAdmin", "OutboxWorkerAdmin"]

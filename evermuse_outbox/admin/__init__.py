"""The outbox in Django's admin: pages to look at, and the few things a person may ask for.

Rows are read-only here. What a person can do is retry rejected records and end the hold of a workspace or a
group; all of it changes rows only, and sending is left to the workers.
"""

from .pages.batch import OutboxBatchAdmin
from .pages.group import OutboxGroupAdmin
from .pages.record import OutboxRecordAdmin
from .pages.workspace import OutboxWorkspaceAdmin

__all__ = ["OutboxBatchAdmin", "OutboxGroupAdmin", "OutboxRecordAdmin", "OutboxWorkspaceAdmin"]

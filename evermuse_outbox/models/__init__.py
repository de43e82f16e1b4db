"""The tables of the outbox, their predicates and every change of state that they allow.

* :class:`OutboxRecord`: what the host handed over, written at enqueue and once more at sealing.
* :class:`OutboxBatch`: the records of one request, sealed.
* :class:`OutboxRejection`: why a record was refused.
* :class:`OutboxAttempt`: one HTTP call.
* :class:`OutboxGroup`: a group in which everything is refused alike.
* :class:`OutboxWorkspace`: what holds an API key back, and whose turn it is.
* :class:`OutboxThrottle`: the pace of an API key where there is no Redis.
"""

from .attempt import OutboxAttempt
from .batch import BatchQuerySet, BatchState, OutboxBatch
from .group import GroupState, OutboxGroup
from .record import OutboxRecord, OutboxRejection, RecordState
from .throttle import OutboxThrottle
from .workspace import OutboxWorkspace, WorkspaceQuerySet, WorkspaceState

__all__ = [
    "BatchQuerySet",
    "BatchState",
    "GroupState",
    "OutboxAttempt",
    "OutboxBatch",
    "OutboxGroup",
    "OutboxRecord",
    "OutboxRejection",
    "OutboxThrottle",
    "OutboxWorkspace",
    "RecordState",
    "WorkspaceQuerySet",
    "WorkspaceState",
]

"""What has happened: attempts (HTTP calls), manual actions, jobs, imports, incidents and heartbeats of workers.

The package decides nothing. Its interface is one model for each log, and the columns of an action.
"""

from .action import ActionKind, Decision, OutboxAction, describe_records, process_user
from .attempt import OUTCOME_LABELS, OutboxAttempt
from .imported import OutboxImport, import_key
from .incident import IncidentKind, OutboxIncident
from .operation import (
    BACKFILL,
    UNCONFIRMED,
    UNFINISHED,
    MemberResult,
    OperationQuerySet,
    OperationState,
    OutboxOperation,
    OutboxOperationMember,
    start_operation,
)
from .pressure import OutboxPressure
from .worker import OutboxWorker

__all__ = [
    "BACKFILL",
    "OUTCOME_LABELS",
    "UNCONFIRMED",
    "UNFINISHED",
    "ActionKind",
    "Decision",
    "IncidentKind",
    "MemberResult",
    "OperationQuerySet",
    "OperationState",
    "OutboxAction",
    "OutboxAttempt",
    "OutboxImport",
    "OutboxIncident",
    "OutboxOperation",
    "OutboxOperationMember",
    "OutboxPressure",
    "OutboxWorker",
    "describe_records",
    "import_key",
    "process_user",
    "start_operation",
]

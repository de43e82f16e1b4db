"""The tables of the outbox, the predicates on them, and every change of state as a named, fenced method.

``transitions`` explains what *fenced* means. This package must not call Evermuse, decide what an answer means, or read
a setting; only ``payloads`` reads the master keys. Callers pass times in. The throttle and INSERTs read the database's
clock in the same statement. Its public interface is the models and their states, and the query hints for queries that
other packages build. New records are inserted by ``models.insert``.
"""

from .batch import BatchQuerySet, OutboxBatch
from .batch_states import SENDABLE, BatchState
from .deferral import DeferralQuerySet, OutboxDeferral
from .group import GroupQuerySet, GroupState, OutboxGroup, group_key
from .history import (
    BACKFILL,
    OUTCOME_LABELS,
    UNCONFIRMED,
    UNFINISHED,
    ActionKind,
    Decision,
    IncidentKind,
    MemberResult,
    OperationQuerySet,
    OperationState,
    OutboxAction,
    OutboxAttempt,
    OutboxImport,
    OutboxIncident,
    OutboxOperation,
    OutboxOperationMember,
    OutboxPressure,
    OutboxWorker,
    describe_records,
    import_key,
    process_user,
    start_operation,
)
from .labels import MAX_RUN_NAME, OutboxLabel, OutboxLabelSet, OutboxRun, run_key
from .messages import OutboxMessage
from .payloads import (
    BoundPayload,
    Cause,
    OutboxDataKey,
    PayloadField,
    PayloadHead,
    PayloadsUnreadable,
    UnreadableLine,
    cause_of,
    raise_if_waiting,
)
from .query_hints import ById, NotBefore, as_datetime, by_id, disable_jit, is_after, is_null_unindexed
from .record import OutboxRecord, RecordQuerySet
from .record_states import (
    ALTERED,
    CLOSING,
    DEFERRED,
    FAILED_CODES,
    GIVEN_UP,
    KEY_DESTROYED,
    NOT_RENEWED,
    NOT_SENDABLE,
    STILL_PENDING,
    PayloadDropped,
    RecordState,
)
from .rejection import OutboxRejection, is_last_rejection, signature_of
from .rules import OutboxRule, OutboxRuleMatch, RuleAction, RuleQuerySet, RuleState
from .search import OutboxSearchProgress, OutboxTerm
from .throttle import OutboxThrottle
from .transitions import UnexpectedState
from .workspace import MAX_READ_INTERVAL, OutboxOverview, OutboxWorkspace, WorkspaceQuerySet, WorkspaceState

__all__ = [
    "ALTERED",
    "BACKFILL",
    "CLOSING",
    "DEFERRED",
    "FAILED_CODES",
    "GIVEN_UP",
    "KEY_DESTROYED",
    "MAX_READ_INTERVAL",
    "MAX_RUN_NAME",
    "NOT_RENEWED",
    "NOT_SENDABLE",
    "OUTCOME_LABELS",
    "SENDABLE",
    "STILL_PENDING",
    "UNCONFIRMED",
    "UNFINISHED",
    "ActionKind",
    "BatchQuerySet",
    "BatchState",
    "BoundPayload",
    "ById",
    "Cause",
    "Decision",
    "DeferralQuerySet",
    "GroupQuerySet",
    "GroupState",
    "IncidentKind",
    "MemberResult",
    "NotBefore",
    "OperationQuerySet",
    "OperationState",
    "OutboxAction",
    "OutboxAttempt",
    "OutboxBatch",
    "OutboxDataKey",
    "OutboxDeferral",
    "OutboxGroup",
    "OutboxImport",
    "OutboxIncident",
    "OutboxLabel",
    "OutboxLabelSet",
    "OutboxMessage",
    "OutboxOperation",
    "OutboxOperationMember",
    "OutboxOverview",
    "OutboxPressure",
    "OutboxRecord",
    "OutboxRejection",
    "OutboxRule",
    "OutboxRuleMatch",
    "OutboxRun",
    "OutboxSearchProgress",
    "OutboxTerm",
    "OutboxThrottle",
    "OutboxWorker",
    "OutboxWorkspace",
    "PayloadDropped",
    "PayloadField",
    "PayloadHead",
    "PayloadsUnreadable",
    "RecordQuerySet",
    "RecordState",
    "RuleAction",
    "RuleQuerySet",
    "RuleState",
    "UnexpectedState",
    "UnreadableLine",
    "WorkspaceQuerySet",
    "WorkspaceState",
    "as_datetime",
    "by_id",
    "cause_of",
    "describe_records",
    "disable_jit",
    "group_key",
    "import_key",
    "is_after",
    "is_last_rejection",
    "is_null_unindexed",
    "process_user",
    "raise_if_waiting",
    "run_key",
    "signature_of",
    "start_operation",
]

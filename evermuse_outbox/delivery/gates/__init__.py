"""Gates decide whether a request may be sent now: circuit breakers of workspaces and groups, and permits.

This package must not choose, seal or send batches. It changes only the rows of workspaces and groups, and the batches
and records of a group that it pauses.
Its public interface is ``workspace_circuit`` with the functions that open and close it, the functions of the group
breaker, and ``judge_failure``. It also has ``acquire_permit`` with ``call_with_permit``, and the functions that notice
a restored database.
"""

from .epochs import hold_restored, is_current, record_sealed
from .evidence import judge_failure, read_failing, was_unanswered
from .group_breaker import (
    CLEARED_FOR,
    WITHDRAWABLE,
    Suspicion,
    claim_group_probe,
    clear_suspicion,
    count_refusal,
    groups_without_probe,
    has_failed_before,
    paused_groups,
    withdraw_batch,
    withdraw_batches,
)
from .keys import (
    KEY_PATIENCE,
    has_other_key,
    key_circuit,
    key_for_read,
    keys_of_listings,
    keys_to_try,
    seconds_to_next_permit,
    sendable_now,
    usable_rate,
)
from .permits import acquire_permit, call_with_permit, is_crowded
from .verdict import Failing, FailureKind, Judgement, Verdict, failure_kind
from .workspace_breaker import (
    Circuit,
    CircuitState,
    back_off,
    block_for_retry_after,
    pause_without_credits,
    pause_workspace,
    resume_after_send,
    resume_workspace,
    workspace_circuit,
)

__all__ = [
    "CLEARED_FOR",
    "KEY_PATIENCE",
    "WITHDRAWABLE",
    "Circuit",
    "CircuitState",
    "Failing",
    "FailureKind",
    "Judgement",
    "Suspicion",
    "Verdict",
    "acquire_permit",
    "back_off",
    "block_for_retry_after",
    "call_with_permit",
    "claim_group_probe",
    "clear_suspicion",
    "count_refusal",
    "failure_kind",
    "groups_without_probe",
    "has_failed_before",
    "has_other_key",
    "hold_restored",
    "is_crowded",
    "is_current",
    "judge_failure",
    "key_circuit",
    "key_for_read",
    "keys_of_listings",
    "keys_to_try",
    "pause_without_credits",
    "pause_workspace",
    "paused_groups",
    "read_failing",
    "record_sealed",
    "resume_after_send",
    "resume_workspace",
    "seconds_to_next_permit",
    "sendable_now",
    "usable_rate",
    "was_unanswered",
    "withdraw_batch",
    "withdraw_batches",
    "workspace_circuit",
]

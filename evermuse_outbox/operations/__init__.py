"""Operations are what a person may do by hand. Each records who did it, when and why, in the transaction of the change.

This package must not make any request to Evermuse. What it makes pending or due, the workers send.
Its public interface is one function for each action. ``NotPossible`` says why an action cannot be done, and what can be
done instead. The admin and the commands call only these functions.
"""

from .batches import (
    WAITING,
    GivenUp,
    end_and_reject,
    give_up_batch,
    isolate_batch,
    retry_batch_now,
    skip_listing,
)
from .discard import discard_pending
from .edit import Version, deferred_versions, edit_record, make_version, replace_records
from .reconcile import (
    Counts,
    Reconciliation,
    compare,
    discard_at_risk,
    hold,
    last_sign_of_life,
    release,
)
from .refusal import NotPossible
from .resume import Resumed, pause_group, pause_workspace, resume_group, resume_workspace
from .retry import Retried, retry_records
from .rules import (
    InvalidRule,
    MadeRule,
    Preview,
    RuleDefinition,
    describe_rule,
    end_rule,
    make_rule,
    preview_rule,
)
from .runs import close_run
from .selection import RecordFilter, select_records

__all__ = [
    "WAITING",
    "Counts",
    "GivenUp",
    "InvalidRule",
    "MadeRule",
    "NotPossible",
    "Preview",
    "Reconciliation",
    "RecordFilter",
    "Resumed",
    "Retried",
    "RuleDefinition",
    "Version",
    "close_run",
    "compare",
    "deferred_versions",
    "describe_rule",
    "discard_at_risk",
    "discard_pending",
    "edit_record",
    "end_and_reject",
    "end_rule",
    "give_up_batch",
    "hold",
    "isolate_batch",
    "last_sign_of_life",
    "make_rule",
    "make_version",
    "pause_group",
    "pause_workspace",
    "preview_rule",
    "release",
    "replace_records",
    "resume_group",
    "resume_workspace",
    "retry_batch_now",
    "retry_records",
    "select_records",
    "skip_listing",
]

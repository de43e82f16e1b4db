"""Decide what a failed POST says: about the batch, about the API key, or nothing yet. Pure.

One batch never decides for a key, because the batch itself may be the cause: a firewall refuses a text in one record,
the API fails on a value, or the key may not write to one product. So a failure is compared with the other POSTs of the
workspace:

* If other batches passed since the batch failed before, and no other fails, the batch is suspected. It waits, and the
  others go on.
* If it failed so often that chance is excluded, it is isolated like a batch that is refused without names.
* If no batch passed since, the failure may concern all. The workspace waits, and a batch of another group is tried.
* If two groups are refused because of the key, the key is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from itertools import takewhile
from typing import NamedTuple

from ...evermuse.api import InDoubt, KeyRefused, NoCredits, Outcome, Throttled, Unavailable

ISOLATE_CHANCE = 0.01
"""A batch is isolated if a good one would fail as often with at most this probability. A wrong isolation only costs
requests."""

REJECT_CHANCE = 0.0001
"""The same for a record that was sent alone. It is rejected, so the probability is lower."""

CONFIRMED_BY_BATCHES = 3
"""Different batches that are refused in a row before the key counts as refused if there is only one group."""

LAST_RESORT_FAILURES = 6
"""Failures of a batch in a row before a single record of it is tried if there is nothing else to send. If other batches
fail, too, there is probably an outage, and twice as many are needed. If records are pending besides, they probably
wait for these batches, and four times as many are needed."""

MAX_FAILING_PARTS = 15
"""Batches that may fail one after the other while a batch is isolated. Halving 1,000 records takes ten. If more fail,
there is probably an outage."""

MAX_FAILING_SIBLINGS = 3
"""Parts of the same batch that may have failed since a batch has passed if only this batch is suspected."""


class FailureKind(Enum):
    """How a POST failed. The value is the number of failures in a row before a batch can be isolated."""

    ANSWERED = 3
    """An HTTP answer: 4xx or 5xx."""
    UNANSWERED = 6
    """A timeout, a closed connection, or a 502 or 504, by which a proxy reports the same. The network may be the cause,
    so it counts later than an answer. Evermuse may process the request late."""
    THROTTLED = 7
    """A 429. Another user of the key may be the cause."""


class Verdict(Enum):
    """What a failure says."""

    UNKNOWN = auto()
    """All batches may be concerned. The workspace waits."""
    KEY = auto()
    """The key is refused, or the workspace has no credits."""
    BATCH = auto()
    """Only this batch, or its group, is concerned. It waits alone."""
    ISOLATE = auto()
    """A record of this batch is the cause. Its records are tried part by part."""
    SAMPLE = auto()
    """Nothing else is left to try, so a single record of the batch is tried. All batches may be concerned."""

    @property
    def concerns_workspace(self) -> bool:
        """Whether the workspace must wait."""
        return self in (Verdict.UNKNOWN, Verdict.KEY, Verdict.SAMPLE)


class RecentPost(NamedTuple):
    """A POST of the attempt log. Attempts are numbered in the order in which they ended."""

    attempt: int
    batch: int
    parent: int | None
    group: tuple[str, str]
    outcome: str

    @property
    def family(self) -> int:
        """Number of the batch that this one is a part of, or of the batch itself."""
        return self.parent or self.batch

    @property
    def has_passed(self) -> bool:
        """Whether Evermuse has processed the batch, even if it refused the records."""
        return self.outcome in ("accepted", "refused", "too_large")

    @property
    def is_key_refused(self) -> bool:
        """Whether the batch failed because of the key or its credits."""
        return self.outcome in ("key_refused", "no_credits")


class Failing(NamedTuple):
    """The groups and batches that failed since a batch of the workspace has passed."""

    groups: frozenset[tuple[str, str]]
    batches: frozenset[int]

    @classmethod
    def of(cls, posts: Iterable[RecentPost]) -> Failing:
        """Return the groups and batches of ``posts``."""
        listed = tuple(posts)
        return cls(frozenset(post.group for post in listed), frozenset(post.batch for post in listed))

    @property
    def is_general(self) -> bool:
        """Whether more than one group failed, or several batches of the only group."""
        return len(self.groups) > 1 or len(self.batches) >= CONFIRMED_BY_BATCHES


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the attempt log says about a failed batch and the others of its workspace.

    Attributes:
        recent: The latest POSTs of the workspace, newest first.
        first_failure: Number of the first attempt of the batch; None if there was none. For a part, or a record that
            is sent alone, it is the first attempt of the batch that it comes from.
        last_failure: Number of the last attempt of the batch; None if there was none.
        paused_groups: The paused groups of the workspace.
        has_untried: Whether the workspace has anything else to send that has not failed yet.
    """

    recent: tuple[RecentPost, ...] = ()
    first_failure: int | None = None
    last_failure: int | None = None
    paused_groups: frozenset[tuple[str, str]] = frozenset()
    has_untried: bool = True

    def since_pass(self) -> tuple[RecentPost, ...]:
        """Return the POSTs that failed since a batch of the workspace has passed."""
        return tuple(takewhile(lambda post: not post.has_passed, self.recent))

    def newly_failing(self, batch: int) -> dict[int, RecentPost]:
        """Return the latest POST of each batch that first failed after a batch has passed, without ``batch``.

        A batch that failed before and after others passed is not among them: it is suspected itself.
        """
        failed = self.since_pass()
        before = {post.batch for post in self.recent[len(failed) :]}
        return {post.batch: post for post in failed if post.batch not in before | {batch}}

    def has_passed_since(self, attempt: int | None) -> bool:
        """Return whether a batch has passed after ``attempt``."""
        return attempt is not None and any(post.has_passed and post.attempt > attempt for post in self.recent)

    def chance(self, family: int, failures: int) -> float:
        """Return the probability that a good batch fails ``failures`` times in a row.

        It is estimated from the POSTs of other batches since its first failure (rule of succession). A batch that
        passed in the end was good, so each of its failures counts. One that has not passed may be at fault itself, so
        it counts once. Failed parts of the same family do not count, because they failed because of bad records.
        """
        since = [post for post in self.recent if post.attempt > (self.first_failure or 0)]
        passed = {post.batch for post in since if post.has_passed}
        failed = [post.batch for post in since if not post.has_passed and post.family != family]
        failures_of_good = sum(batch in passed for batch in failed)
        others_failed = failures_of_good + len(set(failed) - passed)
        return float(((others_failed + 1) / (others_failed + len(passed) + 2)) ** failures)


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed POST of a batch.

    Attributes:
        batch: Id of the batch.
        family: Id of the batch that it is a part of; otherwise its own.
        group: Its ``_type`` and ``_product_id``.
        kind: How it failed.
        is_of_key: Whether the answer concerns the API key or its credits.
        count: Failures of the batch while other batches passed, with this one.
        records: Number of its records.
        is_part: Whether it is the part that is tried of a batch that is isolated because of failures.
        is_unclear: Whether Evermuse may have the batch according to this failure: a 5xx, or no answer.
        is_in_doubt: Whether an earlier POST of the batch had no answer.
    """

    batch: int
    family: int
    group: tuple[str, str]
    kind: FailureKind
    is_of_key: bool
    count: int
    records: int
    is_part: bool
    is_unclear: bool = False
    is_in_doubt: bool = False

    @property
    def may_be_accepted(self) -> bool:
        """Whether Evermuse may have accepted the batch. A 5xx that is repeated says that it has not."""
        is_repeated = self.count >= FailureKind.ANSWERED.value
        has_answer = self.kind is not FailureKind.UNANSWERED
        return self.is_in_doubt or not has_answer or (self.is_unclear and not is_repeated)

    @property
    def max_chance(self) -> float:
        """The probability below which the batch counts as the cause."""
        return REJECT_CHANCE if self.records == 1 else ISOLATE_CHANCE


def failure_kind(outcome: Outcome) -> FailureKind | None:
    """Return how a POST failed; None if it did not fail, or if no server was reached."""
    match outcome:
        case InDoubt(status=None | 502 | 504):
            return FailureKind.UNANSWERED
        case Unavailable(status=None):
            return None
        case InDoubt() | Unavailable() | KeyRefused() | NoCredits():
            return FailureKind.ANSWERED
        case Throttled():
            return FailureKind.THROTTLED
        case _:
            return None


class Judgement(NamedTuple):
    """What a failure says, and how many POSTs of the workspace have failed since one passed, with this one."""

    verdict: Verdict
    failures: int


def judge(failure: Failure, evidence: Evidence) -> Judgement:
    """Return what a failure says, compared with the other POSTs of the workspace."""
    return Judgement(_verdict(failure, evidence), len(evidence.since_pass()) + 1)


def _verdict(failure: Failure, evidence: Evidence) -> Verdict:
    if failure.group in evidence.paused_groups:
        # A probe of the group failed again, or a batch from before the pause. If Evermuse may have accepted it, it is
        # sent again under its key. In another batch, its records could arrive twice, and late.
        is_clear = failure.kind is FailureKind.ANSWERED and not failure.may_be_accepted
        return Verdict.ISOLATE if is_clear else Verdict.BATCH
    has_other_passed = evidence.has_passed_since(evidence.first_failure)
    newly_failing = evidence.newly_failing(failure.batch)
    if failure.is_part and has_other_passed and len(newly_failing) <= MAX_FAILING_PARTS:
        # A single record is judged by its failures alone. A larger part is only searched: that rejects nothing.
        return Verdict.ISOLATE if failure.records > 1 else Verdict.BATCH
    if has_other_passed and _is_excluded_by_chance(failure, evidence):
        return Verdict.ISOLATE
    if evidence.has_passed_since(evidence.last_failure):
        return Verdict.BATCH
    if has_other_passed and _is_only_failing(failure, newly_failing):
        return Verdict.BATCH
    if _is_key_refused(failure, evidence):
        return Verdict.KEY
    return Verdict.SAMPLE if _is_last_resort(failure, evidence) else Verdict.UNKNOWN


def _is_excluded_by_chance(failure: Failure, evidence: Evidence) -> bool:
    needed = failure.kind.value
    if failure.records == 1 and not evidence.has_passed_since(evidence.last_failure):
        needed = max(needed, FailureKind.UNANSWERED.value)  # a short outage may be the cause, too
    is_often = failure.count >= needed
    return is_often and evidence.chance(failure.family, failure.count) < failure.max_chance


def _is_only_failing(failure: Failure, newly_failing: dict[int, RecentPost]) -> bool:
    """Return whether no other batch fails, apart from suspected ones and a few parts of the same batch."""
    is_same_family = all(post.family == failure.family for post in newly_failing.values())
    return is_same_family and len(newly_failing) <= MAX_FAILING_SIBLINGS


def _is_last_resort(failure: Failure, evidence: Evidence) -> bool:
    """Return whether the batch has failed often, and nothing else is left to compare it with.

    A probe prefers all other batches and groups. So if only this batch failed, nothing else could be sent: the records
    that are pending are newer versions that wait for it, or their group is paused.
    """
    if failure.records == 1:
        return False
    failed = evidence.since_pass()
    failures = 1 + sum(post.batch == failure.batch for post in failed)
    needed = LAST_RESORT_FAILURES
    if any(post.family != failure.family and post.group not in evidence.paused_groups for post in failed):
        needed *= 4 if evidence.has_untried else 2
    return failures >= needed


def _is_key_refused(failure: Failure, evidence: Evidence) -> bool:
    """Return whether two groups are refused because of the key, or several batches if only one group is known."""
    this = RecentPost(0, failure.batch, None, failure.group, "key_refused")
    refused = Failing.of([this, *(post for post in evidence.since_pass() if post.is_key_refused)])
    has_other_group = any(post.has_passed and post.group != failure.group for post in evidence.recent)
    is_confirmed = len(refused.groups) > 1 if has_other_group else refused.is_general
    return failure.is_of_key and is_confirmed

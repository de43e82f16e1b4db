"""What a failed POST says, compared with the other POSTs of the workspace. Pure: no database and no time."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from evermuse_outbox.delivery.gates.verdict import (
    CONFIRMED_BY_BATCHES,
    LAST_RESORT_FAILURES,
    MAX_FAILING_PARTS,
    Evidence,
    Failing,
    Failure,
    FailureKind,
    RecentPost,
    Verdict,
    failure_kind,
    judge,
)
from evermuse_outbox.evermuse.api import (
    Accepted,
    InDoubt,
    KeyRefused,
    NoCredits,
    Refused,
    Throttled,
    TooLarge,
    Unavailable,
)

GROUP, OTHER = ("feedback", "a"), ("feedback", "b")
BATCH = Failure(
    batch=1,
    family=1,
    group=GROUP,
    kind=FailureKind.ANSWERED,
    is_of_key=False,
    count=1,
    records=40,
    is_part=False,
)


def log(*posts):
    """Return the evidence of ``posts``, the oldest first: tuples of batch, outcome and, if not ``OTHER``, group.

    Batch 1 is the one that fails now.
    """
    rows = [
        RecentPost(number, batch, None, group[0] if group else (GROUP if batch == 1 else OTHER), outcome)
        for number, (batch, outcome, *group) in enumerate(posts, 1)
    ]
    own = [row.attempt for row in rows if row.batch == 1]
    return Evidence(
        recent=tuple(reversed(rows)),
        first_failure=own[0] if own else None,
        last_failure=own[-1] if own else None,
        has_untried=False,
    )


def passed(first, count):
    """Return POSTs of ``count`` different batches that are accepted."""
    return [(batch, "accepted") for batch in range(first, first + count)]


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        (Accepted("id", 1, 0, 0, ()), None),
        (Refused("BAD", "no", ()), None),
        (TooLarge("too large"), None),
        (Unavailable("no connection"), None),
        (Unavailable("HTTP 403 of a proxy", 403), FailureKind.ANSWERED),
        (InDoubt("HTTP 500", 500), FailureKind.ANSWERED),
        (InDoubt("timeout"), FailureKind.UNANSWERED),
        (InDoubt("HTTP 504", 504), FailureKind.UNANSWERED),
        (KeyRefused(401, "unknown key"), FailureKind.ANSWERED),
        (NoCredits("no credits"), FailureKind.ANSWERED),
        (Throttled(1, "slow down"), FailureKind.THROTTLED),
    ],
)
def test_only_an_answer_or_a_lost_answer_is_evidence(outcome, kind):
    assert failure_kind(outcome) is kind


def test_a_first_failure_says_nothing():
    assert judge(BATCH, log(*passed(2, 50))) == (Verdict.UNKNOWN, 1)


def test_a_batch_that_fails_again_after_others_passed_waits_alone():
    evidence = log((1, "in_doubt"), *passed(2, 1))
    assert judge(replace(BATCH, count=2), evidence).verdict is Verdict.BATCH


@pytest.mark.parametrize("kind", FailureKind)
def test_a_batch_is_isolated_once_it_failed_as_often_as_its_kind_demands(kind):
    evidence = log((1, "in_doubt"), *passed(2, 50))
    verdicts = [
        judge(replace(BATCH, kind=kind, count=count), evidence).verdict for count in range(2, kind.value + 1)
    ]
    assert verdicts == [Verdict.BATCH] * (kind.value - 2) + [Verdict.ISOLATE]


def test_a_batch_is_not_isolated_while_chance_explains_its_failures():
    evidence = log((1, "in_doubt"), *passed(2, 1))
    assert judge(replace(BATCH, count=3), evidence).verdict is Verdict.BATCH  # a third, three times: 4 %
    assert judge(replace(BATCH, count=5), evidence).verdict is Verdict.ISOLATE


def test_failures_of_a_batch_that_passed_later_count_as_chance():
    flaky = [(batch, outcome) for batch in range(2, 52) for outcome in ("in_doubt", "accepted")]
    assert log((1, "in_doubt"), *flaky).chance(1, 1) == pytest.approx(0.5, abs=0.02)


def test_a_batch_that_has_not_passed_counts_once_as_it_may_be_at_fault():
    evidence = log((1, "in_doubt"), *[(2, "in_doubt")] * 20, *passed(3, 18))
    assert evidence.chance(1, 1) == pytest.approx(2 / 21)


def test_failed_parts_of_the_same_batch_do_not_count_as_chance():
    parts = tuple(RecentPost(10 + part, 10 + part, 1, GROUP, "in_doubt") for part in range(8))
    accepted = RecentPost(20, 20, None, OTHER, "accepted")
    assert Evidence(recent=(accepted, *reversed(parts)), first_failure=1).chance(1, 1) == pytest.approx(1 / 3)


@pytest.mark.parametrize("percent", [30, 50, 70])
def test_an_api_that_fails_at_random_rejects_hardly_any_good_record(percent):
    """Two thousand records. Between two failures of one, another batch is retried until it passes."""
    rng, rejected = random.Random(percent), 0
    for _ in range(2_000):
        posts, count = [(1, "in_doubt")], 1
        for other in range(2, 60):
            while rng.random() * 100 < percent:
                posts.append((other, "in_doubt"))
            posts.append((other, "accepted"))
            if rng.random() * 100 >= percent:
                break  # the record is accepted
            count += 1
            verdict = judge(replace(BATCH, records=1, count=count), log(*posts)).verdict
            if verdict is Verdict.ISOLATE:
                rejected += 1
                break
            posts.append((1, "in_doubt"))
    assert rejected <= 10


def test_a_record_is_not_rejected_for_a_short_outage_in_a_quiet_workspace():
    """Others passed after its first failure, and since its second one only this record was sent."""
    evidence = log((1, "in_doubt"), *passed(2, 100), (1, "in_doubt"))
    alone = replace(BATCH, records=1)
    assert judge(replace(alone, count=3), evidence).verdict is Verdict.BATCH
    assert judge(replace(alone, count=6), evidence).verdict is Verdict.ISOLATE


def test_an_outage_after_a_failure_concerns_the_workspace():
    evidence = log((1, "in_doubt"), *passed(2, 5), (1, "in_doubt"), (20, "in_doubt"), (21, "in_doubt"))
    assert judge(replace(BATCH, count=2), evidence).verdict is Verdict.UNKNOWN


def test_in_an_outage_no_number_of_failures_isolates_a_batch():
    outage = [(batch, "in_doubt") for _ in range(10) for batch in (1, 2, 3)]
    assert judge(replace(BATCH, count=1), log(*outage[:30])).verdict is Verdict.UNKNOWN


# --- the key ------------------------------------------------------------------------------------------

OF_KEY = replace(BATCH, is_of_key=True)


def test_two_groups_that_are_refused_show_that_the_key_is_refused():
    assert judge(OF_KEY, log((2, "key_refused"))) == (Verdict.KEY, 2)


def test_one_group_that_is_refused_does_not_show_it_if_another_group_was_accepted():
    refused = [(batch, "key_refused", GROUP) for batch in range(10, 10 + CONFIRMED_BY_BATCHES)]
    assert judge(OF_KEY, log(*passed(2, 1), *refused)).verdict is Verdict.UNKNOWN


def test_several_batches_of_the_only_group_show_it():
    refused = [(batch, "key_refused", GROUP) for batch in range(10, 9 + CONFIRMED_BY_BATCHES)]
    assert judge(OF_KEY, log(*refused)).verdict is Verdict.KEY


def test_another_failure_of_another_group_does_not_show_it():
    assert judge(OF_KEY, log((2, "in_doubt"))).verdict is Verdict.UNKNOWN


def test_a_batch_that_passes_ends_the_count():
    assert judge(OF_KEY, log((2, "key_refused"), *passed(3, 1))).verdict is Verdict.UNKNOWN


# --- parts and groups ---------------------------------------------------------------------------------

PART = replace(BATCH, family=99, is_part=True)


@pytest.mark.parametrize(("records", "verdict"), [(2, Verdict.ISOLATE), (1, Verdict.BATCH)])
def test_a_part_counts_as_bad_at_its_first_failure_and_a_record_goes_on_alone(records, verdict):
    evidence = replace(log(*passed(2, 1)), first_failure=0)
    assert judge(replace(PART, records=records), evidence).verdict is verdict


def test_a_part_says_nothing_if_too_many_batches_fail():
    outage = [(batch, "in_doubt") for batch in range(10, 11 + MAX_FAILING_PARTS)]
    evidence = replace(log(*passed(2, 1), *outage), first_failure=0)
    assert judge(PART, evidence).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [(FailureKind.ANSWERED, Verdict.ISOLATE), (FailureKind.UNANSWERED, Verdict.BATCH)],
)
def test_the_probe_of_a_paused_group_never_concerns_the_workspace(kind, verdict):
    evidence = replace(log(), paused_groups=frozenset({GROUP}))
    assert judge(replace(BATCH, kind=kind), evidence).verdict is verdict


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"is_unclear": True}, Verdict.BATCH),
        ({"is_unclear": True, "count": FailureKind.ANSWERED.value}, Verdict.ISOLATE),
        ({"is_in_doubt": True}, Verdict.BATCH),
        ({"is_in_doubt": True, "count": 100}, Verdict.BATCH),
    ],
    ids=["5xx", "5xx again and again", "403 after a timeout", "many 403 after a timeout"],
)
def test_a_batch_that_evermuse_may_have_keeps_its_key_while_its_group_is_paused(changes, verdict):
    evidence = replace(log(), paused_groups=frozenset({GROUP}))
    assert judge(replace(BATCH, **changes), evidence).verdict is verdict


# --- nothing else to send -----------------------------------------------------------------------------


def failures_before_sample(*others, **evidence):
    """Return how often the batch fails before one of its records is tried. ``others`` fail, too."""
    posts = []
    for failures in range(1, 100):
        if judge(BATCH, replace(log(*posts), **evidence)).verdict is Verdict.SAMPLE:
            return failures
        posts += [(1, "in_doubt"), *others]
    return None


def test_a_batch_without_other_traffic_is_searched_even_if_newer_versions_are_pending():
    assert failures_before_sample() == LAST_RESORT_FAILURES
    assert failures_before_sample(has_untried=True) == LAST_RESORT_FAILURES


def test_more_failures_are_needed_if_other_batches_fail_too():
    assert failures_before_sample((2, "in_doubt")) == 2 * LAST_RESORT_FAILURES
    assert failures_before_sample((2, "in_doubt"), has_untried=True) == 4 * LAST_RESORT_FAILURES


def test_the_probe_of_a_paused_group_is_no_sign_of_an_outage():
    paused = frozenset({OTHER})
    assert failures_before_sample((2, "in_doubt"), paused_groups=paused) == LAST_RESORT_FAILURES


def test_a_single_record_without_other_traffic_waits():
    evidence = log(*[(1, "in_doubt")] * 50)
    assert judge(replace(BATCH, records=1), evidence).verdict is Verdict.UNKNOWN


def test_failing_groups_are_those_since_the_last_pass():
    evidence = log((5, "in_doubt"), *passed(6, 1), (1, "in_doubt"))
    assert Failing.of(evidence.since_pass()) == (frozenset({GROUP}), frozenset({1}))

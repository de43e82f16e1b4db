"""The evidence is read from the attempt log: of this workspace, of POSTs only, and cheaply."""

from __future__ import annotations

import pytest

from evermuse_outbox.delivery.context import Attempt
from evermuse_outbox.delivery.gates import Verdict, evidence, judge_failure, read_failing
from evermuse_outbox.delivery.loop import seal_next
from evermuse_outbox.evermuse.api import Accepted, InDoubt, KeyRefused, Unavailable
from evermuse_outbox.models import GroupState, OutboxAttempt, OutboxGroup, group_key
from tests.records import enqueue

FAILURE = InDoubt("HTTP 500", 500)


def seal(context, alias, product):
    """Seal one record of a product and return its batch."""
    enqueue(alias, product, _product_id=product)
    return seal_next(context).batch


def save_attempt(context, batch, outcome, call="ingest"):
    """Log a call for the batch."""
    Attempt.of(call, context.clock.now(), outcome, None).save(context, batch)


def accepted():
    return Accepted("id", 1, 0, 0, ())


def test_a_failure_is_compared_with_the_posts_of_other_batches(context, alias):
    bad, good = seal(context, alias, "a"), seal(context, alias, "b")
    assert judge_failure(context, bad, FAILURE).verdict is Verdict.UNKNOWN
    save_attempt(context, bad, FAILURE)
    save_attempt(context, good, accepted())
    assert judge_failure(context, bad, FAILURE) == (Verdict.BATCH, 1)


def test_an_outcome_that_is_no_failure_reads_nothing(context, alias, django_assert_num_queries):
    batch = seal(context, alias, "a")
    with django_assert_num_queries(0, using=alias):
        assert judge_failure(context, batch, accepted()) is None
        assert judge_failure(context, batch, Unavailable("no connection")) is None


def test_polls_and_other_workspaces_are_no_evidence(context, alias):
    bad, good = seal(context, alias, "a"), seal(context, alias, "b")
    save_attempt(context, bad, FAILURE)
    save_attempt(context, good, accepted(), call="status")
    save_attempt(context, good, accepted())
    OutboxAttempt.objects.using(alias).filter(call="ingest", batch=good.pk).update(workspace="another")
    assert judge_failure(context, bad, FAILURE).verdict is Verdict.UNKNOWN


def test_two_refused_groups_confirm_that_the_key_is_refused(context, alias):
    first, second = seal(context, alias, "a"), seal(context, alias, "b")
    save_attempt(context, first, KeyRefused(401, "unknown key"))
    assert read_failing(context).groups == {(first.type, "a")}
    assert judge_failure(context, second, KeyRefused(401, "unknown key")) == (Verdict.KEY, 2)


def test_only_the_latest_posts_are_read(context, alias):
    bad, good = seal(context, alias, "a"), seal(context, alias, "b")
    save_attempt(context, good, accepted())
    for _ in range(evidence.RECENT_POSTS):
        save_attempt(context, bad, FAILURE)
    assert read_failing(context).batches == {bad.pk}
    assert judge_failure(context, bad, FAILURE).failures == evidence.RECENT_POSTS + 1


def test_the_log_is_searched_back_to_a_limit(context, alias, monkeypatch):
    bad = seal(context, alias, "a")
    save_attempt(context, bad, FAILURE)
    for _ in range(3):
        save_attempt(context, bad, FAILURE, call="status")
    monkeypatch.setattr(evidence, "MAX_ATTEMPTS", 4)
    assert read_failing(context).batches == {bad.pk}
    monkeypatch.setattr(evidence, "MAX_ATTEMPTS", 3)
    assert not read_failing(context).batches


@pytest.mark.parametrize("is_current", [True, False])
def test_a_group_that_another_contract_paused_is_not_paused(context, alias, is_current):
    batch = seal(context, alias, "a")
    OutboxGroup.objects.using(alias).create(
        scope=group_key(batch.workspace, batch.type, batch.product_id),
        workspace=batch.workspace,
        type=batch.type,
        product_id=batch.product_id,
        since=context.clock.now(),
        blocked_until=context.clock.now(),
        state=GroupState.PAUSED,
        contract=batch.contract if is_current else "another",
    )
    expected = Verdict.BATCH if is_current else Verdict.UNKNOWN
    assert judge_failure(context, batch, FAILURE).verdict is expected

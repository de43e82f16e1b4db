"""What ends the wait of a batch by hand, in each of its states, and that it is recorded."""

from __future__ import annotations

from datetime import timedelta

import pytest

from evermuse_outbox import outbox
from evermuse_outbox.delivery.loop import poll, relay
from evermuse_outbox.models import OutboxAction, OutboxBatch, OutboxRejection
from evermuse_outbox.operations import (
    NotPossible,
    give_up_batch,
    isolate_batch,
    retry_batch_now,
    retry_records,
)
from evermuse_outbox.sandbox import Fault
from tests.delivery.helpers import batches, deliver, posts, sent_keys, state_of
from tests.records import record
from tests.rows import batch_in

pytestmark = pytest.mark.usefixtures("only_legal_changes")


def actions(alias):
    return [
        (row.kind, row.by, row.target, row.reason) for row in OutboxAction.objects.using(alias).order_by("pk")
    ]


def in_doubt(context, alias, sandbox, count=3):
    """Return the records of a batch that waits in doubt, and the batch."""
    records = [outbox.enqueue(record(number), using=alias) for number in range(count)]
    sandbox.fail_next(Fault.drop_after())
    relay(context, 60)
    (batch,) = batches(alias)
    return records, batch


@pytest.mark.parametrize("state", ["sealed", "in_doubt"])
def test_a_waiting_batch_is_sent_now(context, alias, sandbox, clock, state):
    batch = batch_in(alias, state, due_at=clock.at + timedelta(hours=5))
    assert retry_batch_now(alias, batch.pk, by="ada", reason="now", clock=context.clock) == "It is sent next."
    batch.refresh_from_db()
    assert (batch.due_at, batch.state) == (clock.at, state)
    assert actions(alias) == [("retry_now", "ada", f"batch #{batch.pk}", "now")]


def test_an_accepted_batch_is_polled_now(context, alias, sandbox, clock):
    outbox.enqueue(record(1), using=alias)
    relay(context, 60)
    (batch,) = batches(alias)
    OutboxBatch.objects.using(alias).update(next_poll_at=clock.at + timedelta(days=5))
    assert poll(context, 60) == 0
    assert retry_batch_now(alias, batch.pk, clock=context.clock) == "It is polled next."
    clock.move(1)
    assert poll(context, 60) == 1


@pytest.mark.parametrize("state", ["sending", "complete", "refused", "split", "failed", "withdrawn"])
def test_a_batch_that_waits_for_nothing_is_left_alone(context, alias, state):
    batch = batch_in(alias, state)
    for operation in (
        lambda: retry_batch_now(alias, batch.pk),
        lambda: isolate_batch(context, batch.pk),
        lambda: give_up_batch(alias, batch.pk),
    ):
        with pytest.raises(NotPossible, match=f"Batch #{batch.pk} is"):
            operation()
    assert actions(alias) == []
    assert state_of(batch) == state


def test_a_batch_is_isolated_by_hand_and_its_good_records_are_delivered(context, alias, sandbox, clock):
    records = [outbox.enqueue(record(number), using=alias) for number in range(4)]
    sandbox.fail_next(Fault(status=503))
    relay(context, 60)
    (batch,) = batches(alias)
    isolate_batch(context, batch.pk, by="ada", reason="one of them is bad")
    assert state_of(batch) in ("isolating", "split")
    assert actions(alias) == [("isolate", "ada", f"batch #{batch.pk}", "one of them is bad")]
    clock.move(600)
    deliver(context, clock)
    assert [state_of(row) for row in records] == ["delivered"] * 4
    assert state_of(batch) == "split"


def test_a_newer_version_waits_for_a_batch_in_doubt_that_is_isolated_by_hand(context, alias, sandbox, clock):
    records, batch = in_doubt(context, alias, sandbox)
    newer = outbox.enqueue(record(0, data={"text": "newer"}), using=alias)
    isolate_batch(context, batch.pk)
    assert state_of(records[0]) == "in_flight"
    deliver(context, clock)
    assert [state_of(row) for row in (*records, newer)] == ["delivered"] * 4
    assert sandbox.violations == []


def test_a_single_record_is_not_isolated(context, alias, sandbox):
    outbox.enqueue(record(1), using=alias)
    sandbox.fail_next(Fault(status=503))
    relay(context, 60)
    (batch,) = batches(alias)
    with pytest.raises(NotPossible, match=f"outbox_batch {batch.pk} --give-up"):
        isolate_batch(context, batch.pk)


def test_records_of_a_batch_that_is_given_up_are_rejected_and_may_be_retried(context, alias, sandbox, clock):
    records, batch = in_doubt(context, alias, sandbox)
    newer = outbox.enqueue(record(1, data={"version": 2}), using=alias)
    result = give_up_batch(alias, batch.pk, by="ada", reason="sent by hand", clock=context.clock)
    assert (result.records, result.may_be_sent, result.batches) == (3, True, (batch.pk,))
    assert state_of(batch) == "withdrawn"
    assert [state_of(row) for row in records] == ["rejected"] * 3
    rejection = OutboxRejection.objects.using(alias).first()
    assert rejection.code == "GIVEN_UP"
    assert "sent by hand" in rejection.message
    assert actions(alias) == [("give_up", "ada", f"batch #{batch.pk}", "sent by hand")]
    clock.move(3600)
    deliver(context, clock)
    assert state_of(newer) == "delivered"
    # Evermuse may have the older version, so it must not follow the newer one.
    assert retry_records(alias, [row.pk for row in records]).refused == {records[1].pk: newer.pk}


def test_an_accepted_batch_is_given_up(context, alias, sandbox, clock):
    row = outbox.enqueue(record(1), using=alias)
    relay(context, 60)
    (batch,) = batches(alias)
    assert give_up_batch(alias, batch.pk, clock=context.clock).may_be_sent
    batch.refresh_from_db()
    assert (batch.state, batch.next_poll_at) == ("failed", None)
    assert state_of(row) == "rejected"


def test_the_attachments_of_a_complete_batch_are_not_followed_any_more(context, alias, clock):
    batch = batch_in(alias, "complete", next_poll_at=clock.at + timedelta(seconds=60))
    assert give_up_batch(alias, batch.pk, clock=context.clock).records == 0
    batch.refresh_from_db()
    assert (batch.state, batch.next_poll_at) == ("complete", None)
    assert [kind for kind, *_ in actions(alias)] == ["give_up"]


def test_an_isolating_batch_is_given_up_with_its_part(context, alias, sandbox, clock):
    records = [outbox.enqueue(record(number), using=alias) for number in range(4)]
    sandbox.fail_next(Fault(status=503))
    relay(context, 60)
    (batch,) = batches(alias)
    isolate_batch(context, batch.pk)
    part = batches(alias)[-1]
    OutboxBatch.objects.using(alias).filter(pk=part.pk).update(due_at=clock.at + timedelta(hours=5))
    if state_of(batch) == "isolating":
        retry_batch_now(alias, batch.pk, clock=context.clock)
        part.refresh_from_db()
        assert part.due_at == clock.at
        assert give_up_batch(alias, batch.pk, clock=context.clock).batches == (batch.pk, part.pk)
        assert [state_of(row) for row in records] == ["rejected"] * 4


def test_a_batch_in_doubt_is_sent_again_without_the_listing(context, alias, sandbox, clock):
    records, batch = in_doubt(context, alias, sandbox)
    clock.move(context.settings.idempotency_key_ttl + 3600)
    sandbox.fail_next(Fault(status=500, on="GET"), count=None)
    for _ in range(3):
        relay(context, 60)
        clock.move(600)
    assert len(posts(sandbox)) == 1
    retry_batch_now(alias, batch.pk, without_listing=True, clock=context.clock)
    clock.move(600)
    relay(context, 60)
    assert len(set(sent_keys(sandbox))) == 1 < len(posts(sandbox))


def test_the_listing_is_only_skipped_for_a_batch_in_doubt(alias):
    batch = batch_in(alias, "sealed")
    with pytest.raises(NotPossible, match="not in doubt"):
        retry_batch_now(alias, batch.pk, without_listing=True)
    assert actions(alias) == []


def test_an_unknown_batch(alias):
    with pytest.raises(NotPossible, match="No batch #99 in the database"):
        retry_batch_now(alias, 99)

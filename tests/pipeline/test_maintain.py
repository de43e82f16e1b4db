"""Rescue and purge on every database."""

from __future__ import annotations

import pytest

from evermuse_outbox import outbox
from evermuse_outbox.models import BatchState, OutboxAttempt, OutboxBatch, OutboxRecord, OutboxRejection
from evermuse_outbox.pipeline.maintain import rescue
from evermuse_outbox.pipeline.purge import purge
from evermuse_outbox.pipeline.relay import relay, track
from evermuse_outbox.pipeline.seal import seal_next
from tests.pipeline.test_settle import spoil
from tests.records import record

DAY = 86_400


def count(model, alias):
    return model._base_manager.using(alias).count()


def test_only_an_expired_lease_is_rescued(channel, alias, clock):
    outbox.enqueue(record(1), using=alias)
    seal_next(channel)
    clock.move(channel.settings.lease - 1)
    assert rescue(alias, channel.clock) == 0
    clock.move(2)
    assert rescue(alias, channel.clock) == 1
    assert rescue(alias, channel.clock) == 0
    batch = OutboxBatch.objects.using(alias).get()
    assert (batch.state, batch.in_doubt, batch.lease_token) == (BatchState.IN_DOUBT, True, None)
    assert OutboxAttempt.objects.using(alias).get().outcome == "lost"


@pytest.fixture
def delivered(channel, alias, sandbox, clock):
    """Three records delivered, one of four rejected, one superseded, one pending."""
    rows = [outbox.enqueue(record(n), using=alias) for n in range(4)]
    outbox.enqueue(record(0, data={"version": 2}), using=alias)
    spoil(alias, rows[3])
    relay(channel, 60)
    clock.move(5)
    track(channel, 60)
    outbox.enqueue(record(9), using=alias)
    OutboxRecord.rows.using(alias).update(enqueued_at=clock.now())


def states(alias):
    return sorted(OutboxRecord.objects.using(alias).values_list("state", flat=True))


def test_nothing_is_purged_before_its_time(channel, alias, clock, delivered):
    clock.move(13 * DAY)
    assert purge(alias, channel.clock, 14) == 0
    assert states(alias) == ["delivered"] * 3 + ["pending", "rejected", "superseded"]


def test_what_is_over_goes_and_failures_stay(channel, alias, clock, delivered):
    clock.move(15 * DAY)
    assert purge(alias, channel.clock, 14) == 4
    assert states(alias) == ["pending", "rejected"]
    assert (count(OutboxBatch, alias), count(OutboxRejection, alias)) == (1, 1)
    # Once the failure is settled by a person, its batch goes as well.
    OutboxRecord.rows.using(alias).rejected().update(closed_as="discarded")
    assert purge(alias, channel.clock, 14) == 1
    assert states(alias) == ["pending"]
    assert (count(OutboxBatch, alias), count(OutboxAttempt, alias), count(OutboxRejection, alias)) == (
        0,
        0,
        0,
    )


def test_a_delivered_version_stays_while_an_older_one_may_still_be_retried(channel, alias, sandbox, clock):
    from evermuse_outbox.pipeline.retry import retry

    older = outbox.enqueue(record(1, data={"version": 1}), using=alias)
    spoil(alias, older)
    relay(channel, 60)
    newer = outbox.enqueue(record(1, data={"version": 2}), using=alias)
    relay(channel, 60)
    clock.move(5)
    track(channel, 60)
    assert states(alias) == ["delivered", "rejected"]
    clock.move(20 * DAY)
    purge(alias, channel.clock, 14)
    assert retry(alias, [older.pk]).refused == {older.pk: newer.pk}
    assert states(alias) == ["delivered", "rejected"]


def test_a_delivered_version_stays_while_an_older_one_waits_in_another_group(channel, alias, sandbox, clock):
    from evermuse_outbox.pipeline.send import send_next

    outbox.enqueue(record(1, _product_id="b", data={"version": 1}), using=alias)
    outbox.enqueue(record(1, _product_id="a", data={"version": 2}), using=alias)
    send_next(channel)
    clock.move(5)
    track(channel, 60)
    assert states(alias) == ["delivered", "pending"]
    clock.move(20 * DAY)  # a key that was refused all the time, for instance
    purge(alias, channel.clock, 14)
    relay(channel, 60)
    assert [stored.record["data"] for stored in sandbox.records()] == [{"version": 2}]
    assert states(alias) == ["delivered", "superseded"]


def test_batches_that_cannot_go_do_not_hide_those_that_can(channel, alias, sandbox, clock, monkeypatch):
    for number in range(12):
        row = outbox.enqueue(record(number, _product_id=f"a{number:02}"), using=alias)
        spoil(alias, row)
    relay(channel, 600)
    outbox.enqueue(record(99, _product_id="z"), using=alias)
    relay(channel, 60)
    clock.move(5)
    track(channel, 60)
    clock.move(20 * DAY)
    assert purge(alias, channel.clock, 14) == 1
    assert states(alias) == ["rejected"] * 12

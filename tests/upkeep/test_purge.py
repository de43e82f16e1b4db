"""Purge on every database: what goes, what stays, how far a run comes, and that it does not look at all of it again."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from datetime import timedelta

import pytest
from django.db import connections

from evermuse_outbox import outbox
from evermuse_outbox.delivery.loop import poll, relay
from evermuse_outbox.models import OutboxAttempt, OutboxBatch, OutboxRecord, OutboxRejection
from evermuse_outbox.upkeep import purge as purging
from evermuse_outbox.upkeep.purge import Walks, purge, purge_on
from tests.insight.test_status import batch_in, record_in
from tests.records import make_invalid, record

DAY = 86_400


def count(model, alias):
    return model._base_manager.using(alias).count()


@pytest.fixture
def delivered(context, alias, sandbox, clock):
    """Three records delivered, one of four rejected, one superseded, one pending."""
    rows = [outbox.enqueue(record(n), using=alias) for n in range(4)]
    outbox.enqueue(record(0, data={"version": 2}), using=alias)
    make_invalid(rows[3])
    relay(context, 60)
    clock.move(5)
    poll(context, 60)
    outbox.enqueue(record(9), using=alias)
    OutboxRecord.rows.using(alias).update(enqueued_at=clock.now())


def states(alias):
    return sorted(OutboxRecord.objects.using(alias).values_list("state", flat=True))


def test_nothing_is_purged_before_its_time(context, alias, clock, delivered):
    clock.move(13 * DAY)
    assert purge(alias, context.clock, 14) == 0
    assert states(alias) == ["delivered"] * 3 + ["pending", "rejected", "superseded"]


def test_what_is_over_goes_and_failures_stay(context, alias, clock, delivered):
    clock.move(15 * DAY)
    assert purge(alias, context.clock, 14) == 4
    assert states(alias) == ["pending", "rejected"]
    assert (count(OutboxBatch, alias), count(OutboxRejection, alias)) == (1, 1)
    # Once the failure is settled by a person, its batch goes as well.
    OutboxRecord.rows.using(alias).rejected().update(closed_as="discarded")
    assert purge(alias, context.clock, 14) == 1
    assert states(alias) == ["pending"]
    assert (count(OutboxBatch, alias), count(OutboxAttempt, alias), count(OutboxRejection, alias)) == (
        0,
        0,
        0,
    )


def test_a_delivered_version_stays_while_an_older_one_may_still_be_retried(context, alias, sandbox, clock):
    from evermuse_outbox.operations import retry_records

    older = outbox.enqueue(record(1, data={"version": 1}), using=alias)
    make_invalid(older)
    relay(context, 60)
    newer = outbox.enqueue(record(1, data={"version": 2}), using=alias)
    relay(context, 60)
    clock.move(5)
    poll(context, 60)
    assert states(alias) == ["delivered", "rejected"]
    clock.move(20 * DAY)
    purge(alias, context.clock, 14)
    assert retry_records(alias, [older.pk]).refused == {older.pk: newer.pk}
    assert states(alias) == ["delivered", "rejected"]


def test_a_delivered_version_stays_while_an_older_one_waits_in_another_group(context, alias, sandbox, clock):
    from evermuse_outbox.delivery.loop import send_next

    outbox.enqueue(record(1, _product_id="b", data={"version": 1}), using=alias)
    outbox.enqueue(record(1, _product_id="a", data={"version": 2}), using=alias)
    send_next(context)
    clock.move(5)
    poll(context, 60)
    assert states(alias) == ["delivered", "pending"]
    clock.move(20 * DAY)  # a key that was refused all the time, for instance
    purge(alias, context.clock, 14)
    relay(context, 60)
    assert [stored.record["data"] for stored in sandbox.records()] == [{"version": 2}]
    assert states(alias) == ["delivered", "superseded"]


def test_batches_that_cannot_go_do_not_hide_those_that_can(context, alias, sandbox, clock, monkeypatch):
    for number in range(12):
        row = outbox.enqueue(record(number, _product_id=f"a{number:02}"), using=alias)
        make_invalid(row)
    relay(context, 600)
    outbox.enqueue(record(99, _product_id="z"), using=alias)
    relay(context, 60)
    clock.move(5)
    poll(context, 60)
    clock.move(20 * DAY)
    assert purge(alias, context.clock, 14) == 1
    assert states(alias) == ["rejected"] * 12


# --- run by run ---------------------------------------------------------------------------------------


def over(context, state="complete", *states, days=20):
    """A batch that ended so many days ago, with a record in each of these states."""
    ended = context.clock.now() - timedelta(days=days)
    told = {"remote_id": "r", "finished_at": ended, "record_count": len(states)}
    batch = batch_in(context.using, state, **told)
    return batch, [record_in(context.using, each, batch) for each in states]


def ticking(context):
    """Its clock, on which a second passes at each look at the time that has passed."""
    seconds = itertools.count()
    return dataclasses.replace(context.clock, monotonic=lambda: float(next(seconds)))


def test_a_run_ends_with_its_time_and_the_next_one_goes_on(context, alias, monkeypatch):
    monkeypatch.setattr(purging, "CHUNK", 2)
    for days in (30, 25, 20):
        over(context, "complete", "delivered", "delivered", days=days)
    walks = Walks()
    left = []
    while gone := purge(alias, ticking(context), 14, seconds=0, walks=walks):
        assert gone == 2
        left.append(count(OutboxBatch, alias))
    assert left == [2, 1, 0]


def test_the_oldest_go_first(context, alias, monkeypatch):
    monkeypatch.setattr(purging, "CHUNK", 1)
    young, _ = over(context, "complete", "delivered", days=15)
    over(context, "complete", "delivered", days=30)
    assert purge(alias, ticking(context), 14, seconds=0) == 1
    assert OutboxBatch.objects.using(alias).get() == young


def test_small_batches_go_together_and_large_ones_alone(monkeypatch):
    monkeypatch.setattr(purging, "CHUNK", 10)
    page = [purging.OldBatch(n, None, size, 1, 1) for n, size in enumerate((3, 7, 1, 25, 4, 4))]
    assert [[batch.record_count for batch in chunk] for chunk in purging._chunks(page)] == [
        [3, 7],
        [1],
        [25],
        [4, 4],
    ]


@pytest.fixture
def looked_at(monkeypatch):
    """The sizes of the pages that were read."""
    pages = []
    read = purging._page_of_batches
    monkeypatch.setattr(
        purging, "_page_of_batches", lambda *given: pages.append(page := read(*given)) or page
    )
    return pages


def kept(context, number):
    return [over(context, "split", "rejected", days=30 + n)[1][0] for n in range(number)]


def test_many_that_are_kept_are_passed_over_until_an_hour_is_gone(
    context, alias, clock, monkeypatch, looked_at
):
    monkeypatch.setattr(purging, "FEW", 2)
    rejected = kept(context, 3)
    walks = Walks()
    assert purge(alias, context.clock, 14, walks=walks) == 0
    OutboxRecord.rows.using(alias).filter(pk=rejected[0].pk).discard()
    over(context, "complete", "delivered", days=20)
    assert purge(alias, context.clock, 14, walks=walks) == 1  # the one that came since
    clock.move(3_601)
    assert purge(alias, context.clock, 14, walks=walks) == 1  # and the one that may go now
    assert [len(page) for page in looked_at] == [3, 1, 3]


def test_few_that_are_kept_are_looked_at_each_time(context, alias, monkeypatch, looked_at):
    monkeypatch.setattr(purging, "FEW", 3)
    (rejected, *_) = kept(context, 3)
    walks = Walks()
    assert purge(alias, context.clock, 14, walks=walks) == 0
    OutboxRecord.rows.using(alias).filter(pk=rejected.pk).discard()
    assert purge(alias, context.clock, 14, walks=walks) == 1
    assert [len(page) for page in looked_at] == [3, 3]


def test_pages_follow_one_another_also_where_all_ended_at_once(context, alias, monkeypatch, looked_at):
    monkeypatch.setattr(purging, "PAGE", 2)
    for _ in range(5):
        over(context, "complete", "delivered", days=20)
    assert purge(alias, context.clock, 14) == 5
    assert [len(page) for page in looked_at] == [2, 2, 1]


def test_set_aside_records_that_are_needed_do_not_hide_the_others(context, alias, clock, monkeypatch):
    monkeypatch.setattr(purging, "CHUNK", 2)
    rejected = [record_in(alias, "rejected") for _ in range(4)]
    needed = [record_in(alias, "superseded") for _ in range(4)]
    free = record_in(alias, "superseded")
    for row, older in zip(needed, rejected, strict=True):
        OutboxRecord.rows.using(alias).filter(pk=row.pk).update(identity=older.identity)
    OutboxRecord.rows.using(alias).update(enqueued_at=clock.now() - timedelta(days=20))
    assert purge(alias, context.clock, 14) == 1
    assert not OutboxRecord.rows.using(alias).filter(pk=free.pk).exists()


def test_listing_calls_go_by_age_and_those_of_a_batch_with_it(context, alias, clock, monkeypatch):
    monkeypatch.setattr(purging, "CHUNK", 2)
    batch, _ = over(context, "split", "rejected")
    for days, whose in ((30, batch), (30, None), (30, batch), (20, None), (13, None)):
        started = clock.now() - timedelta(days=days)
        told = {"batch": whose, "workspace": "default", "call": "listing", "outcome": "read"}
        OutboxAttempt.objects.using(alias).create(**told, started_at=started)
    purge(alias, context.clock, 14)
    left = OutboxAttempt.objects.using(alias).order_by("pk")
    assert [attempt.batch_id for attempt in left] == [batch.pk, batch.pk, None]


def test_a_run_rests_before_the_next_one(context, alias):
    walks, clock = Walks(), ticking(context)
    over(context, "complete", "delivered")
    assert purge_on(alias, clock, 14, walks) == 1
    over(context, "complete", "delivered")
    runs = [purge_on(alias, clock, 14, walks) for _ in range(20)]
    assert runs[0] == 0
    assert sum(runs) == 1


def test_one_run_at_a_time_in_a_process_and_all_from_the_start_after_trouble(context, alias, monkeypatch):
    walks = Walks()
    over(context, "complete", "delivered")
    assert walks.may_run(0.0)
    assert purge_on(alias, context.clock, 14, walks) == 0
    walks.ran(0.0, 0.0)

    def fails(*_):
        raise RuntimeError

    with monkeypatch.context() as patched, pytest.raises(RuntimeError):
        patched.setattr(purging, "_delete_batches", fails)
        purge_on(alias, context.clock, 14, walks)
    assert purge_on(alias, context.clock, 14, walks) == 1


@pytest.mark.commits
def test_two_purgers_do_not_wait_for_each_other(context, alias, monkeypatch):
    if not connections[alias].features.has_select_for_update_skip_locked:
        pytest.skip("SQLite has one writer at a time")
    over(context, "complete", "delivered")
    has_locked, may_go_on = threading.Event(), threading.Event()
    read, first, was_let_on = purging._old, [], []

    def slowly(rows):
        if threading.current_thread() is other:
            has_locked.set()
            was_let_on.append(may_go_on.wait(10))
        return read(rows)

    def purge_slowly():
        first.append(purge(alias, context.clock, 14))
        connections[alias].close()

    monkeypatch.setattr(purging, "_old", slowly)
    other = threading.Thread(target=purge_slowly)
    other.start()
    assert has_locked.wait(30)
    assert purge(alias, context.clock, 14) == 0
    may_go_on.set()
    other.join(30)
    assert first == [1]
    assert all(was_let_on)

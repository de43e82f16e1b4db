"""Purge on every database: what it deletes, what it keeps, and how one run continues the last one."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from datetime import timedelta

import pytest
from django.db import connections

from evermuse_outbox import outbox
from evermuse_outbox.conf import Retention
from evermuse_outbox.delivery.loop import poll, relay
from evermuse_outbox.models import OutboxAttempt, OutboxBatch, OutboxRecord, OutboxRejection
from evermuse_outbox.upkeep import PurgeProgress, purge_old_rows, purge_one_run, purge_progress
from evermuse_outbox.upkeep import purge as purging
from tests.records import enqueue, make_invalid, record
from tests.rows import batch_in, record_in

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


def test_nothing_is_purged_before_the_retention(context, alias, clock, delivered):
    clock.move(13 * DAY)
    assert purge_old_rows(alias, context.clock, 14) == 0
    assert states(alias) == ["delivered"] * 3 + ["pending", "rejected", "superseded"]


def test_finished_records_are_deleted_and_rejected_ones_stay(context, alias, clock, delivered):
    clock.move(15 * DAY)
    assert purge_old_rows(alias, context.clock, 14) == 4
    assert states(alias) == ["pending", "rejected"]
    assert (count(OutboxBatch, alias), count(OutboxRejection, alias)) == (1, 1)
    # Once an operator has discarded the record, its batch is deleted, too.
    OutboxRecord.rows.using(alias).rejected().update(closed_as="discarded")
    assert purge_old_rows(alias, context.clock, 14) == 1
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
    purge_old_rows(alias, context.clock, 14)
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
    clock.move(20 * DAY)  # for instance, the API key was refused all the time
    purge_old_rows(alias, context.clock, 14)
    relay(context, 60)
    assert [stored.record["data"] for stored in sandbox.records()] == [{"version": 2}]
    assert states(alias) == ["delivered", "superseded"]


def test_kept_batches_do_not_hide_deletable_ones(context, alias, sandbox, clock, monkeypatch):
    for number in range(12):
        row = outbox.enqueue(record(number, _product_id=f"a{number:02}"), using=alias)
        make_invalid(row)
    relay(context, 600)
    outbox.enqueue(record(99, _product_id="z"), using=alias)
    relay(context, 60)
    clock.move(5)
    poll(context, 60)
    clock.move(20 * DAY)
    assert purge_old_rows(alias, context.clock, 14) == 1
    assert states(alias) == ["rejected"] * 12


# --- run by run ---------------------------------------------------------------------------------------


def finished(context, state="complete", *states, days=20):
    """Add a batch that ended ``days`` ago, with a record in each of these states."""
    ended = context.clock.now() - timedelta(days=days)
    columns = {"remote_id": "r", "finished_at": ended, "record_count": len(states)}
    batch = batch_in(context.using, state, **columns)
    return batch, [record_in(context.using, each, batch) for each in states]


def ticking(context):
    """Return the clock of the context, on which each reading of the time takes a second."""
    seconds = itertools.count()
    return dataclasses.replace(context.clock, monotonic=lambda: float(next(seconds)))


def test_a_run_ends_in_time_and_the_next_run_continues(context, alias, monkeypatch):
    monkeypatch.setattr(purging, "RECORDS_PER_TRANSACTION", 2)
    for days in (30, 25, 20):
        finished(context, "complete", "delivered", "delivered", days=days)
    progress = PurgeProgress()
    left = []
    while deleted := purge_old_rows(alias, ticking(context), 14, seconds=0, progress=progress):
        assert deleted == 2
        left.append(count(OutboxBatch, alias))
    assert left == [2, 1, 0]


def test_the_oldest_batches_are_deleted_first(context, alias, monkeypatch):
    monkeypatch.setattr(purging, "RECORDS_PER_TRANSACTION", 1)
    young, _ = finished(context, "complete", "delivered", days=15)
    finished(context, "complete", "delivered", days=30)
    assert purge_old_rows(alias, ticking(context), 14, seconds=0) == 1
    assert OutboxBatch.objects.using(alias).get() == young


def test_small_batches_share_a_transaction_and_large_ones_do_not(monkeypatch):
    monkeypatch.setattr(purging, "RECORDS_PER_TRANSACTION", 10)
    page = [purging.OldBatch(n, None, size, 1, 1) for n, size in enumerate((3, 7, 1, 25, 4, 4))]
    assert [[batch.record_count for batch in chunk] for chunk in purging._chunks(page)] == [
        [3, 7],
        [1],
        [25],
        [4, 4],
    ]


@pytest.fixture
def pages_read(monkeypatch):
    """Return the list of pages of batches that the purge reads."""
    pages = []
    read = purging._read_batches
    monkeypatch.setattr(purging, "_read_batches", lambda *given: pages.append(page := read(*given)) or page)
    return pages


def kept(context, number):
    """Add batches that are kept, and return the rejected record of each."""
    return [finished(context, "split", "rejected", days=30 + n)[1][0] for n in range(number)]


def test_many_kept_batches_are_skipped_for_an_hour(context, alias, clock, monkeypatch, pages_read):
    monkeypatch.setattr(purge_progress, "MAX_RESCANNED", 2)
    rejected = kept(context, 3)
    progress = PurgeProgress()
    assert purge_old_rows(alias, context.clock, 14, progress=progress) == 0
    OutboxRecord.rows.using(alias).filter(pk=rejected[0].pk).discard()
    finished(context, "complete", "delivered", days=20)
    assert purge_old_rows(alias, context.clock, 14, progress=progress) == 1  # the batch that ended since
    clock.move(3_601)
    assert purge_old_rows(alias, context.clock, 14, progress=progress) == 1  # the discarded record
    assert [len(page) for page in pages_read] == [3, 1, 3]


def test_few_kept_batches_are_examined_each_time(context, alias, monkeypatch, pages_read):
    monkeypatch.setattr(purge_progress, "MAX_RESCANNED", 3)
    (rejected, *_) = kept(context, 3)
    progress = PurgeProgress()
    assert purge_old_rows(alias, context.clock, 14, progress=progress) == 0
    OutboxRecord.rows.using(alias).filter(pk=rejected.pk).discard()
    assert purge_old_rows(alias, context.clock, 14, progress=progress) == 1
    assert [len(page) for page in pages_read] == [3, 3]


def test_pages_continue_even_if_all_batches_ended_at_once(context, alias, monkeypatch, pages_read):
    monkeypatch.setattr(purging, "BATCHES_PER_PAGE", 2)
    for _ in range(5):
        finished(context, "complete", "delivered", days=20)
    assert purge_old_rows(alias, context.clock, 14) == 5
    assert [len(page) for page in pages_read] == [2, 2, 1]


def test_needed_records_do_not_hide_deletable_ones(context, alias, clock, monkeypatch):
    monkeypatch.setattr(purging, "RECORDS_PER_TRANSACTION", 2)
    rejected = [record_in(alias, "rejected") for _ in range(4)]
    needed = [record_in(alias, "superseded") for _ in range(4)]
    free = record_in(alias, "superseded")
    for row, older in zip(needed, rejected, strict=True):
        OutboxRecord.rows.using(alias).filter(pk=row.pk).update(identity=older.identity)
    OutboxRecord.rows.using(alias).update(enqueued_at=clock.now() - timedelta(days=20))
    assert purge_old_rows(alias, context.clock, 14) == 1
    assert not OutboxRecord.rows.using(alias).filter(pk=free.pk).exists()


def test_a_discarded_record_stays_with_its_batch(context, alias, clock):
    """Evermuse may still report errors by position, so the position of each record must be known."""
    open_batch = batch_in(alias, "accepted", remote_id="r", next_poll_at=clock.now())
    discarded = record_in(alias, "discarded", open_batch)
    OutboxRecord.rows.using(alias).update(enqueued_at=clock.now() - timedelta(days=20))
    assert purge_old_rows(alias, context.clock, 14) == 0
    assert OutboxRecord.rows.using(alias).get() == discarded
    ended = {"state": "complete", "next_poll_at": None, "finished_at": clock.now() - timedelta(days=20)}
    OutboxBatch.objects.using(alias).update(**ended)
    assert purge_old_rows(alias, context.clock, 14) == 1
    assert count(OutboxBatch, alias) == 0


def test_listing_calls_are_deleted_by_age_and_other_attempts_with_their_batch(
    context, alias, clock, monkeypatch
):
    monkeypatch.setattr(purging, "RECORDS_PER_TRANSACTION", 2)
    batch, _ = finished(context, "split", "rejected")
    for days, owner in ((30, batch), (30, None), (30, batch), (20, None), (13, None)):
        started = clock.now() - timedelta(days=days)
        columns = {"batch": owner, "workspace": "default", "call": "listing", "outcome": "read"}
        OutboxAttempt.objects.using(alias).create(**columns, started_at=started)
    purge_old_rows(alias, context.clock, 14)
    left = OutboxAttempt.objects.using(alias).order_by("pk")
    assert [attempt.batch_id for attempt in left] == [batch.pk, batch.pk, None]


def test_runs_pause_between_each_other(context, alias):
    progress, clock = PurgeProgress(), ticking(context)
    finished(context, "complete", "delivered")
    assert purge_one_run(alias, clock, 14, progress) == 1
    finished(context, "complete", "delivered")
    runs = [purge_one_run(alias, clock, 14, progress) for _ in range(20)]
    assert runs[0] == 0
    assert sum(runs) == 1


def test_a_process_has_one_run_at_a_time_and_restarts_after_an_error(context, alias, monkeypatch):
    progress = PurgeProgress()
    finished(context, "complete", "delivered")
    assert progress.try_start_run(0.0)
    assert purge_one_run(alias, context.clock, 14, progress) == 0
    progress.end_run(0.0, 0.0)

    def fails(*_):
        raise RuntimeError

    with monkeypatch.context() as patched, pytest.raises(RuntimeError):
        patched.setattr(purging, "_delete_batches", fails)
        purge_one_run(alias, context.clock, 14, progress)
    assert purge_one_run(alias, context.clock, 14, progress) == 1


@pytest.mark.commits
def test_two_purgers_do_not_wait_for_each_other(context, alias, monkeypatch):
    if not connections[alias].features.has_select_for_update_skip_locked:
        pytest.skip("SQLite has one writer at a time")
    finished(context, "complete", "delivered")
    has_locked, may_continue = threading.Event(), threading.Event()
    read, deleted, continued = purging._read_records, [], []

    def slowly(rows):
        if threading.current_thread() is other:
            has_locked.set()
            continued.append(may_continue.wait(10))
        return read(rows)

    def purge_slowly():
        deleted.append(purge_old_rows(alias, context.clock, 14))
        connections[alias].close()

    monkeypatch.setattr(purging, "_read_records", slowly)
    other = threading.Thread(target=purge_slowly)
    other.start()
    assert has_locked.wait(30)
    assert purge_old_rows(alias, context.clock, 14) == 0
    may_continue.set()
    other.join(30)
    assert deleted == [1]
    assert all(continued)


def test_rejections_of_records_that_were_deleted_with_sql_are_purged(context, alias, clock):
    rows = enqueue(alias, 1, 2, invalid={2})
    relay(context, 60)
    clock.move(10)
    poll(context, 60)
    rows[1].refresh_from_db()
    assert rows[1].rejections.exists()
    with connections[alias].cursor() as cursor:
        cursor.execute(f"DELETE FROM {OutboxRecord._meta.db_table} WHERE id = %s", [rows[1].pk])
    clock.move(20 * 86_400)
    purge_old_rows(alias, context.clock, 14)
    assert not OutboxRejection.objects.using(alias).exists()


# --- a retention for each state -----------------------------------------------------------------------


def closed(context, state, days, batch=None):
    """Add a record in that state that was enqueued, and rejected if it was, ``days`` ago."""
    at = context.clock.now() - timedelta(days=days)
    row = record_in(context.using, state, batch, enqueued_at=at)
    if state == "rejected":
        rejection = OutboxRejection.local(row.pk, "BAD", "It is bad.", at)
        rejection.save(using=context.using)
    return row


@pytest.mark.parametrize("state", ["superseded", "discarded", "rejected"])
def test_each_state_has_its_retention(context, alias, state):
    old, young = closed(context, state, 6), closed(context, state, 4)
    others = [
        closed(context, other, 6) for other in ("superseded", "discarded", "rejected") if other != state
    ]
    retention = Retention(**{"delivered": 30, "superseded": 30, "discarded": 30} | {state: 5})
    assert purge_old_rows(alias, context.clock, retention) == 1
    assert not OutboxRejection.objects.using(alias).filter(record=old.pk).exists()
    left = set(OutboxRecord.rows.using(alias).values_list("pk", flat=True))
    assert left == {young.pk, *(row.pk for row in others)}


@pytest.mark.parametrize("state", ["superseded", "discarded", "rejected"])
def test_a_record_may_go_before_its_batch_once_the_batch_is_over(context, alias, clock, state):
    batch, (delivered,) = finished(context, "complete", "delivered", days=6)
    gone = closed(context, state, 9, batch)
    open_batch = batch_in(alias, "accepted", remote_id="r", next_poll_at=clock.now())
    in_open = closed(context, state, 9, open_batch)
    polled, _ = finished(context, "complete", days=6)
    OutboxBatch.objects.using(alias).filter(pk=polled.pk).update(next_poll_at=clock.now())
    in_polled = closed(context, state, 9, polled)
    retention = Retention(**{"delivered": 30, "superseded": 30, "discarded": 30} | {state: 5})
    assert purge_old_rows(alias, context.clock, retention) == 1
    left = set(OutboxRecord.rows.using(alias).values_list("pk", flat=True))
    assert left == {delivered.pk, in_open.pk, in_polled.pk}
    assert gone.pk not in left


def test_a_longer_retention_keeps_the_record_and_its_batch(context, alias, clock):
    batch, _ = finished(context, "complete", "delivered", "superseded", days=20)
    retention = Retention(delivered=14, superseded=30)
    assert purge_old_rows(alias, context.clock, retention) == 1
    assert states(alias) == ["superseded"]
    clock.move(11 * DAY)
    assert purge_old_rows(alias, context.clock, retention) == 1
    assert not OutboxBatch.objects.using(alias).filter(pk=batch.pk).exists()


def test_the_time_of_the_last_rejection_counts(context, alias):
    row = closed(context, "rejected", 20)
    again = OutboxRejection.local(row.pk, "BAD", "Still bad.", context.clock.now() - timedelta(days=1))
    again.save(using=alias)
    retention = Retention(rejected=5)
    assert purge_old_rows(alias, context.clock, retention) == 0
    OutboxRejection.objects.using(alias).filter(pk=again.pk).delete()
    assert purge_old_rows(alias, context.clock, retention) == 1


def test_a_record_that_is_retried_meanwhile_is_not_purged(context, alias, monkeypatch):
    row = closed(context, "rejected", 20)
    over = purging._over

    def retried(*given):
        pks = over(*given)
        OutboxRecord.rows.using(alias).reopen([row.pk])
        return pks

    monkeypatch.setattr(purging, "_over", retried)
    assert purge_old_rows(alias, context.clock, Retention(rejected=5)) == 0
    assert states(alias) == ["pending"]

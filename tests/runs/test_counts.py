"""How far a run has come: counts by state, the signals of a run, and what the purge leaves of it."""

from __future__ import annotations

import datetime as dt

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from evermuse_outbox import outbox
from evermuse_outbox.delivery.loop import poll, relay
from evermuse_outbox.models import OutboxLabel, OutboxLabelSet, OutboxRecord, OutboxRun, RecordState
from evermuse_outbox.runs import RunNotFound, forget, forget_label_sets, forget_labels, label_sets, watch
from evermuse_outbox.runs.watch import watch_runs
from evermuse_outbox.signals import run_finished, run_needs_person
from evermuse_outbox.upkeep import purge_old_rows
from tests.records import enqueue, record


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch):
    """Let each call look for a due run."""
    monkeypatch.setattr(watch, "LOOK_INTERVAL", 0)
    monkeypatch.setattr(watch, "SHARE", 1e9)
    monkeypatch.setattr(forget, "FORGET_INTERVAL", 0)


@pytest.fixture
def clock(clock):
    """The clock of the test begins with the time of the database, which a run has as its beginning."""
    clock.at = dt.datetime.now(dt.UTC)
    return clock


@pytest.fixture
def heard():
    """Collect the signals of runs: name, is_clean and the counts that are not zero."""
    received = []

    def hear(name):
        def receive(sender, run, counts, is_clean, **_):
            received.append((name, run.name, is_clean, {s: n for s, n in counts.items() if n}))

        return receive

    receivers = [(run_finished, hear("finished")), (run_needs_person, hear("needs person"))]
    for signal, receiver in receivers:
        signal.connect(receiver, weak=False)
    yield received
    for signal, receiver in receivers:
        signal.disconnect(receiver)


def deliver(context, clock):
    for _ in range(3):
        relay(context, 60)
        clock.move(60)
        poll(context, 60)


def reject(alias, *rows):
    OutboxRecord.rows.using(alias).filter(pk__in=[row.pk for row in rows]).update(closed_as="rejected")


def row_of(run):
    return OutboxRun.objects.using(run.using).get(pk=run.id)


def nonzero(counts):
    return {state: count for state, count in counts.items() if count}


def later(clock, seconds=120):
    clock.move(seconds)
    return clock.now()


def test_a_run_counts_its_records_by_state(alias, context, clock):
    run = outbox.start_run("nightly", using=alias, expected=8)
    assert (run.counts(), run.progress) == ({state.value: 0 for state in RecordState}, 0.0)
    outbox.enqueue_many(
        map(record, range(4)), using=alias, run=run, labels=lambda given: {"n": str(len(str(given)))}
    )
    outbox.enqueue_many(map(record, range(90, 93)), using=alias)
    assert nonzero(run.counts()) == {"pending": 4}
    relay(context, 60)
    assert nonzero(run.counts()) == {"in_flight": 4}
    deliver(context, clock)
    rejected, discarded = [outbox.enqueue(record(number), using=alias, run=run) for number in (50, 51)]
    reject(alias, rejected)
    OutboxRecord.rows.using(alias).filter(pk=discarded.pk).discard()
    outbox.enqueue(record(52), using=alias, run="nightly")
    assert nonzero(run.counts()) == {"delivered": 4, "rejected": 1, "discarded": 1, "pending": 1}
    status = run.status()
    assert (status.total, status.ended, status.rejected, status.progress) == (7, 6, 1, 6 / 8)
    assert not status.is_finished
    deliver(context, clock)
    run.close()
    status = run.status()
    assert (status.is_finished, status.is_clean, status.progress, status.expected) == (True, False, 1.0, 8)


def test_a_count_is_a_few_statements_however_many_records(alias, context, clock):
    run = outbox.start_run("nightly", using=alias)
    outbox.enqueue_many(map(record, range(50)), using=alias, run=run)
    deliver(context, clock)
    with CaptureQueriesContext(connections[alias]) as queries:
        run.counts()
    assert len(queries) == 6


def test_a_run_that_was_rolled_back_is_not_found(alias):
    run = outbox.start_run("nightly", using=alias)
    OutboxRun.objects.using(alias).all().delete()
    with pytest.raises(RunNotFound, match="nightly"):
        run.counts()


# --- signals -------------------------------------------------------------------------------------------------


def test_a_finished_run_is_announced_once(alias, context, clock, heard):
    run = outbox.start_run("nightly", using=alias)
    outbox.enqueue_many(map(record, range(2)), using=alias, run=run)
    deliver(context, clock)
    assert watch_runs(alias, later(clock)) == run
    assert (heard, row_of(run).finished_at) == ([], None)
    run.close()
    assert watch_runs(alias, later(clock)) == run
    assert heard == [("finished", "nightly", True, {"delivered": 2})]
    assert (row_of(run).counts, row_of(run).finished_at) == ({"delivered": 2}, clock.now())
    watch_runs(alias, later(clock, 700))  # once more, for a transaction that was late
    assert watch_runs(alias, later(clock, 700)) is None
    assert len(heard) == 1
    assert row_of(run).count_at is None


def test_rejected_records_need_a_person_and_a_retry_opens_the_run_again(alias, context, clock, heard):
    with outbox.start_run("nightly", using=alias) as run:
        outbox.enqueue_many(map(record, range(2)), using=alias, run=run)
    first, second = OutboxRecord.rows.using(alias).order_by("pk")
    reject(alias, first)
    watch_runs(alias, later(clock))
    watch_runs(alias, later(clock))
    assert heard == [("needs person", "nightly", False, {"pending": 1, "rejected": 1})]
    deliver(context, clock)
    watch_runs(alias, later(clock))
    assert heard[1:] == [("finished", "nightly", False, {"delivered": 1, "rejected": 1})]
    assert OutboxRecord.rows.using(alias).reopen([first.pk]) == 1
    watch_runs(alias, later(clock))
    assert (row_of(run).finished_at, row_of(run).needs_person_since) == (None, None)
    deliver(context, clock)
    watch_runs(alias, later(clock))
    assert heard[2:] == [("finished", "nightly", True, {"delivered": 2})]
    assert second.pk


def test_a_process_that_dies_before_it_stores_the_end_repeats_the_signal(alias, clock, heard, monkeypatch):
    outbox.start_run("nightly", using=alias).close()

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as dying, pytest.raises(KeyboardInterrupt):
        dying.setattr(watch, "_store", die)
        watch_runs(alias, later(clock))
    assert watch_runs(alias, later(clock, 30)) is None  # the claim of the dead process
    watch_runs(alias, later(clock, 120))
    assert [name for name, *_ in heard] == ["finished", "finished"]


def test_a_run_that_is_closed_while_it_is_counted_is_counted_again(alias, clock, heard, monkeypatch):
    run = outbox.start_run("nightly", using=alias)
    count = watch.count_records

    def count_and_close(*arguments):
        counts = count(*arguments)
        run.close()
        return counts

    monkeypatch.setattr(watch, "count_records", count_and_close)
    watch_runs(alias, later(clock))
    monkeypatch.setattr(watch, "count_records", count)
    assert (heard, row_of(run).counted_at) == ([], None)
    watch_runs(alias, later(clock))
    assert [name for name, *_ in heard] == ["finished"]


def test_a_record_that_was_committed_late_opens_the_run_again(alias, context, clock, heard):
    run = outbox.start_run("nightly", using=alias)
    outbox.enqueue(record(1), using=alias, run=run)
    label_set = OutboxRecord.rows.using(alias).get().label_set_id
    deliver(context, clock)
    run.close()
    watch_runs(alias, later(clock))
    (late,) = enqueue(alias, 2)
    OutboxRecord.rows.using(alias).filter(pk=late.pk).update(label_set_id=label_set)
    watch_runs(alias, later(clock, 700))
    assert row_of(run).finished_at is None
    deliver(context, clock)
    watch_runs(alias, later(clock))
    assert heard[-1] == ("finished", "nightly", True, {"delivered": 2})


@pytest.mark.commits
def test_no_record_joins_a_closed_run(alias):
    run = outbox.start_run("nightly", using=alias)
    run.close()
    with pytest.raises(label_sets.RunClosed, match="is closed"):
        outbox.enqueue(record(1), using=alias, run=run)
    with pytest.raises(ValueError, match="is closed"):
        outbox.enqueue_many([record(1)], using=alias, run=run)
    assert not OutboxRecord.rows.using(alias).exists()


@pytest.mark.commits
def test_no_record_joins_a_run_that_this_process_has_just_closed(alias):
    run = outbox.start_run("nightly", using=alias)
    outbox.enqueue(record(1), using=alias, run=run)
    run.close()
    with pytest.raises(label_sets.RunClosed, match="is closed"):
        outbox.enqueue(record(2), using=alias, run=run)


@pytest.mark.commits
def test_a_process_soon_notices_that_another_one_has_closed_a_run(alias, monkeypatch):
    run = outbox.start_run("nightly", using=alias)
    outbox.enqueue(record(1), using=alias, run=run)
    OutboxRun.objects.using(alias).close(run.id, run.status().started_at)
    outbox.enqueue(record(2), using=alias, run=run)
    elapsed = label_sets.time.monotonic() + label_sets.REMEMBERED_OF_RUN
    monkeypatch.setattr(label_sets.time, "monotonic", lambda: elapsed)
    with pytest.raises(label_sets.RunClosed, match="is closed"):
        outbox.enqueue(record(3), using=alias, run=run)


def test_records_that_joined_late_and_have_ended_are_announced(alias, context, clock, heard):
    run = outbox.start_run("nightly", using=alias)
    row = outbox.enqueue(record(1), using=alias, run=run)
    deliver(context, clock)
    run.close()
    watch_runs(alias, later(clock))
    (late,) = enqueue(alias, 2)
    OutboxRecord.rows.using(alias).filter(pk=late.pk).update(label_set_id=row.label_set_id)
    deliver(context, clock)
    watch_runs(alias, later(clock, 700))
    watch_runs(alias, later(clock, 700))
    assert [counts for _, _, _, counts in heard] == [{"delivered": 1}, {"delivered": 2}]


def test_without_a_due_run_one_statement_in_a_while(alias, clock, monkeypatch):
    monkeypatch.setattr(watch, "LOOK_INTERVAL", 1e9)
    with CaptureQueriesContext(connections[alias]) as queries:
        for _ in range(3):
            assert watch_runs(alias, clock.now()) is None
    assert len(queries) == 1


# --- purge -----------------------------------------------------------------------------------------------------


def test_the_counts_stay_when_the_records_are_purged(alias, context, clock):
    run = outbox.start_run("nightly", using=alias)
    outbox.enqueue_many(map(record, range(3)), using=alias, run=run)
    outbox.enqueue_many(map(record, range(10, 12)), using=alias, labels={"customer": "acme"})
    deliver(context, clock)
    (kept,) = enqueue(alias, 20)
    clock.move(30 * 86_400)
    assert purge_old_rows(alias, context.clock, 14) == 5
    assert OutboxRecord.rows.using(alias).get() == kept
    outbox.enqueue(record(30), using=alias, run=run)
    assert nonzero(run.counts()) == {"delivered": 3, "pending": 1}
    assert row_of(run).purged == {"delivered": 3}


def test_discarded_records_are_kept_in_the_counts(alias, context, clock):
    run = outbox.start_run("nightly", using=alias)
    row = outbox.enqueue(record(1), using=alias, run=run)
    OutboxRecord.rows.using(alias).filter(pk=row.pk).discard()
    clock.move(3_000 * 86_400)
    assert purge_old_rows(alias, context.clock, 14) == 1
    assert nonzero(run.counts()) == {"discarded": 1}


def test_a_label_set_is_retired_and_deleted_a_day_after_its_last_record(alias, clock):
    run = outbox.start_run("nightly", using=alias)
    row = outbox.enqueue(record(1), using=alias, run=run, labels={"customer": "acme"})
    if connections[alias].vendor == "mysql":
        pytest.skip("the index is built by outbox_indexes")
    year = dt.timedelta(days=365)
    assert forget_labels(alias, clock.now(), year) == 0
    OutboxRecord.rows.using(alias).all().delete()
    assert forget_labels(alias, clock.now(), year) == 0
    assert OutboxLabelSet.objects.using(alias).get(pk=row.label_set_id).retired_at == clock.now()
    assert forget_labels(alias, later(clock, 86_000), year) == 0
    assert forget_labels(alias, later(clock, 86_500), year) == 1
    assert not OutboxLabel.objects.using(alias).exists()
    assert run.counts()
    clock.at = row_of(run).started_at + year + dt.timedelta(days=1)
    assert forget_labels(alias, clock.now(), year) == 1
    assert not OutboxRun.objects.using(alias).exists()


def test_a_retired_set_that_a_record_names_is_not_deleted(alias, clock):
    row = outbox.enqueue(record(1), using=alias, labels={"customer": "acme"})
    OutboxLabelSet.objects.using(alias).update(retired_at=clock.now() - dt.timedelta(days=9))
    forget_label_sets()
    assert forget_labels(alias, clock.now(), dt.timedelta(days=365)) == 0
    assert OutboxLabelSet.objects.using(alias).get().pk == row.label_set_id

"""Real database errors at the most dangerous moments: nothing is lost, and nothing is sent twice.

Several faults share a test, because flushing three databases after each fault would take most of the time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import logging
from importlib import import_module
from itertools import product

import pytest
from django.contrib.auth.models import Group
from django.db import Error as DatabaseError
from django.db import connections, transaction

from evermuse_outbox import outbox, tasks
from evermuse_outbox.delivery.context import Clock, DatabaseErrorKind, classify_database_error, open_context
from evermuse_outbox.delivery.loop import SenderPool, poll, relay
from evermuse_outbox.delivery.sealing import seal
from evermuse_outbox.models import OutboxAttempt, OutboxBatch, OutboxRecord, OutboxRejection, OutboxWorkspace
from evermuse_outbox.monitoring import beat
from evermuse_outbox.sandbox import Fault, Sandbox
from evermuse_outbox.upkeep import rescue_batches
from tests.database_faults import DatabaseFaults, run
from tests.records import enqueue, record

settle = import_module("evermuse_outbox.delivery.settling.settle")
"""The module. Its package exports a function of the same name."""

pytestmark = pytest.mark.commits

# The package exports a function of the same name.
SETTLE = importlib.import_module("evermuse_outbox.delivery.settling.settle")

MODELS = (OutboxAttempt, OutboxRejection, OutboxRecord, OutboxBatch, OutboxWorkspace, Group)
ATTEMPTS, _, RECORDS, BATCHES, WORKSPACES, GROUPS = (model._meta.db_table for model in MODELS)

ONE_OF_THREE = Fault(
    status=202,
    body={
        "batchId": "b-1",
        "acceptedCount": 2,
        "rejectedCount": 1,
        "totalErrorCount": 3,
        "errors": [{"index": 1, "code": "BAD", "message": "x" * 2_000}] * 3,  # more than a page of SQLite
    },
    after_handling=True,
)


@pytest.fixture
def during_pauses():
    """Return a list of functions; in each pause of the delivery, the first one is removed and called."""
    return []


@pytest.fixture
def context(context, clock, during_pauses):
    """The delivery context of all tests, with the functions that are called in pauses: never in a transaction."""

    def sleep(seconds):
        assert not connections[context.using].in_atomic_block
        clock.move(seconds)
        if seconds and during_pauses:  # a slot that is free at once is no pause
            during_pauses.pop(0)()

    return dataclasses.replace(context, clock=Clock(clock.now, sleep, clock.monotonic))


@pytest.fixture
def fresh_faults(alias, caplog):
    """Return a context manager: an empty outbox and its ``DatabaseFaults``, which end with it."""

    @contextlib.contextmanager
    def opened():
        caplog.set_level(logging.INFO, "evermuse_outbox")
        caplog.clear()
        for model in MODELS:
            model._base_manager.using(alias).all().delete()
        faults = DatabaseFaults(alias)
        try:
            yield faults
        finally:
            faults.close()

    return opened


class ClientWithEvent:
    """A client; ``after_answer`` is called between each answer and its settlement."""

    def __init__(self, client, after_answer):
        self._client = client
        self._after_answer = after_answer

    def __getattr__(self, name):
        value = getattr(self._client, name)
        if name not in ("ingest", "batch", "batches"):
            return value

        def call(*arguments, **options):
            answer = value(*arguments, **options)
            self._after_answer()
            return answer

        return call


def with_event_after_answers(context, after_answer):
    return dataclasses.replace(context, client=ClientWithEvent(context.client, after_answer))


def call_before_first(patch, module, name, event):
    """Call ``event`` before the first call of a function."""
    original, events = getattr(module, name), [event]

    def patched(*arguments, **options):
        if events:
            events.pop()()
        return original(*arguments, **options)

    patch.setattr(module, name, patched)


def warnings(caplog):
    """Return the warnings, without that of the rejected record, which Evermuse causes."""
    warned = (entry for entry in caplog.records if entry.levelno >= logging.WARNING)
    return [entry for entry in warned if not entry.name.endswith("rejection_log")]


def posts(sandbox):
    return [arrival for arrival in sandbox.arrivals if arrival.method == "POST"]


def has_server(alias):
    return connections[alias].vendor != "sqlite"


def assert_settled_as_answered(alias, sandbox):
    assert len(posts(sandbox)) == 1
    batch = OutboxBatch.objects.using(alias).get()
    assert (batch.state, batch.remote_id, batch.lease_token) == ("accepted", "b-1", None)
    states = OutboxRecord.objects.using(alias).order_by("pk").values_list("state", flat=True)
    assert list(states) == ["in_flight", "rejected", "in_flight"]
    assert OutboxRejection.objects.using(alias).get().code == "BAD"
    assert OutboxAttempt.objects.using(alias).get().outcome == "accepted"
    assert OutboxWorkspace.objects.using(alias).get().state == "active"


# --- between an answer and its settlement -------------------------------------------------------------


def lose_connection(faults, during_pauses):
    faults.lose_connection()


def stop_server(faults, during_pauses):
    faults.stop_server()
    during_pauses += [int, int, faults.end]


def make_read_only(faults, during_pauses):
    faults.make_read_only()
    during_pauses += [int, int, faults.end]


def fill_disk(faults, during_pauses):
    faults.prepare()
    faults.fill_disk(ATTEMPTS)
    during_pauses += [int, int, faults.end]


def lock_batches(faults, during_pauses):
    faults.lock_rows(BATCHES)
    during_pauses += [int, int, faults.unlock]


def test_an_answer_is_kept_until_the_database_can_store_it(
    context, alias, sandbox, fresh_faults, during_pauses, caplog
):
    connection_faults = (lose_connection, stop_server) if has_server(alias) else ()
    for cause in (make_read_only, fill_disk, lock_batches, *connection_faults):
        with fresh_faults() as faults:
            enqueue(alias, *range(3))
            sandbox.reset()
            sandbox.fail_next(ONE_OF_THREE)
            faulty = with_event_after_answers(
                context, lambda cause=cause, faults=faults: cause(faults, during_pauses)
            )
            assert relay(faulty, 1) == 1
            assert during_pauses == [], cause
            assert_settled_as_answered(alias, sandbox)
            assert "retrying on the database" in caplog.text
            # One warning, and only if the fault lasts.
            lasting = [line for line in warnings(caplog) if "rejected" not in line.getMessage()]
            assert len(lasting) == (cause is not lose_connection)


def test_an_answer_is_kept_no_longer_than_its_lease(
    context, alias, sandbox, fresh_faults, clock, outbox_settings, reopen
):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", TIMEOUT=1, LEASE=30)
    context = reopen()
    with fresh_faults() as faults:
        enqueue(alias, *range(3))
        started_at = clock.now()
        with pytest.raises(DatabaseError) as caught:
            relay(with_event_after_answers(context, faults.make_read_only), 1)
        assert classify_database_error(caught.value) is DatabaseErrorKind.READ_ONLY
        assert 20 < (clock.now() - started_at).total_seconds() < 30
    clock.move(60)
    assert rescue_batches(alias, context.clock) == 1
    clock.move(60)
    assert relay(context, 1) == 1
    assert OutboxBatch.objects.using(alias).get().state == "accepted"
    assert len({post.headers["Idempotency-Key"] for post in posts(sandbox)}) == 1
    assert [stored.times for stored in sandbox.records()] == [1, 1, 1]


# --- in the middle of a settlement --------------------------------------------------------------------


def lose_connection_in_settlement(context, faults, during_pauses, patch):
    call_before_first(patch, SETTLE, "reject_located", faults.lose_connection)
    return context


def change_rows_in_settlement(context, faults, during_pauses, patch):
    faults.use_strict_snapshot()
    call_before_first(patch, SETTLE, "reject_located", lambda: faults.change_rows(RECORDS, "attachments = 1"))
    return context


def cause_deadlock_in_settlement(context, faults, during_pauses, patch):
    def lock_records():
        faults.become_deadlock_victim()
        run(faults.other_connection, f"SELECT id FROM {RECORDS} FOR UPDATE")

    # At this call, the settlement has locked the batch, and is about to lock the record.
    wait_for_batch = f"SELECT id FROM {BATCHES} FOR UPDATE"
    call_before_first(patch, SETTLE, "reject_located", lambda: faults.block(wait_for_batch))
    during_pauses.append(faults.unlock)
    return with_event_after_answers(context, lock_records)


def lose_answer_to_commit(context, faults, during_pauses, patch):
    connection = faults.connection
    commit = connection._commit

    def commit_and_lose_connection():
        commit()
        patch.setattr(connection, "_commit", commit)
        faults.lose_connection()
        run(connection, "SELECT 1")

    def patch_commit():
        patch.setattr(connection, "_commit", commit_and_lose_connection)

    call_before_first(patch, SETTLE, "reject_located", patch_commit)
    return context


def test_an_interrupted_settlement_is_repeated(
    context, alias, sandbox, fresh_faults, during_pauses, caplog, monkeypatch
):
    if not has_server(alias):
        pytest.skip("SQLite has one writer at a time and no connection to lose: nothing can interrupt it")
    causes = (
        lose_connection_in_settlement,
        change_rows_in_settlement,
        cause_deadlock_in_settlement,
        lose_answer_to_commit,
    )
    for cause in causes:
        with fresh_faults() as faults, monkeypatch.context() as patch:
            enqueue(alias, *range(3))
            sandbox.reset()
            sandbox.fail_next(ONE_OF_THREE)
            relay(cause(context, faults, during_pauses, patch), 1)
            assert_settled_as_answered(alias, sandbox)
            assert caplog.text.count("retrying on the database") == 1, cause
            assert ("deadlock" in caplog.text.lower()) == (cause is cause_deadlock_in_settlement)
            assert warnings(caplog) == []


# --- sealing and polling ------------------------------------------------------------------------------


def test_sealing_and_polling_are_repeated_after_a_lock_timeout_or_a_conflict(
    context, alias, sandbox, fresh_faults, during_pauses, clock, caplog, monkeypatch
):
    with fresh_faults() as faults:
        OutboxWorkspace.objects.using(alias).ensure_row("default")
        enqueue(alias, *range(3))
        faults.lock_rows(WORKSPACES)
        during_pauses += [int, faults.unlock]
        assert relay(context, 1) == 1
        assert caplog.text.count("retrying on the database") == 2

        clock.move(10)
        during_pauses += [int, faults.unlock]
        faulty = with_event_after_answers(context, lambda: faults.lock_rows(BATCHES))
        assert poll(faulty, 1) == 1
        assert OutboxBatch.objects.using(alias).get().state == "complete"
        assert caplog.text.count("retrying on the database") == 4
        assert during_pauses == []

    if has_server(alias):
        with fresh_faults() as faults:
            faults.use_strict_snapshot()
            enqueue(alias, *range(3))
            call_before_first(
                monkeypatch, seal, "_seal_group", lambda: faults.change_rows(RECORDS, "attachments = 1")
            )
            sandbox.reset()
            assert relay(context, 1) == 1
            assert caplog.text.count("retrying on the database") == 1
            assert [stored.times for stored in sandbox.records()] == [1, 1, 1]


# --- complete runs of tasks ---------------------------------------------------------------------------


@pytest.fixture
def worker(alias, outbox_settings, monkeypatch):
    """A sandbox for Celery tasks, which open delivery contexts of their own. There is no broker."""
    monkeypatch.setattr(tasks, "request_run", lambda task, *lane: None)
    with Sandbox(rate_limit=100_000, batch_seconds=0) as running:
        outbox_settings(API_URL=running.url, API_KEY="em_sk_sandbox", DATABASES=[alias], RATE_LIMIT=1_000)
        yield running


def test_a_lost_connection_costs_no_task_its_run(worker, alias, fresh_faults, caplog):
    if not has_server(alias):
        pytest.skip("no connection to lose")
    beat(alias, "test")  # the next heartbeat follows later, so that each task itself meets the fault
    with fresh_faults() as faults:
        enqueue(alias, *range(3))
        faults.lose_connection()
        tasks.tick()
        faults.lose_connection()
        assert tasks.relay(alias, "default") == 1
        batch = OutboxBatch.objects.using(alias)
        batch.update(next_poll_at=Clock.of(alias).now())
        faults.lose_connection()
        assert tasks.poll(alias, "default") == 1
        batch.update(state="sending", lease_token="0" * 32, leased_until="2026-01-01T00:00Z")
        faults.lose_connection()
        tasks.maintain()
        assert batch.get().state == "in_doubt"
        # A relay and a poll first count the waiting runs, which needs no second attempt.
        assert caplog.text.count("retrying on the database") == 2
        assert caplog.text.count("skipped until the next run") == 0


def test_a_run_on_a_read_only_database_is_skipped_with_one_line_in_the_log(
    worker, alias, fresh_faults, caplog
):
    def send_with_another_sender():
        pool = SenderPool.of(
            open_context(alias, "default"), lambda context, seconds, pool: relay(context, seconds, pool)
        )
        assert pool.start_run(60)
        pool.start_senders(2)
        pool.stop_leading()
        try:
            return pool.finish_run()
        finally:
            connections[alias].close()  # the connection of this thread

    for run_once in (lambda: tasks.relay(alias, "default"), send_with_another_sender):
        with fresh_faults() as faults:
            enqueue(alias, *range(3))
            faults.make_read_only()
            assert run_once() == 0
            (line,) = warnings(caplog)
            assert line.getMessage().startswith(f"{alias}/default: skipped until the next run: ")
            assert not line.exc_info
            assert "\n" not in line.getMessage()
            assert posts(worker) == []
            faults.end()
            assert tasks.relay(alias, "default") == 1  # with a new connection, which may write
            worker.reset()


# --- enqueue ------------------------------------------------------------------------------------------


def lose_connection_of_host(faults):
    faults.lose_connection()
    return DatabaseErrorKind.CONNECTION


def make_transaction_read_only(faults):
    is_sqlite = faults.vendor == "sqlite"
    run(faults.connection, "PRAGMA query_only = on" if is_sqlite else "SET TRANSACTION READ ONLY")
    return DatabaseErrorKind.READ_ONLY


def fill_disk_of_records(faults):
    faults.fill_disk(RECORDS)
    return DatabaseErrorKind.READ_ONLY


def exceed_lock_timeout(faults):
    faults.shorten_lock_timeout()
    faults.lock_table(RECORDS)
    return DatabaseErrorKind.CONFLICT


def cause_deadlock(faults):
    faults.become_deadlock_victim()
    faults.lock_table(RECORDS)
    faults.block(f"SELECT id FROM {GROUPS} WHERE name = 'before' FOR UPDATE")
    return DatabaseErrorKind.CONFLICT


def cause_serialization_failure(faults):
    faults.break_serial_order(read=RECORDS, written=GROUPS)
    return DatabaseErrorKind.CONFLICT


HOST_FAULTS = {
    "sqlite": [make_transaction_read_only, fill_disk_of_records],
    "mysql": [
        lose_connection_of_host,
        fill_disk_of_records,
        exceed_lock_timeout,
        cause_deadlock,
    ],
    "postgresql": [
        lose_connection_of_host,
        make_transaction_read_only,
        fill_disk_of_records,
        exceed_lock_timeout,
        cause_deadlock,
        cause_serialization_failure,
    ],
}


def enqueue_one(fields, using):
    return outbox.enqueue(fields, using=using)


def enqueue_many(fields, using):
    return outbox.enqueue_many([fields], using=using)


def make_database_read_only(faults):
    faults.make_read_only()


def lock_records(faults):
    faults.shorten_lock_timeout()
    faults.lock_table(RECORDS)


def assert_raised_outside_a_transaction(alias, fresh_faults):
    for cause in (make_database_read_only, lock_records):
        with fresh_faults() as faults:
            cause(faults)
            for enqueue_record in (enqueue_one, enqueue_many):
                with pytest.raises(DatabaseError) as caught:
                    enqueue_record(record(2), alias)
                assert classify_database_error(caught.value)
        assert not OutboxRecord.rows.using(alias).exists()


def test_host_and_record_roll_back_together_and_the_error_reaches_the_host(alias, fresh_faults):
    large = record(data={"text": "x" * 10_000})
    inserts = []

    def count(execute, sql, *arguments):
        inserts.append(sql.startswith("INSERT") and RECORDS in sql)
        return execute(sql, *arguments)

    causes = HOST_FAULTS[connections[alias].vendor]
    for cause, enqueue_record in product(causes, (enqueue_one, enqueue_many)):
        with fresh_faults() as faults:
            Group.objects.using(alias).create(name="before")
            faults.prepare()
            inserts.clear()
            with pytest.raises(DatabaseError) as caught, transaction.atomic(using=alias):
                Group.objects.using(alias).filter(name="before").update(name="of the host")
                kind = cause(faults)
                with connections[alias].execute_wrapper(count):
                    enqueue_record(large, alias)
            assert classify_database_error(caught.value) is kind, cause
            assert sum(inserts) <= 1  # the INSERT is not repeated
        assert not Group.objects.using(alias).filter(name="of the host").exists()
        assert not OutboxRecord.rows.using(alias).exists()
    assert_raised_outside_a_transaction(alias, fresh_faults)
    assert (enqueue_one(large, alias).state, enqueue_many(large, alias)) == ("pending", 1)

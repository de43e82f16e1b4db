"""Trouble of the database, real, at the worst moments: nothing is lost, nothing is sent twice for it.

Several cases share a test, for emptying three databases after each would take most of the time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from itertools import product

import pytest
from django.contrib.auth.models import Group
from django.db import Error as DatabaseError
from django.db import connections, transaction

from evermuse_outbox import outbox, tasks
from evermuse_outbox.delivery.context import Clock, DatabaseErrorKind, classify_database_error, open_context
from evermuse_outbox.delivery.loop import SenderPool, poll, relay
from evermuse_outbox.delivery.sealing import seal
from evermuse_outbox.delivery.settling import settle
from evermuse_outbox.models import OutboxAttempt, OutboxBatch, OutboxRecord, OutboxRejection, OutboxWorkspace
from evermuse_outbox.sandbox import Fault, Sandbox
from evermuse_outbox.upkeep import rescue_batches
from tests.database_faults import Ailing, run
from tests.records import record

pytestmark = pytest.mark.commits

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
def acts():
    """What happens in the pauses of the pipeline, one after the other."""
    return []


@pytest.fixture
def context(context, clock, acts):
    """The channel of all tests, but that pauses are watched: never within a transaction."""

    def sleep(seconds):
        assert not connections[context.using].in_atomic_block
        clock.move(seconds)
        if seconds and acts:  # a slot that is there at once is no pause
            acts.pop(0)()

    return dataclasses.replace(context, clock=Clock(clock.now, sleep, clock.monotonic))


@pytest.fixture
def case(alias, caplog):
    """An empty outbox, in a database that falls ill within and is well again behind."""

    @contextlib.contextmanager
    def begun():
        caplog.set_level(logging.INFO, "evermuse_outbox")
        caplog.clear()
        for model in MODELS:
            model._base_manager.using(alias).all().delete()
        ailing = Ailing(alias)
        try:
            yield ailing
        finally:
            ailing.close()

    return begun


class ActsAfterAnswers:
    """A channel's client; between its answer and what is made of it, something happens."""

    def __init__(self, context, act):
        self._client = context.client
        self._act = act

    def __getattr__(self, name):
        def call(*given, **named):
            answer = getattr(self._client, name)(*given, **named)
            self._act()
            return answer

        return call


def after_answers(context, act):
    return dataclasses.replace(context, client=ActsAfterAnswers(context, act))


def once(patch, place, name, act):
    """``act`` happens before the first call of that name."""
    original, acts = getattr(place, name), [act]

    def called(*given, **named):
        if acts:
            acts.pop()()
        return original(*given, **named)

    patch.setattr(place, name, called)


def enqueue_three(alias):
    outbox.enqueue_many((record(number) for number in range(3)), using=alias)


def warnings(caplog):
    return [entry for entry in caplog.records if entry.levelno >= logging.WARNING]


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


def lost(ailing, acts):
    ailing.lose_connection()


def gone(ailing, acts):
    ailing.go_away()
    acts += [int, int, ailing.cure]


def read_only(ailing, acts):
    ailing.become_read_only()
    acts += [int, int, ailing.cure]


def full(ailing, acts):
    ailing.prepare()
    ailing.fill_up(ATTEMPTS)
    acts += [int, int, ailing.cure]


def locked(ailing, acts):
    ailing.lock(BATCHES)
    acts += [int, int, ailing.unlock]


def test_an_answer_is_kept_until_the_database_takes_it(context, alias, sandbox, case, acts, caplog):
    for befall in (read_only, full, locked, *((lost, gone) if has_server(alias) else ())):
        with case() as ailing:
            enqueue_three(alias)
            sandbox.reset()
            sandbox.fail_next(ONE_OF_THREE)
            watched = after_answers(context, lambda befall=befall, ailing=ailing: befall(ailing, acts))
            assert relay(watched, 1) == 1
            assert acts == [], befall
            assert_settled_as_answered(alias, sandbox)
            assert "retrying on the database" in caplog.text
            # Told aloud once, and only where it lasts.
            assert len(warnings(caplog)) == (befall is not lost)


def test_an_answer_is_kept_no_longer_than_its_lease(
    context, alias, sandbox, case, clock, outbox_settings, reopen
):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", TIMEOUT=1, LEASE=30)
    context = reopen()
    with case() as ailing:
        enqueue_three(alias)
        began = clock.now()
        with pytest.raises(DatabaseError) as caught:
            relay(after_answers(context, ailing.become_read_only), 1)
        assert classify_database_error(caught.value) is DatabaseErrorKind.READ_ONLY
        assert 20 < (clock.now() - began).total_seconds() < 30
    clock.move(60)
    assert rescue_batches(alias, context.clock) == 1
    clock.move(60)
    assert relay(context, 1) == 1
    assert OutboxBatch.objects.using(alias).get().state == "accepted"
    assert len({post.headers["Idempotency-Key"] for post in posts(sandbox)}) == 1
    assert [stored.times for stored in sandbox.records()] == [1, 1, 1]


# --- in the middle of a settlement --------------------------------------------------------------------


def lost_within(context, ailing, acts, patch):
    once(patch, settle, "reject_located", ailing.lose_connection)
    return context


def changed_within(context, ailing, acts, patch):
    ailing.keep_one_view()
    once(patch, settle, "reject_located", lambda: ailing.change(RECORDS, "size = size + 1"))
    return context


def deadlocked(context, ailing, acts, patch):
    def hold_records():
        ailing.be_the_victim()
        run(ailing.rival, f"SELECT id FROM {RECORDS} FOR UPDATE")

    # The settlement has the batch by then, and is about to want the record.
    once(patch, settle, "reject_located", lambda: ailing.block(f"SELECT id FROM {BATCHES} FOR UPDATE"))
    acts.append(ailing.unlock)
    return after_answers(context, hold_records)


def committed_unheard(context, ailing, acts, patch):
    own = ailing.own
    commit = own._commit

    def commit_and_hear_nothing():
        commit()
        patch.setattr(own, "_commit", commit)
        ailing.lose_connection()
        run(own, "SELECT 1")

    once(patch, settle, "reject_located", lambda: patch.setattr(own, "_commit", commit_and_hear_nothing))
    return context


def test_a_settlement_that_is_broken_off_is_made_again(
    context, alias, sandbox, case, acts, caplog, monkeypatch
):
    if not has_server(alias):
        pytest.skip("one writer at a time and no connection to lose: nothing breaks in")
    for befall in (lost_within, changed_within, deadlocked, committed_unheard):
        with case() as ailing, monkeypatch.context() as patch:
            enqueue_three(alias)
            sandbox.reset()
            sandbox.fail_next(ONE_OF_THREE)
            relay(befall(context, ailing, acts, patch), 1)
            assert_settled_as_answered(alias, sandbox)
            assert caplog.text.count("retrying on the database") == 1, befall
            assert ("deadlock" in caplog.text.lower()) == (befall is deadlocked)
            assert warnings(caplog) == []


# --- sealing and following ----------------------------------------------------------------------------


def test_what_comes_in_the_way_of_sealing_and_following_is_tried_again(
    context, alias, sandbox, case, acts, clock, caplog, monkeypatch
):
    with case() as ailing:
        OutboxWorkspace.objects.using(alias).ensure_row("default")
        enqueue_three(alias)
        ailing.lock(WORKSPACES)
        acts += [int, ailing.unlock]
        assert relay(context, 1) == 1
        assert caplog.text.count("retrying on the database") == 2

        clock.move(10)
        acts += [int, ailing.unlock]
        assert poll(after_answers(context, lambda: ailing.lock(BATCHES)), 1) == 1
        assert OutboxBatch.objects.using(alias).get().state == "complete"
        assert caplog.text.count("retrying on the database") == 4
        assert acts == []

    if has_server(alias):
        with case() as ailing:
            ailing.keep_one_view()
            enqueue_three(alias)
            once(monkeypatch, seal, "_seal_group", lambda: ailing.change(RECORDS, "size = size + 1"))
            sandbox.reset()
            assert relay(context, 1) == 1
            assert caplog.text.count("retrying on the database") == 1
            assert [stored.times for stored in sandbox.records()] == [1, 1, 1]


# --- whole runs of workers ----------------------------------------------------------------------------


@pytest.fixture
def worker(alias, outbox_settings, monkeypatch):
    """What Celery tasks find: the real channel to a local Evermuse, and no broker."""
    monkeypatch.setattr(tasks, "request_run", lambda task, *lane: None)
    with Sandbox(rate_limit=100_000, batch_seconds=0) as running:
        outbox_settings(API_URL=running.url, API_KEY="em_sk_sandbox", DATABASES=[alias], RATE_LIMIT=1_000)
        yield running


def test_a_connection_that_went_stale_costs_no_task_its_run(worker, alias, case, caplog):
    if not has_server(alias):
        pytest.skip("no connection to lose")
    with case() as ailing:
        enqueue_three(alias)
        ailing.lose_connection()
        tasks.tick()
        ailing.lose_connection()
        assert tasks.relay(alias, "default") == 1
        batch = OutboxBatch.objects.using(alias)
        batch.update(next_poll_at=Clock().now())
        ailing.lose_connection()
        assert tasks.poll(alias, "default") == 1
        batch.update(state="sending", lease_token="0" * 32, leased_until="2026-01-01T00:00Z")
        ailing.lose_connection()
        tasks.maintain()
        assert batch.get().state == "in_doubt"
        assert caplog.text.count("retrying on the database") == 4
        assert caplog.text.count("skipped until the next run") == 0


def test_a_run_that_can_write_nothing_is_left_for_later_in_one_line(worker, alias, case, caplog):
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
            connections[alias].close()  # this thread had another

    for step in (lambda: tasks.relay(alias, "default"), send_with_another_sender):
        with case() as ailing:
            enqueue_three(alias)
            ailing.become_read_only()
            assert step() == 0
            (line,) = warnings(caplog)
            assert line.getMessage().startswith(f"{alias}/default: skipped until the next run: ")
            assert not line.exc_info
            assert "\n" not in line.getMessage()
            assert posts(worker) == []
            ailing.cure()
            assert tasks.relay(alias, "default") == 1  # the connection was not kept: the next one may write
            worker.reset()


# --- the host's door ----------------------------------------------------------------------------------


def host_loses_its_connection(ailing):
    ailing.lose_connection()
    return DatabaseErrorKind.CONNECTION


def host_may_only_read(ailing):
    run(ailing.own, "PRAGMA query_only = on" if ailing.vendor == "sqlite" else "SET TRANSACTION READ ONLY")
    return DatabaseErrorKind.READ_ONLY


def host_finds_the_disk_full(ailing):
    ailing.fill_up(RECORDS)
    return DatabaseErrorKind.READ_ONLY


def host_waits_too_long(ailing):
    ailing.wait_for_nobody()
    ailing.lock_whole(RECORDS)
    return DatabaseErrorKind.CONFLICT


def host_meets_a_deadlock(ailing):
    ailing.be_the_victim()
    ailing.lock_whole(RECORDS)
    ailing.block(f"SELECT id FROM {GROUPS} WHERE name = 'before' FOR UPDATE")
    return DatabaseErrorKind.CONFLICT


def host_cannot_be_put_in_order(ailing):
    ailing.fall_out_of_order(read=RECORDS, written=GROUPS)
    return DatabaseErrorKind.CONFLICT


HAPPENS = {
    "sqlite": [host_may_only_read, host_finds_the_disk_full],
    "mysql": [
        host_loses_its_connection,
        host_finds_the_disk_full,
        host_waits_too_long,
        host_meets_a_deadlock,
    ],
    "postgresql": [
        host_loses_its_connection,
        host_may_only_read,
        host_finds_the_disk_full,
        host_waits_too_long,
        host_meets_a_deadlock,
        host_cannot_be_put_in_order,
    ],
}


def one(given, using):
    return outbox.enqueue(given, using=using)


def many(given, using):
    return outbox.enqueue_many([given], using=using)


def nobody_may_write(ailing):
    ailing.become_read_only()


def somebody_holds_the_lock(ailing):
    ailing.wait_for_nobody()
    ailing.lock_whole(RECORDS)


def assert_told_without_a_transaction(alias, case):
    for befall in (nobody_may_write, somebody_holds_the_lock):
        with case() as ailing:
            befall(ailing)
            for enqueue in (one, many):
                with pytest.raises(DatabaseError) as caught:
                    enqueue(record(2), alias)
                assert classify_database_error(caught.value)
        assert not OutboxRecord.rows.using(alias).exists()


def test_host_and_record_roll_back_together_and_the_host_is_told(alias, case):
    large = record(data={"text": "x" * 10_000})
    inserts = []

    def count(execute, sql, *given):
        inserts.append(sql.startswith("INSERT") and RECORDS in sql)
        return execute(sql, *given)

    for befall, enqueue in product(HAPPENS[connections[alias].vendor], (one, many)):
        with case() as ailing:
            Group.objects.using(alias).create(name="before")
            ailing.prepare()
            inserts.clear()
            with pytest.raises(DatabaseError) as caught, transaction.atomic(using=alias):
                Group.objects.using(alias).filter(name="before").update(name="of the host")
                trouble = befall(ailing)
                with connections[alias].execute_wrapper(count):
                    enqueue(large, alias)
            assert classify_database_error(caught.value) is trouble, befall
            assert sum(inserts) <= 1  # and not once more behind the host's back
        assert not Group.objects.using(alias).filter(name="of the host").exists()
        assert not OutboxRecord.rows.using(alias).exists()
    assert_told_without_a_transaction(alias, case)
    assert (one(large, alias).state, many(large, alias)) == ("pending", 1)

"""Wake-ups: one for each transaction, and a broker that is down does not slow the host."""

from __future__ import annotations

import contextlib
import logging
from types import SimpleNamespace

import pytest
from celery import Celery
from django.db import connections, transaction
from django.test import TestCase

from evermuse_outbox import outbox, tasks, wakeup
from evermuse_outbox.models import OutboxRecord
from evermuse_outbox.wakeup import BROKER_PAUSE, wake_workers, wake_workers_on_commit
from tests.records import record


@pytest.fixture(autouse=True)
def now(monkeypatch, outbox_settings):
    """A clock for the test, with wake-ups enabled and none published yet."""
    outbox_settings(WAKE_ON_COMMIT=True, WORKSPACES={"eu": {"API_KEY": "em_sk_eu"}})
    clock = SimpleNamespace(at=1_000.0)
    monkeypatch.setattr(wakeup, "time", SimpleNamespace(monotonic=lambda: clock.at))
    monkeypatch.setattr(wakeup, "_silent_until", {})
    return clock


@pytest.fixture
def published(monkeypatch):
    """The published wake-ups: task, database alias, workspace and linger."""
    calls = []
    monkeypatch.setattr(
        tasks,
        "request_run",
        lambda task, *queue_key, linger=0, is_host=False: calls.append((task.name, *queue_key, linger)),
    )
    return calls


@pytest.fixture
def dead(monkeypatch):
    """A broker that refuses connections; the list of attempts to publish."""
    app = Celery("dead", broker="amqp://guest:secret@127.0.0.1:1//", set_as_current=False)
    app.finalize()
    tried = []
    original = tasks.request_run

    def request_run(*arguments, **options):
        tried.append(arguments[1:])
        original(*arguments, **options)

    monkeypatch.setattr(tasks, "request_run", request_run)
    monkeypatch.setattr(tasks, "relay", app.tasks["evermuse_outbox.relay"])
    return tried


def queue_keys(published):
    return [(using, workspace) for _, using, workspace, _ in published]


def count(alias):
    return OutboxRecord.rows.using(alias).count()


# --- one for each transaction ------------------------------------------------------------------------


@pytest.mark.commits
def test_one_wake_up_for_each_transaction_however_much_is_enqueued(alias, published):
    with transaction.atomic(using=alias):
        for number in range(5):
            outbox.enqueue(record(number), using=alias)
        outbox.enqueue_many([record(6), record(7)], using=alias)
        assert len(connections[alias].run_on_commit) == 1
        assert published == []
    assert published == [("evermuse_outbox.relay", alias, "default", 0)]


@pytest.mark.commits
def test_each_workspace_is_woken(alias, published):
    with transaction.atomic(using=alias):
        for workspace in ("default", "eu", "default", "eu"):
            outbox.enqueue(record(), using=alias, workspace=workspace)
    assert queue_keys(published) == [(alias, "default"), (alias, "eu")]


@pytest.mark.commits
def test_every_transaction_wakes_and_so_does_every_enqueue_outside_one(alias, published):
    outbox.enqueue(record(1), using=alias)
    outbox.enqueue(record(2), using=alias)
    with transaction.atomic(using=alias):
        outbox.enqueue(record(3), using=alias)
    outbox.enqueue_many([record(4)], using=alias)
    with transaction.atomic(using=alias):
        outbox.enqueue(record(5), using=alias)
    assert queue_keys(published) == [(alias, "default")] * 5


@pytest.mark.commits
def test_without_records_there_is_no_wake_up(alias, published):
    outbox.enqueue_many([], using=alias)
    assert published == []


# --- rollbacks ----------------------------------------------------------------------------------------


@pytest.mark.commits
def test_a_rollback_publishes_nothing_and_the_next_transaction_does(alias, published):
    with pytest.raises(RuntimeError), transaction.atomic(using=alias):
        outbox.enqueue(record(1), using=alias)
        raise RuntimeError
    assert published == []
    with transaction.atomic(using=alias):
        outbox.enqueue(record(2), using=alias)
    assert queue_keys(published) == [(alias, "default")]


@pytest.mark.commits
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("after", [True, False])
def test_a_rollback_to_a_savepoint_drops_only_the_wake_up_after_it(alias, published, before, after):
    with transaction.atomic(using=alias):
        if before:
            outbox.enqueue(record(1), using=alias)
        with pytest.raises(RuntimeError), transaction.atomic(using=alias):
            outbox.enqueue(record(2), using=alias)
            raise RuntimeError
        if after:
            outbox.enqueue(record(3), using=alias)
    assert set(queue_keys(published)) == ({(alias, "default")} if before or after else set())
    assert count(alias) == before + after


@pytest.mark.commits
def test_a_failed_enqueue_many_publishes_nothing(alias, published):
    with transaction.atomic(using=alias), pytest.raises(outbox.InvalidRecord):
        outbox.enqueue_many([record(1), record(_type="letter")], using=alias)
    assert published == []


@pytest.mark.commits
def test_with_autocommit_off_the_tick_finds_the_records(alias, published):
    connections[alias].set_autocommit(False)
    try:
        outbox.enqueue(record(1), using=alias)
        connections[alias].commit()
    finally:
        connections[alias].rollback()
        connections[alias].set_autocommit(True)
    assert count(alias) == 1
    assert published == []


# --- debounce -----------------------------------------------------------------------------------------


def test_no_second_wake_up_is_published_during_the_linger(published, now, outbox_settings):
    outbox_settings(WAKE_ON_COMMIT=True, LINGER=2)
    assert wake_workers("default", "default") is True
    now.at += 1.9
    assert wake_workers("default", "default") is False
    assert wake_workers("default", "eu") is True
    now.at += 0.1
    assert wake_workers("default", "default") is True
    assert [call[1:] for call in published] == [
        ("default", "default", 2),
        ("default", "eu", 2),
        ("default", "default", 2),
    ]


def test_with_wake_ups_disabled_nothing_is_published(published, outbox_settings):
    outbox_settings(WAKE_ON_COMMIT=False)
    assert wake_workers("default", "default") is False
    assert published == []


# --- errors -------------------------------------------------------------------------------------------


@pytest.mark.commits
def test_a_broker_that_is_down_does_not_affect_the_host(alias, dead, caplog):
    with transaction.atomic(using=alias):
        outbox.enqueue(record(1), using=alias)
    outbox.enqueue(record(2), using=alias)
    assert count(alias) == 2
    assert dead == [(alias, "default")]
    (message,) = [entry.getMessage() for entry in caplog.records if entry.name == "evermuse_outbox.wakeup"]
    assert "the next tick finds them (OperationalError)" in message
    assert "secret" not in caplog.text


def test_the_host_does_not_wait_for_a_broker_that_is_down(dead, monkeypatch):
    pauses = []
    monkeypatch.setattr("kombu.utils.functional.sleep", pauses.append)
    assert wake_workers("default", "default") is False
    assert len(dead) == 1
    assert sum(pauses) == 0


def test_after_a_failure_no_queue_key_contacts_the_broker_for_a_while(dead, now):
    assert wake_workers("default", "default") is False
    now.at += BROKER_PAUSE - 0.1
    assert wake_workers("default", "default") is False
    assert wake_workers("default", "eu") is False
    assert len(dead) == 1
    now.at += 0.1
    assert wake_workers("default", "eu") is False
    assert dead == [("default", "default"), ("default", "eu")]


def test_a_broker_that_is_up_again_is_used_again(dead, now, monkeypatch):
    wake_workers("default", "default")
    calls = []
    monkeypatch.setattr(tasks, "request_run", lambda *arguments, **options: calls.append(arguments))
    now.at += BROKER_PAUSE
    assert wake_workers("default", "default") is True
    assert wake_workers("default", "default") is True
    assert len(calls) == 2


@pytest.mark.commits
def test_an_error_in_a_wake_up_does_not_undo_the_commit(alias, monkeypatch, caplog):
    def broken(*_):
        raise RuntimeError("something unforeseen")

    monkeypatch.setattr(wakeup, "get_settings", broken)
    with caplog.at_level(logging.WARNING), transaction.atomic(using=alias):
        wake_workers_on_commit(alias, "default")
        OutboxRecord.rows.using(alias).count()
    wake_workers_on_commit(alias, "default")
    assert "RuntimeError" in caplog.text


@pytest.mark.commits
def test_other_callbacks_of_the_host_run_even_if_the_wake_up_raises(alias, monkeypatch):
    def broken(*_):
        raise RuntimeError("something unforeseen")

    monkeypatch.setattr(wakeup, "wake_workers", broken)
    ran = []
    with transaction.atomic(using=alias):
        outbox.enqueue(record(1), using=alias)
        transaction.on_commit(lambda: ran.append("after"), using=alias)
    assert ran == ["after"]


# --- tests of the host --------------------------------------------------------------------------------


class HostTests(TestCase):
    """A host's test that enqueues in ``setUp`` and captures the callbacks of its view."""

    databases = {"default"}

    def setUp(self):
        outbox.enqueue(record(1))
        with transaction.atomic():
            outbox.enqueue(record(2))

    def test_the_wake_up_of_a_view_is_seen_each_time(self):
        for number in range(3):
            with self.captureOnCommitCallbacks() as callbacks:
                outbox.enqueue(record(number))
            assert len(callbacks) == 1
            with self.captureOnCommitCallbacks() as callbacks, transaction.atomic():
                for again in range(5):
                    outbox.enqueue(record(again))
            assert len(callbacks) == 1
            with self.captureOnCommitCallbacks() as callbacks:
                outbox.enqueue_many([record(1), record(2)])
            assert len(callbacks) == 1

    @transaction.atomic
    def view(self):
        with transaction.atomic():
            outbox.enqueue(record(3))
        outbox.enqueue(record(4))

    def test_a_decorated_view_is_seen_each_time(self):
        for _ in range(3):
            with self.captureOnCommitCallbacks() as callbacks:
                self.view()
            assert len(callbacks) == 1

    def test_after_a_rollback_to_a_savepoint_the_wake_up_is_registered_again(self):
        with self.captureOnCommitCallbacks() as callbacks, transaction.atomic():
            with contextlib.suppress(RuntimeError), transaction.atomic():
                outbox.enqueue(record(3))
                raise RuntimeError
            outbox.enqueue(record(4))
        assert len(callbacks) == 1


@pytest.mark.commits
def test_many_records_of_a_transaction_register_one_callback(alias, published):
    with transaction.atomic(using=alias):
        for _ in range(10_000):
            wake_workers_on_commit(alias, "default")
        assert len(connections[alias].run_on_commit) == 1
    assert len(published) == 1

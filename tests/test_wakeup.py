"""Kicks: one a transaction, none too many, and a dead broker costs the host nothing."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
from celery import Celery
from django.db import connections, transaction

from evermuse_outbox import outbox, tasks
from evermuse_outbox import wakeup as kicking
from evermuse_outbox.models import OutboxRecord
from evermuse_outbox.wakeup import BROKER_PAUSE, wake_workers, wake_workers_on_commit
from tests.records import record


@pytest.fixture(autouse=True)
def now(monkeypatch, outbox_settings):
    """Kicks are on, nobody has kicked yet, and the time is ours."""
    outbox_settings(WAKE_ON_COMMIT=True, WORKSPACES={"eu": {"API_KEY": "em_sk_eu"}})
    clock = SimpleNamespace(at=1_000.0)
    monkeypatch.setattr(kicking, "time", SimpleNamespace(monotonic=lambda: clock.at))
    monkeypatch.setattr(kicking, "_silent_until", {})
    return clock


@pytest.fixture
def asked(monkeypatch):
    """What Celery was asked for."""
    calls = []
    monkeypatch.setattr(
        tasks, "request_run", lambda task, *lane, countdown=0: calls.append((task.name, *lane, countdown))
    )
    return calls


@pytest.fixture
def dead(monkeypatch):
    """A broker that refuses connections, asked by the real task; how often it was."""
    app = Celery("dead", broker="amqp://guest:secret@127.0.0.1:1//", set_as_current=False)
    app.finalize()
    tried = []
    original = tasks.request_run

    def ask(*arguments, **options):
        tried.append(arguments[1:])
        original(*arguments, **options)

    monkeypatch.setattr(tasks, "request_run", ask)
    monkeypatch.setattr(tasks, "relay", app.tasks["evermuse_outbox.relay"])
    return tried


def lanes(asked):
    return [(using, workspace) for _, using, workspace, _ in asked]


def count(alias):
    return OutboxRecord.rows.using(alias).count()


# --- one a transaction --------------------------------------------------------------------------------


@pytest.mark.commits
def test_one_kick_a_transaction_however_much_is_enqueued(alias, asked):
    with transaction.atomic(using=alias):
        for number in range(5):
            outbox.enqueue(record(number), using=alias)
        outbox.enqueue_many([record(6), record(7)], using=alias)
        assert len(connections[alias].run_on_commit) == 1
        assert asked == []
    assert asked == [("evermuse_outbox.relay", alias, "default", 0)]


@pytest.mark.commits
def test_each_workspace_is_kicked(alias, asked):
    with transaction.atomic(using=alias):
        for workspace in ("default", "eu", "default", "eu"):
            outbox.enqueue(record(), using=alias, workspace=workspace)
    assert lanes(asked) == [(alias, "default"), (alias, "eu")]


@pytest.mark.commits
def test_every_transaction_kicks_and_so_does_every_enqueue_outside_one(alias, asked):
    outbox.enqueue(record(1), using=alias)
    outbox.enqueue(record(2), using=alias)
    with transaction.atomic(using=alias):
        outbox.enqueue(record(3), using=alias)
    outbox.enqueue_many([record(4)], using=alias)
    with transaction.atomic(using=alias):
        outbox.enqueue(record(5), using=alias)
    assert lanes(asked) == [(alias, "default")] * 5


@pytest.mark.commits
def test_nothing_enqueued_kicks_nobody(alias, asked):
    outbox.enqueue_many([], using=alias)
    assert asked == []


# --- rollbacks ----------------------------------------------------------------------------------------


@pytest.mark.commits
def test_a_rollback_kicks_nobody_and_the_next_transaction_does(alias, asked):
    with pytest.raises(RuntimeError), transaction.atomic(using=alias):
        outbox.enqueue(record(1), using=alias)
        raise RuntimeError
    assert asked == []
    with transaction.atomic(using=alias):
        outbox.enqueue(record(2), using=alias)
    assert lanes(asked) == [(alias, "default")]


@pytest.mark.commits
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("after", [True, False])
def test_a_savepoint_rolled_back_takes_only_its_own_kick(alias, asked, before, after):
    with transaction.atomic(using=alias):
        if before:
            outbox.enqueue(record(1), using=alias)
        with pytest.raises(RuntimeError), transaction.atomic(using=alias):
            outbox.enqueue(record(2), using=alias)
            raise RuntimeError
        if after:
            outbox.enqueue(record(3), using=alias)
    assert set(lanes(asked)) == ({(alias, "default")} if before or after else set())
    assert count(alias) == before + after


@pytest.mark.commits
def test_an_enqueue_many_that_failed_leaves_no_kick(alias, asked):
    with transaction.atomic(using=alias), pytest.raises(outbox.InvalidRecord):
        outbox.enqueue_many([record(1), record(_type="letter")], using=alias)
    assert asked == []


@pytest.mark.commits
def test_a_transaction_that_the_host_manages_by_hand_is_left_to_the_tick(alias, asked):
    connections[alias].set_autocommit(False)
    try:
        outbox.enqueue(record(1), using=alias)
        connections[alias].commit()
    finally:
        connections[alias].rollback()
        connections[alias].set_autocommit(True)
    assert count(alias) == 1
    assert asked == []


# --- debounce -----------------------------------------------------------------------------------------


def test_while_one_kick_lingers_no_other_is_published(asked, now, outbox_settings):
    outbox_settings(WAKE_ON_COMMIT=True, LINGER=2)
    assert wake_workers("default", "default") is True
    now.at += 1.9
    assert wake_workers("default", "default") is False
    assert wake_workers("default", "eu") is True
    now.at += 0.1
    assert wake_workers("default", "default") is True
    assert [call[1:] for call in asked] == [
        ("default", "default", 2),
        ("default", "eu", 2),
        ("default", "default", 2),
    ]


def test_without_kicks_nobody_is_told(asked, outbox_settings):
    outbox_settings(WAKE_ON_COMMIT=False)
    assert wake_workers("default", "default") is False
    assert asked == []


# --- trouble ------------------------------------------------------------------------------------------


@pytest.mark.commits
def test_a_dead_broker_costs_the_host_nothing(alias, dead, caplog):
    with transaction.atomic(using=alias):
        outbox.enqueue(record(1), using=alias)
    outbox.enqueue(record(2), using=alias)
    assert count(alias) == 2
    assert dead == [(alias, "default")]
    (message,) = [entry.getMessage() for entry in caplog.records if entry.name == "evermuse_outbox.wakeup"]
    assert "the next tick finds them (OperationalError)" in message
    assert "secret" not in caplog.text


def test_a_dead_broker_is_not_waited_for(dead, monkeypatch):
    pauses = []
    monkeypatch.setattr("kombu.utils.functional.sleep", pauses.append)
    assert wake_workers("default", "default") is False
    assert len(dead) == 1
    assert sum(pauses) == 0


def test_a_dead_broker_is_left_alone_for_a_while_by_everybody(dead, now):
    assert wake_workers("default", "default") is False
    now.at += BROKER_PAUSE - 0.1
    assert wake_workers("default", "default") is False
    assert wake_workers("default", "eu") is False
    assert len(dead) == 1
    now.at += 0.1
    assert wake_workers("default", "eu") is False
    assert dead == [("default", "default"), ("default", "eu")]


def test_a_broker_that_is_back_is_used_again(dead, now, monkeypatch):
    wake_workers("default", "default")
    calls = []
    monkeypatch.setattr(tasks, "request_run", lambda *arguments, **options: calls.append(arguments))
    now.at += BROKER_PAUSE
    assert wake_workers("default", "default") is True
    assert wake_workers("default", "default") is True
    assert len(calls) == 2


@pytest.mark.commits
def test_whatever_a_kick_meets_the_commit_stands(alias, monkeypatch, caplog):
    def broken(*_):
        raise RuntimeError("something unforeseen")

    monkeypatch.setattr(kicking, "get_settings", broken)
    with caplog.at_level(logging.WARNING), transaction.atomic(using=alias):
        wake_workers_on_commit(alias, "default")
        OutboxRecord.rows.using(alias).count()
    wake_workers_on_commit(alias, "default")
    assert "RuntimeError" in caplog.text


@pytest.mark.commits
def test_the_hosts_other_callbacks_run_even_if_the_kick_raises(alias, monkeypatch):
    def broken(*_):
        raise RuntimeError("something unforeseen")

    monkeypatch.setattr(kicking, "wake_workers", broken)
    ran = []
    with transaction.atomic(using=alias):
        outbox.enqueue(record(1), using=alias)
        transaction.on_commit(lambda: ran.append("after"), using=alias)
    assert ran == ["after"]

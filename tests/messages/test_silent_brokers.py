"""A broker that accepts connections and stays silent costs a request of the host half a second, once."""

from __future__ import annotations

import logging
import socket
import threading
import time

import pytest
from celery import Celery
from django.db import connections, transaction

from evermuse_outbox import outbox, tasks, wakeup
from evermuse_outbox.messages import PUBLISH_SECONDS, BrokerSilent, deadline
from evermuse_outbox.messages.deadline import BrokerStillSilent, run_within
from evermuse_outbox.models import OutboxMessage
from tests.records import record

ROOM = 1.0
"""Seconds that a busy machine may take for the rest of a request."""


@pytest.fixture
def port():
    """A port that accepts connections, and neither reads nor answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield listener.getsockname()[1]


@pytest.fixture(autouse=True)
def forget(monkeypatch, outbox_settings):
    outbox_settings(WAKE_ON_COMMIT=True, WORKSPACES={"eu": {"API_KEY": "em_sk_eu"}})
    monkeypatch.setattr(deadline, "_silent", {})
    monkeypatch.setattr(wakeup, "_silent_until", {})


@pytest.fixture(params=["redis", "amqp"])
def silent(request, port, monkeypatch):
    app = Celery("silent", broker=f"{request.param}://user:secret@127.0.0.1:{port}//", set_as_current=False)
    app.finalize()
    monkeypatch.setattr(tasks, "relay", app.tasks["evermuse_outbox.relay"])
    return app


def publishing_threads():
    return [thread for thread in threading.enumerate() if thread.name == "evermuse-outbox-publish"]


@pytest.mark.commits
def test_a_silent_broker_costs_a_request_half_a_second_once(alias, silent, caplog):
    before = len(publishing_threads())
    started = time.monotonic()
    with caplog.at_level(logging.WARNING):
        with transaction.atomic(using=alias):
            outbox.enqueue(record(1), using=alias)
        first = time.monotonic() - started
        for number in range(20):
            outbox.enqueue(record(2 + number), using=alias)
            outbox.enqueue(record(30 + number), using=alias, workspace="eu")
    assert PUBLISH_SECONDS <= first < PUBLISH_SECONDS + ROOM
    assert time.monotonic() - started - first < ROOM
    (line,) = [entry for entry in caplog.records if entry.name == "evermuse_outbox.wakeup"]
    assert "BrokerSilent" in line.getMessage()
    assert line.exc_info is None
    assert "secret" not in caplog.text
    assert len(publishing_threads()) == before + 1


def test_no_second_thread_waits_for_a_silent_broker():
    answer = threading.Event()
    with pytest.raises(BrokerSilent):
        run_within(answer.wait, 0.01)
    before = len(publishing_threads())
    for _ in range(10):
        with pytest.raises(BrokerStillSilent):
            run_within(answer.wait, 0.01)
    assert len(publishing_threads()) == before
    answer.set()
    deadline._silent.popitem()[1].done.wait(10)
    assert run_within(lambda: "answer", 10) == "answer"


def test_an_exception_and_a_result_reach_the_caller():
    assert run_within(lambda: 7, 10) == 7
    with pytest.raises(ZeroDivisionError):
        run_within(lambda: 1 / 0, 10)


@pytest.mark.commits
def test_a_message_that_may_still_arrive_keeps_its_claim(alias, silent):
    with pytest.raises(BrokerSilent):
        tasks.request_run(tasks.relay, alias, "default", is_host=True)
    rows = OutboxMessage.objects.using(alias).filter(waiting_since__isnull=False)
    assert rows.count() == 1
    with pytest.raises(BrokerStillSilent):
        tasks.request_run(tasks.relay, alias, "eu", is_host=True)
    assert rows.count() == 1


@pytest.mark.commits
def test_a_relay_whose_broker_is_silent_ends_with_a_warning(alias, silent, caplog):
    with caplog.at_level(logging.WARNING):
        assert tasks._request_another(tasks.relay, alias, "default") is None
    (line,) = caplog.records
    assert line.exc_info is None
    assert "no run of evermuse_outbox.relay could be requested" in line.getMessage()


@pytest.mark.commits
@pytest.mark.parametrize("propagates", [True, False])
def test_an_eager_task_does_not_run_in_the_commit(alias, monkeypatch, caplog, propagates):
    app = Celery("eager", broker="redis://127.0.0.1:1/0", set_as_current=False)
    app.conf.task_always_eager, app.conf.task_eager_propagates = True, propagates
    app.finalize()
    monkeypatch.setattr(tasks, "relay", app.tasks["evermuse_outbox.relay"])
    monkeypatch.setattr(tasks, "relay_run", lambda *_: pytest.fail("a relay ran in the commit"))
    with caplog.at_level(logging.INFO):
        outbox.enqueue(record(1), using=alias)
    assert "task_always_eager" in caplog.text


@pytest.mark.commits
def test_a_claim_does_not_wait_for_another_writer_of_sqlite(alias):
    if alias != "default":
        pytest.skip("SQLite only")
    if connections["default"].is_in_memory_db():
        pytest.skip("a database in memory has one connection")
    import sqlite3

    from evermuse_outbox.messages.claims import MessageKey, claim

    other = sqlite3.connect(connections["default"].settings_dict["NAME"])
    other.execute("BEGIN IMMEDIATE")
    started = time.monotonic()
    try:
        assert claim(MessageKey("default", "evermuse_outbox.relay", "x"), None, 60) is None
    finally:
        other.rollback()
        other.close()
    assert time.monotonic() - started < ROOM

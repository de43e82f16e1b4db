"""No thread of a worker holds a database connection during HTTP, a wait for a permit, or another wait."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.utils import timezone

from evermuse_outbox import tasks
from evermuse_outbox.delivery.context import context as contexts
from evermuse_outbox.delivery.context.clock import Clock
from evermuse_outbox.delivery.loop import SenderPool
from evermuse_outbox.evermuse.api import Client
from evermuse_outbox.models import (
    BatchState,
    OutboxAttempt,
    OutboxBatch,
    OutboxRecord,
    OutboxWorkspace,
    WorkspaceState,
)
from evermuse_outbox.sandbox import Fault, Sandbox
from tests.delivery.connections.threads import call_in_thread, held
from tests.records import enqueue

pytestmark = pytest.mark.commits


class Waits:
    """The waits that were made: the kind of each, its thread, and the connections that the thread held."""

    def __init__(self):
        self.made = []

    def note(self, kind):
        self.made.append((kind, threading.current_thread().name, held()))

    def kinds(self):
        return {kind for kind, _, _ in self.made}

    def with_a_connection(self):
        return [wait for wait in self.made if wait[2]]


@pytest.fixture
def waits(monkeypatch):
    """Watch each HTTP request, each sleep of the delivery's clock, and each wait for other senders."""
    waits, call, clock_of = Waits(), Client._call, Clock.of
    wait_for_thread = SenderPool._thread_to_wait_for

    def watched_call(client, method, url, **options):
        waits.note(f"{method} {'listing' if url.endswith('/batches') else 'ingest or status'}")
        return call(client, method, url, **options)

    def watched_sleep(seconds):
        if seconds:
            waits.note("sleep")
        time.sleep(seconds)

    def watched_thread(pool):
        waits.note("end of a run")
        return wait_for_thread(pool)

    monkeypatch.setattr(Client, "_call", watched_call)
    monkeypatch.setattr(contexts.Clock, "of", lambda using: Clock(clock_of(using).now, watched_sleep))
    monkeypatch.setattr(SenderPool, "_thread_to_wait_for", watched_thread)
    monkeypatch.setattr(SenderPool, "_pools", {})
    monkeypatch.setattr(tasks, "request_run", lambda *_: None)
    return waits


@pytest.fixture
def evermuse(outbox_settings, alias):
    with Sandbox(batch_seconds=0) as running:
        outbox_settings(
            API_URL=running.url, API_KEY="em_sk_sandbox", DATABASES=[alias], SENDERS=4, MAX_BATCH_RECORDS=1
        )
        yield running


def test_sends_polls_and_the_waits_of_a_run(evermuse, alias, waits):
    enqueue(alias, *range(14))
    evermuse.fail_next(Fault.slow(0.5), count=6)
    assert call_in_thread(tasks.relay, alias, "default") > 5
    call_in_thread(tasks.poll, alias, "default")
    assert OutboxRecord.rows.using(alias).filter(batch__state=BatchState.COMPLETE).exists()
    assert {"POST ingest or status", "GET listing", "sleep", "end of a run"} <= waits.kinds()
    assert len({thread for _, thread, _ in waits.made}) > 2
    assert waits.with_a_connection() == []


def test_a_batch_that_is_polled_alone_and_one_that_is_forgotten(evermuse, alias, waits):
    enqueue(alias, 1)
    call_in_thread(tasks.relay, alias, "default")
    OutboxBatch.objects.using(alias).update(
        remote_id="unknown",
        state=BatchState.ACCEPTED,
        next_poll_at=timezone.now()
        - timedelta(minutes=1),  # the clock of the database may be a little behind
        accepted_at=timezone.now() - timedelta(hours=1),
        unknown_since=timezone.now() - timedelta(minutes=10),
    )
    OutboxWorkspace.objects.using(alias).update(next_read_at=None)
    waits.made.clear()
    call_in_thread(tasks.poll, alias, "default")
    assert {"GET ingest or status", "GET listing"} <= waits.kinds()
    assert waits.with_a_connection() == []


def test_the_reconciliation_of_a_batch_in_doubt(evermuse, alias, waits):
    enqueue(alias, 1)
    evermuse.fail_next(Fault.drop_after())
    call_in_thread(tasks.relay, alias, "default")
    assert OutboxBatch.objects.using(alias).get().state == BatchState.IN_DOUBT
    OutboxAttempt.objects.using(alias).update(started_at=timezone.now() - timedelta(days=2))
    OutboxBatch.objects.using(alias).update(due_at=timezone.now() - timedelta(seconds=1))
    OutboxWorkspace.objects.using(alias).update(blocked_until=None, state=WorkspaceState.ACTIVE)
    waits.made.clear()
    call_in_thread(tasks.relay, alias, "default")
    assert {"GET listing", "POST ingest or status"} <= waits.kinds()
    assert waits.with_a_connection() == []


def test_a_probe_after_an_outage(evermuse, alias, waits):
    OutboxWorkspace.objects.using(alias).ensure_row("default")
    OutboxWorkspace.objects.using(alias).update(
        state=WorkspaceState.BACKING_OFF, blocked_until=timezone.now() - timedelta(seconds=1), failures=3
    )
    enqueue(alias, 1)
    call_in_thread(tasks.relay, alias, "default")
    assert "POST ingest or status" in waits.kinds()
    assert waits.with_a_connection() == []


@pytest.mark.parametrize("command", ["outbox_reconcile", "outbox_doctor"])
def test_the_commands_that_read_at_evermuse(evermuse, alias, waits, command):
    enqueue(alias, 1)
    call_in_thread(tasks.relay, alias, "default")
    waits.made.clear()
    chosen = ["--workspace", "default"] if command == "outbox_reconcile" else []
    call_in_thread(_call_command, command, "--database", alias, *chosen)
    assert waits.kinds() >= {"GET listing"}
    assert waits.with_a_connection() == []


def _call_command(*arguments):
    with suppress(SystemExit):  # the doctor may find something, such as a setting of the tests
        call_command(*arguments)

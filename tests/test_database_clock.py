"""The database's clock: what it costs, and that the clock of a machine changes nothing."""

from __future__ import annotations

import dataclasses
import time
from datetime import timedelta

import pytest
from django.db import OperationalError, connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from evermuse_outbox import database_clock, outbox
from evermuse_outbox.database_clock import MAX_AGE, MAX_DRIFT, clock_error, database_now, learn_time
from evermuse_outbox.delivery.context import Clock
from evermuse_outbox.delivery.gates import pause_workspace, workspace_circuit
from evermuse_outbox.delivery.loop import relay
from evermuse_outbox.insight import explain_record
from evermuse_outbox.models import OutboxRecord, OutboxWorkspace
from evermuse_outbox.monitoring import measure_drift
from tests.records import record

SHIFTS = [-3_600, -15, 15, 3_600]


@pytest.fixture(autouse=True)
def _unknown(monkeypatch):
    """Begin each test as a new process, which does not know the time of any database."""
    monkeypatch.setattr(database_clock, "_samples", {})


@pytest.fixture
def shift(monkeypatch):
    """Return a function that sets the wall clock of this process."""
    real_time, real_now = time.time, timezone.now

    def set_ahead(seconds):
        monkeypatch.setattr(time, "time", lambda: real_time() + seconds)
        monkeypatch.setattr(timezone, "now", lambda: real_now() + timedelta(seconds=seconds))

    return set_ahead


def test_the_time_costs_one_statement_and_then_none(alias):
    with CaptureQueriesContext(connections[alias]) as captured:
        first, second = database_now(alias), database_now(alias)
    assert len(captured) == 1
    assert timedelta(0) <= second - first < timedelta(seconds=1)


def test_a_read_of_the_workspace_brings_the_time_along(alias):
    OutboxWorkspace.objects.using(alias).ensure_row("default")
    OutboxWorkspace.objects.using(alias).ensure_row("default")
    with CaptureQueriesContext(connections[alias]) as captured:
        database_now(alias)
    assert not captured.captured_queries


def test_an_old_difference_serves_while_the_database_does_not_answer(alias, monkeypatch):
    learn_time(alias, 1_000.0, time.monotonic() - MAX_AGE - 1, time.monotonic() - MAX_AGE - 1)

    def fail(using):
        raise OperationalError("gone")

    monkeypatch.setattr(database_clock, "_read", fail)
    assert 1_000 + MAX_AGE < database_now(alias).timestamp() < 1_000 + MAX_AGE + 30


def test_a_slow_answer_does_not_replace_a_good_one(alias):
    now = time.monotonic()
    learn_time(alias, 1_000.0, now, now)
    learn_time(alias, 999.0, now - 10, now)
    assert 1_000 <= database_now(alias).timestamp() < 1_003


def test_a_faster_answer_replaces_a_slow_one(alias):
    now = time.monotonic()
    learn_time(alias, 999.0, now - 10, now)
    assert 5 <= clock_error(alias) < 6
    learn_time(alias, 1_000.0, now, now)
    assert 1_000 <= database_now(alias).timestamp() < 1_003
    assert clock_error(alias) < 0.1


def test_an_old_time_is_known_less_exactly(alias):
    now = time.monotonic()
    learn_time(alias, 1_000.0, now - 50, now - 50)
    assert clock_error(alias) >= 50 * MAX_DRIFT
    learn_time(alias, 1_050.0, now, now)
    assert clock_error(alias) < 50 * MAX_DRIFT


def test_a_clock_that_was_set_is_noticed_by_a_slow_answer_too(alias):
    now = time.monotonic()
    learn_time(alias, 1_000.0, now, now)
    learn_time(alias, 5_000.0, now - 10, now)
    assert 5_000 <= database_now(alias).timestamp() < 5_030


@pytest.mark.parametrize("reads_workspace", [True, False])
def test_the_time_of_connecting_does_not_shift_the_clock(alias, monkeypatch, reads_workspace):
    OutboxWorkspace.objects.using(alias).ensure_row("default")
    database_clock._samples.clear()
    connection, passed = connections[alias], 0.0
    real_time, ensure_connection = time.monotonic, connection.ensure_connection

    def connect():
        nonlocal passed
        passed = 20.0
        ensure_connection()

    monkeypatch.setattr(time, "monotonic", lambda: real_time() + passed)
    monkeypatch.setattr(connection, "ensure_connection", connect)
    if reads_workspace:
        OutboxWorkspace.objects.using(alias).ensure_row("default")
    assert abs(database_now(alias) - timezone.now()) < timedelta(seconds=5)


@pytest.mark.parametrize("use_tz", [True, False])
def test_the_time_is_as_django_stores_it(alias, settings, use_tz):
    settings.USE_TZ, settings.TIME_ZONE = use_tz, "Asia/Tokyo"
    assert timezone.is_aware(database_now(alias)) is use_tz
    assert abs(database_now(alias) - timezone.now()) < timedelta(seconds=2)


@pytest.mark.parametrize("seconds", SHIFTS)
def test_a_host_with_a_wrong_clock_enqueues_at_the_time_of_the_database(alias, shift, seconds):
    right = outbox.enqueue(record(1), using=alias)
    shift(seconds)
    wrong = outbox.enqueue(record(2), using=alias)
    outbox.enqueue_many([record(3), record(4)], using=alias)
    times = list(OutboxRecord.rows.using(alias).order_by("pk").values_list("enqueued_at", flat=True))
    assert times[1] == wrong.enqueued_at
    assert max(times) - right.enqueued_at < timedelta(seconds=5)
    assert times == sorted(times)


@pytest.mark.parametrize("seconds", SHIFTS)
def test_a_worker_with_a_wrong_clock_blocks_and_sends_as_the_others(context, shift, sandbox, seconds):
    right = dataclasses.replace(context, clock=Clock.of(context.using))
    outbox.enqueue(record(1), using=context.using)
    shift(seconds)
    database_clock._samples.clear()  # a second worker, which starts with the wrong clock
    wrong = dataclasses.replace(context, clock=Clock.of(context.using))
    assert abs(wrong.clock.now() - right.clock.now()) < timedelta(seconds=2)
    wrong.clock.sleep(0)
    settings = dataclasses.replace(wrong.settings, linger=0)
    assert relay(dataclasses.replace(wrong, settings=settings), 5) == 1
    pause_workspace(wrong, "HTTP 401")
    row = OutboxWorkspace.objects.using(context.using).get()
    shift(0)
    database_clock._samples.clear()
    assert timedelta(seconds=50) < row.blocked_until - Clock.of(context.using).now() <= timedelta(seconds=60)
    with workspace_circuit(right) as circuit:
        assert not circuit.allows_requests


@pytest.mark.parametrize("seconds", SHIFTS)
def test_the_drift_is_measured_and_explained_times_are_right(alias, shift, seconds):
    row = outbox.enqueue(record(1), using=alias)
    text = explain_record(row)
    shift(seconds)
    assert explain_record(row).split()[0] == text.split()[0]
    assert abs(measure_drift(alias)["process"] - seconds) < 1

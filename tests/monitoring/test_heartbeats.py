"""Heartbeats: one row for each process, written rarely, and never in the way of the work."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest
from django.db import DatabaseError

from evermuse_outbox.database_clock import database_now
from evermuse_outbox.models import OutboxIncident, OutboxWorker
from evermuse_outbox.monitoring import MISSING_AFTER, beat, heartbeats, worker_silence
from evermuse_outbox.version import WORKER_VERSION


@pytest.fixture(autouse=True)
def no_beat_yet(monkeypatch):
    monkeypatch.setattr(heartbeats, "_beats", {})


def last_beat_was(seconds, alias):
    heartbeats._beats[os.getpid(), alias].at -= seconds


def test_a_process_has_one_row_that_is_written_rarely(alias):
    assert beat(alias, "tick")
    first = OutboxWorker.objects.using(alias).get()
    assert (first.pid, first.version, first.activity) == (os.getpid(), WORKER_VERSION, "tick")
    assert not beat(alias, "relay")
    last_beat_was(heartbeats.BEAT_INTERVAL, alias)
    assert beat(alias, "relay")
    row = OutboxWorker.objects.using(alias).get()
    assert (row.pk, row.activity, row.started_at) == (first.pk, "relay", first.started_at)
    assert row.last_seen_at >= first.last_seen_at


def test_a_fork_has_its_own_row(alias, monkeypatch):
    beat(alias, "tick")
    monkeypatch.setattr(os, "getpid", lambda: 4_711)
    assert beat(alias, "tick")
    assert OutboxWorker.objects.using(alias).count() == 2


def test_a_row_that_was_deleted_is_written_again(alias):
    beat(alias, "tick")
    OutboxWorker.objects.using(alias).all().delete()
    last_beat_was(heartbeats.BEAT_INTERVAL, alias)
    assert beat(alias, "tick")
    assert OutboxWorker.objects.using(alias).count() == 1


def test_a_database_error_does_not_stop_the_work(alias, monkeypatch, caplog):
    def fail(*_):
        raise DatabaseError("disk full")

    monkeypatch.setattr(heartbeats, "_store", fail)
    caplog.set_level("INFO", logger="evermuse_outbox")
    assert not beat(alias, "tick")
    assert "was not stored" in caplog.text


def test_workers_are_missing_after_three_minutes(alias):
    assert worker_silence(alias).is_missing
    beat(alias, "tick")
    assert not worker_silence(alias).is_missing
    long_ago = database_now(alias) - MISSING_AFTER - timedelta(seconds=1)
    OutboxWorker.objects.using(alias).update(last_seen_at=long_ago)
    silence = worker_silence(alias)
    assert (silence.is_missing, silence.last_seen_at) == (True, long_ago)


def test_the_first_heartbeat_after_a_silence_stores_it_as_an_incident(alias, monkeypatch):
    beat(alias, "tick")
    long_ago = database_now(alias) - timedelta(hours=9)
    OutboxWorker.objects.using(alias).update(last_seen_at=long_ago)
    for pid in (1, 2):  # two new processes at once
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        OutboxWorker.objects.using(alias).update(last_seen_at=long_ago)
        beat(alias, "tick")
    incident = OutboxIncident.objects.using(alias).get()
    assert (incident.kind, incident.started_at) == ("no_worker", long_ago)
    assert incident.peak == pytest.approx(9 * 3_600, abs=60)


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["/venv/bin/celery", "-A", "host", "worker", "-B"], "celery worker"),
        (["/venv/lib/celery/__main__.py", "-A", "host", "worker"], "celery worker"),
        (["manage.py", "outbox_relay", "--database", "other"], "outbox_relay"),
        (["/venv/bin/gunicorn", "--password=secret", "host.wsgi"], "gunicorn"),
        ([], "python"),
    ],
)
def test_the_command_of_a_process_has_no_options(arguments, command):
    assert heartbeats.command_of_process(arguments) == command

"""The figures of the overview, on every database."""

from __future__ import annotations

import json
import uuid
from datetime import timedelta

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from evermuse_outbox.database_clock import database_now
from evermuse_outbox.insight import Count, Precision, collect_overview, overview, workspaces
from evermuse_outbox.models import (
    BatchState,
    IncidentKind,
    OutboxAttempt,
    OutboxIncident,
    OutboxRecord,
    OutboxRejection,
    OutboxWorker,
    OutboxWorkspace,
    WorkspaceState,
)
from tests.rows import batch_in, group, record_in

SECOND = timedelta(seconds=1)
MAX_STATEMENTS = 38
"""Statements of the overview with one workspace. On ten million records they take about 0.1 s together."""


@pytest.fixture
def now(alias):
    return database_now(alias)


@pytest.fixture
def one_workspace(outbox_settings, alias):
    outbox_settings(DATABASES=[alias], RATE_LIMIT=10)


def figures_of(alias):
    return collect_overview(alias)


def workspace(alias):
    (figures,) = collect_overview(alias).workspaces
    return figures


def pending(alias, product="prod-abc", seconds=0.0):
    row = record_in(alias, "pending")
    at = database_now(alias) - timedelta(seconds=seconds)
    OutboxRecord.rows.using(alias).filter(pk=row.pk).update(product_id=product, enqueued_at=at)
    return row


def attempt(alias, at, batch=None, **changes):
    values = {"workspace": "default", "call": "ingest", "outcome": "accepted", "status": 202, "seconds": 0.1}
    OutboxAttempt.objects.using(alias).create(batch=batch, started_at=at, **values | changes)


def worker(alias, at, **changes):
    values = {
        "host": "web-1",
        "pid": 7,
        "version": "1",
        "command": "celery worker",
        "activity": "maintenance",
    }
    return OutboxWorker.objects.using(alias).create(
        pk=uuid.uuid4(), started_at=at, last_seen_at=at, **values | changes
    )


def reject(alias, product, message, at, code="BAD"):
    row = record_in(alias, "rejected")
    OutboxRecord.rows.using(alias).filter(pk=row.pk).update(product_id=product)
    OutboxRejection.objects.using(alias).create(record=row, code=code, message=message, rejected_at=at)
    return row


def test_an_empty_outbox(alias, one_workspace, now):
    worker(alias, now)
    figures = figures_of(alias)
    assert figures.problems == []
    assert not figures.workers.is_missing
    (row,) = figures.workspaces
    assert (row.state, row.pending, row.oldest_unsent, row.drained_in_seconds) == (
        "active",
        Count(0),
        None,
        0.0,
    )
    assert (row.groups, row.attempts, row.in_flight) == ([], [], {})
    assert (row.delivered_last_hour, len(row.delivered_by_minute), row.limit_used) == (0, 60, 0.0)
    assert figures.rejections.total == Count(0)
    assert figures.incidents == []


def test_the_workers(alias, one_workspace, now):
    worker(alias, now, pid=1)
    worker(alias, now - timedelta(minutes=2), pid=2)
    worker(alias, now - timedelta(hours=2), pid=3)
    workers = figures_of(alias).workers
    assert (workers.at_work, workers.is_missing) == (2, False)
    at_work = {process.pid: process.is_at_work for process in workers.processes}
    assert list(at_work.items()) == [(1, True), (2, True), (3, False)]


def test_waiting_times_of_a_group_are_a_distribution(alias, one_workspace):
    for seconds in range(0, 1_000, 100):
        pending(alias, "slow", seconds)
    pending(alias, "fast", 5)
    figures = workspace(alias)
    assert figures.pending == Count(11)
    slow, fast = figures.groups
    assert (slow.product_id, slow.pending) == ("slow", Count(10))
    assert (fast.product_id, fast.pending) == ("fast", Count(1))
    assert slow.max == pytest.approx(900, abs=5)
    assert slow.p90 == pytest.approx(800, abs=5)
    assert slow.p50 == pytest.approx(400, abs=5)
    assert fast.p50 == fast.p90 == fast.max == pytest.approx(5, abs=5)
    assert figures.oldest_unsent.product_id == "slow"
    assert figures.oldest_unsent.seconds == pytest.approx(900, abs=5)


def test_counts_have_a_limit_and_say_so(alias, one_workspace, monkeypatch):
    monkeypatch.setattr(workspaces, "MAX_COUNTED", 3)
    monkeypatch.setattr(workspaces, "MAX_COUNTED_OF_GROUP", 2)
    monkeypatch.setattr(workspaces, "_estimate_rows", lambda using, rows: 0)
    for _ in range(4):
        pending(alias)
    figures = workspace(alias)
    assert figures.pending == Count(3, Precision.AT_LEAST)
    assert str(figures.pending) == "3+"
    assert figures.groups[0].pending == Count(2, Precision.AT_LEAST)
    monkeypatch.setattr(workspaces, "_estimate_rows", lambda using, rows: 4_321)
    assert str(workspace(alias).pending) == "~4,321"


def test_postgresql_estimates_a_large_backlog(alias):
    pending(alias)
    rows = OutboxRecord.rows.using(alias).pending().filter(workspace="default")
    estimate = workspaces._estimate_rows(alias, rows)
    assert (estimate >= 1) == (connections[alias].vendor == "postgresql")


def test_a_paused_group_is_marked(alias, one_workspace):
    pending(alias, "prod-abc")
    pending(alias, "other")
    group(alias)
    assert {row.product_id: row.is_paused for row in workspace(alias).groups} == {
        "prod-abc": True,
        "other": False,
    }


def test_the_oldest_unsent_record_may_be_in_a_batch(alias, one_workspace, now):
    unsent = batch_in(alias, BatchState.IN_DOUBT)
    row = record_in(alias, "pending", unsent)
    OutboxRecord.rows.using(alias).filter(pk=row.pk).update(enqueued_at=now - 500 * SECOND)
    accepted = batch_in(alias, BatchState.ACCEPTED)
    record_in(alias, "pending", accepted, enqueued_at=now - 900 * SECOND)
    pending(alias, seconds=100)
    oldest = workspace(alias).oldest_unsent
    assert (oldest.batch, oldest.type) == (unsent.pk, row.type)
    assert oldest.seconds == pytest.approx(500, abs=5)


def test_requests_and_speed_of_the_last_minute(alias, one_workspace, now):
    sent = batch_in(alias, BatchState.ACCEPTED, record_count=700)
    attempt(alias, now - 30 * SECOND, sent)
    attempt(alias, now - 30 * SECOND, sent, outcome="unavailable", status=503)
    attempt(alias, now - 30 * SECOND, call="listing", outcome="read", status=200)
    attempt(alias, now - 90 * SECOND, sent)
    attempt(alias, now - 30 * SECOND, sent, workspace="gone")
    for _ in range(7):
        pending(alias)
    figures = workspace(alias)
    assert (figures.requests_last_minute, figures.records_last_minute) == (3, 700)
    assert figures.limit_used == pytest.approx(3 / 600)
    assert figures.drained_in_seconds == pytest.approx(7 / 700 * 60)
    assert [(row.call, row.outcome, row.status, row.count) for row in figures.attempts] == [
        ("ingest", "accepted", 202, 2),
        ("ingest", "unavailable", 503, 1),
        ("listing", "read", 200, 1),
    ]


def test_a_backlog_without_speed_has_no_estimated_end(alias, one_workspace):
    pending(alias)
    assert workspace(alias).drained_in_seconds is None


def test_deliveries_of_the_last_hour(alias, one_workspace, now):
    for minutes, count in ((0, 10), (1, 20), (59, 30), (61, 99)):
        at = now.replace(second=0, microsecond=0) - timedelta(minutes=minutes)
        batch_in(alias, BatchState.COMPLETE, finished_at=at, record_count=count, attachment_failed=1)
    figures = workspace(alias)
    assert figures.delivered_by_minute[-2:] == [20, 10]
    assert figures.delivered_by_minute[0] == 30
    assert figures.delivered_last_hour == 60
    assert figures.attachments_failed == 3


def test_what_is_in_flight(alias, one_workspace, now):
    for state, count in ((BatchState.SEALED, 5), (BatchState.IN_DOUBT, 7), (BatchState.ACCEPTED, 9)):
        batch_in(alias, state, record_count=count)
    attachments = {"attachment_total": 10, "attachment_complete": 3, "attachment_failed": 2}
    batch_in(alias, BatchState.COMPLETE, next_poll_at=now, **attachments)
    figures = workspace(alias)
    assert figures.records_in_flight == 21
    assert (figures.in_doubt.batches, figures.in_doubt.records) == (1, 7)
    assert figures.attachments_in_progress == 5


def test_rejections_are_grouped_by_error_type_and_product(alias, one_workspace, now):
    reject(alias, "legacy", "Product 17 does not exist", now)
    newest = reject(alias, "legacy", "Product 18 does not exist", now)
    reject(alias, "legacy", "Name is missing", now)
    again = reject(alias, "other", "Product 17 does not exist", now)
    rows, message = OutboxRejection.objects.using(alias), "Product 9 does not exist"
    rows.create(record=again, code="BAD", message=message, rejected_at=now)
    changed = reject(alias, "third", "Product 17 does not exist", now)
    rows.create(
        record=changed, code="BAD", message="Name is missing", rejected_at=now
    )  # the retry found more
    retried = reject(alias, "legacy", "Product 1 does not exist", now)
    OutboxRecord.rows.using(alias).filter(pk=retried.pk).update(closed_as=None)
    figures = figures_of(alias).rejections
    assert (figures.total, figures.is_partial) == (Count(5), False)
    counts = sorted((row.product_id, row.count) for row in figures.groups)
    assert counts == [("legacy", 1), ("legacy", 2), ("other", 1), ("third", 1)]
    largest = figures.groups[0]
    assert (largest.count, largest.example) == (2, newest.pk)
    assert largest.message == "BAD: Product 18 does not exist"


def test_only_the_newest_rejections_are_grouped(alias, one_workspace, now, monkeypatch):
    monkeypatch.setattr(overview, "MAX_REJECTIONS", 2)
    monkeypatch.setattr(overview, "MAX_COUNTED_REJECTED", 2)
    for number in range(3):
        reject(alias, f"p{number}", "bad", now)
    figures = figures_of(alias).rejections
    assert (figures.total, figures.is_partial) == (Count(2, Precision.AT_LEAST), True)
    assert {row.product_id for row in figures.groups} == {"p1", "p2"}


def test_open_incidents_and_those_of_the_last_day(alias, one_workspace, now):
    rows = OutboxIncident.objects.using(alias)
    for hours, is_open in ((50, True), (20, False), (30, False)):
        at = now - timedelta(hours=hours)
        row = OutboxIncident(
            kind=IncidentKind.BACKLOG, workspace="default", subject=str(hours), started_at=at
        )
        rows.begin(row, at)
        if not is_open:
            rows.end(row.pk, at)
    incidents = figures_of(alias).incidents
    assert [(row.subject, bool(row.ended_at)) for row in incidents] == [("20", True), ("50", False)]
    assert incidents[0].label == "records wait too long"


def test_everything_is_json(alias, one_workspace, now):
    worker(alias, now)
    pending(alias)
    reject(alias, "x", "bad", now)
    OutboxWorkspace.objects.using(alias).create(name="default", state=WorkspaceState.PAUSED, reason="401")
    figures = figures_of(alias)
    read = json.loads(json.dumps(figures.to_json()))
    assert read["workspaces"][0]["pending"] == {"value": 1, "precision": "exact"}
    assert read["workspaces"][0]["state"] == "paused"
    assert read["problems"][0]["kind"] == "workspace"
    assert read["at"] == figures.at.isoformat()


def test_other_workspaces_can_be_hidden(alias, outbox_settings, now):
    outbox_settings(DATABASES=[alias], WORKSPACES={"eu": {"API_KEY": "em_sk_eu"}})
    OutboxWorkspace.objects.using(alias).create(name="eu", state=WorkspaceState.PAUSED, reason="401")
    row = reject(alias, "secret", "bad", now)
    OutboxRecord.rows.using(alias).filter(pk=row.pk).update(workspace="eu")
    incident = OutboxIncident(kind=IncidentKind.BACKLOG, workspace="eu", started_at=now)
    OutboxIncident.objects.using(alias).begin(incident, now)
    assert "eu" in json.dumps(figures_of(alias).to_json())
    figures = collect_overview(alias, hidden=["eu"])
    assert [row.name for row in figures.workspaces] == ["default"]
    assert figures.rejections.groups == figures.incidents == []
    assert {problem.kind for problem in figures.problems} == {"workers"}


def test_the_number_of_statements_does_not_grow(alias, one_workspace, now):
    def count():
        with CaptureQueriesContext(connections[alias]) as queries:
            figures_of(alias)
        return len(queries)

    def fill():
        worker(alias, now)
        pending(alias, uuid.uuid4().hex[:8], 1_000)
        reject(alias, uuid.uuid4().hex[:8], "bad", now)
        attempt(alias, now, batch_in(alias, BatchState.ACCEPTED, remote_id=uuid.uuid4().hex))
        batch_in(alias, BatchState.SEALED)

    fill()
    few = count()
    for _ in range(4):
        fill()
    assert count() == few <= MAX_STATEMENTS

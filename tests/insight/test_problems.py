"""What needs attention is found, with a reason and advice, on every database."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from evermuse_outbox.database_clock import database_now
from evermuse_outbox.insight import find_problems
from evermuse_outbox.models import (
    GroupState,
    IncidentKind,
    OutboxIncident,
    OutboxRecord,
    OutboxWorker,
    OutboxWorkspace,
    WorkspaceState,
)
from tests.rows import group, record_in


@pytest.fixture
def now(alias):
    return database_now(alias)


@pytest.fixture
def at_work(alias, now, outbox_settings):
    outbox_settings(DATABASES=[alias])
    worker(alias, now)


def worker(alias, at):
    fields = {"host": "h", "pid": 1, "version": "1", "command": "c", "activity": "a"}
    OutboxWorker.objects.using(alias).create(pk=uuid.uuid4(), started_at=at, last_seen_at=at, **fields)


def kinds(alias, **options):
    return [(problem.kind, problem.is_failure) for problem in find_problems(alias, **options)]


def test_a_healthy_outbox(alias, at_work):
    record_in(alias, "pending")
    OutboxWorkspace.objects.using(alias).create(name="default")
    group(alias, GroupState.SUSPECTED)
    assert find_problems(alias) == []


def test_missing_workers_come_first(alias, now):
    OutboxWorkspace.objects.using(alias).create(name="default", state=WorkspaceState.PAUSED, reason="401")
    first, second = find_problems(alias)
    assert (first.kind, first.title, first.since) == ("workers", "No worker was ever seen", None)
    assert "outbox_relay" in first.explanation
    assert second.kind == "workspace"
    worker(alias, now - timedelta(minutes=4))
    problem = find_problems(alias)[0]
    assert (problem.title, problem.since) == ("No worker seen for 3 minutes", now - timedelta(minutes=4))


@pytest.mark.parametrize("state", sorted(set(WorkspaceState) - {WorkspaceState.ACTIVE}))
def test_a_workspace_that_does_not_send(alias, at_work, now, state):
    OutboxWorkspace.objects.using(alias).create(name="default", state=state, reason="because", failures=2)
    incident = OutboxIncident(kind=IncidentKind.WORKSPACE, workspace="default", started_at=now)
    OutboxIncident.objects.using(alias).begin(incident, now)
    (problem,) = find_problems(alias)
    is_failure = state not in (WorkspaceState.BACKING_OFF, WorkspaceState.THROTTLED)
    assert (problem.kind, problem.subject, problem.since) == ("workspace", "default", now)
    assert problem.is_failure is is_failure
    assert str(WorkspaceState(state).label) in problem.title
    assert "because" in problem.explanation


def test_a_first_failure_needs_no_attention(alias, at_work):
    OutboxWorkspace.objects.using(alias).create(name="default", state=WorkspaceState.BACKING_OFF, failures=1)
    assert find_problems(alias) == []


def test_a_workspace_that_is_not_in_the_settings(alias, at_work):
    row = record_in(alias, "pending")
    OutboxRecord.rows.using(alias).filter(pk=row.pk).update(workspace="gone")
    (problem,) = find_problems(alias)
    assert (problem.kind, problem.subject, problem.key) == ("workspace", "gone", "")
    assert "outbox_discard --workspace gone" in problem.explanation


def test_a_paused_group(alias, at_work):
    row = group(alias)
    group(alias, contract="openapi", product_id="p2")  # its pause ends, because the contract has changed
    (problem,) = find_problems(alias)
    assert (problem.kind, problem.subject, problem.key, problem.since) == (
        "group",
        str(row),
        row.pk,
        row.since,
    )
    assert row.advice in problem.explanation


def test_records_that_wait_too_long(alias, at_work, now):
    row = record_in(alias, "pending")
    OutboxRecord.rows.using(alias).filter(pk=row.pk).update(enqueued_at=now - timedelta(seconds=400))
    (problem,) = find_problems(alias)
    assert (problem.kind, problem.workspace) == ("lag", "default")
    assert problem.since == now - timedelta(seconds=100), "since it is older than MAX_LAG"
    assert kinds(alias, max_lag=500) == []
    assert kinds(alias, max_lag=10) == [("lag", True)]


def test_rejected_records_wait_for_a_person_but_disturb_nothing(alias, at_work):
    record_in(alias, "rejected")
    assert kinds(alias) == [("rejections", False)]
    assert find_problems(alias)[0].title == "1 record is rejected"
    record_in(alias, "rejected")
    assert find_problems(alias)[0].title == "2 records are rejected"


def test_workspaces_without_records_cost_no_statement(alias, at_work, outbox_settings):
    def count_statements(workspaces):
        names = {
            f"customer-{number}": {"API_KEY": f"em_sk_customer_{number}"} for number in range(workspaces)
        }
        outbox_settings(DATABASES=[alias], WORKSPACES=names)
        with CaptureQueriesContext(connections[alias]) as statements:
            find_problems(alias)
        return len(statements)

    assert count_statements(50) == count_statements(2)

"""Incidents: a condition begins one, it ends some time after the condition, and each process may observe."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connections

from evermuse_outbox import outbox
from evermuse_outbox.database_clock import database_now
from evermuse_outbox.delivery.context import SlowStatement, deadlines
from evermuse_outbox.models import GroupState, OutboxIncident, OutboxRecord, OutboxWorker, WorkspaceState
from evermuse_outbox.models import OutboxWorkspace as Workspace
from evermuse_outbox.monitoring import drift, forget, observe
from tests.records import record
from tests.rows import group


@pytest.fixture(autouse=True)
def nothing_else(monkeypatch):
    monkeypatch.setattr(drift, "measure_drift", lambda using: {})
    monkeypatch.setattr(deadlines, "_slow", type(deadlines._slow)(deadlines._slow.default_factory))
    monkeypatch.setattr(drift, "_reported_at", {})


def incidents(alias):
    return OutboxIncident.objects.using(alias).order_by("pk")


def fail(alias, failures=3, state=WorkspaceState.BACKING_OFF):
    Workspace.objects.using(alias).update_or_create(
        pk="default", defaults={"state": state, "failures": failures, "reason": "HTTP 500"}
    )


def recover(alias):
    Workspace.objects.using(alias).update(state=WorkspaceState.ACTIVE, failures=0, reason="")


def test_a_workspace_that_fails_is_one_incident_with_beginning_and_end(alias, context, clock):
    fail(alias)
    began = context.clock.now()
    observe(alias, context.clock)
    clock.move(20)
    fail(alias, failures=7)
    observe(alias, context.clock)
    row = incidents(alias).get()
    assert (row.kind, row.workspace, row.started_at, row.ended_at) == ("workspace", "default", began, None)
    assert (row.reason, row.peak) == ("backing off: HTTP 500", 7)
    last_seen = context.clock.now()
    recover(alias)
    clock.move(20)
    observe(alias, context.clock)
    assert incidents(alias).get().ended_at is None  # it may fail again
    clock.move(20)
    observe(alias, context.clock)
    assert incidents(alias).get().ended_at == last_seen
    fail(alias)
    observe(alias, context.clock)
    assert [bool(row.ended_at) for row in incidents(alias)] == [True, False]


def test_a_workspace_that_recovers_for_seconds_stays_one_incident(alias, context, clock):
    for _ in range(5):
        fail(alias)
        observe(alias, context.clock)
        clock.move(12)
        recover(alias)
        observe(alias, context.clock)
        clock.move(12)
    assert incidents(alias).count() == 1


def test_a_single_failure_is_no_incident(alias, context):
    fail(alias, failures=1)
    observe(alias, context.clock)
    assert not incidents(alias).exists()


def test_two_observers_begin_one_incident(alias, context):
    row = OutboxIncident(kind="workspace", workspace="default", started_at=context.clock.now())
    assert OutboxIncident.objects.using(alias).begin(row, context.clock.now())
    same = OutboxIncident(kind="workspace", workspace="default", started_at=context.clock.now())
    assert not OutboxIncident.objects.using(alias).begin(same, context.clock.now())
    assert incidents(alias).count() == 1


def test_a_paused_group_and_a_backlog(alias, context, clock):
    group(alias, state=GroupState.PAUSED, reason="Every record was refused.")
    outbox.enqueue(record(1), using=alias)
    OutboxRecord.rows.using(alias).update(enqueued_at=context.clock.now() - timedelta(seconds=301))
    observe(alias, context.clock)
    found = {row.kind: row for row in incidents(alias)}
    assert set(found) == {"group", "backlog"}
    assert found["group"].reason == "Every record was refused."
    assert "message · prod-abc waits longer" in found["backlog"].reason
    assert found["backlog"].peak == pytest.approx(301, abs=1)


def test_slow_statements_are_reported_once_without_their_data(alias, context, clock):
    deadlines._slow[alias] += [SlowStatement("UPDATE x SET y = %s", 4.2), SlowStatement("SELECT 1", 2.5)]
    observe(alias, context.clock)
    row = incidents(alias).get()
    assert row.reason == "2 slow statements; the slowest took 4.2 s: UPDATE x SET y = %s"
    clock.move(60)
    observe(alias, context.clock)
    assert incidents(alias).get().last_seen_at == row.last_seen_at


def test_a_slow_statement_is_remembered(monkeypatch):
    ticks = iter([0.0, deadlines.SLOW])
    monkeypatch.setattr(deadlines.time, "monotonic", lambda: next(ticks))
    connection = type("Connection", (), {"vendor": "mysql", "mysql_is_mariadb": False, "alias": "slow"})()
    deadlines.Deadline(1.0)(lambda *_: None, "SELECT %s", ["secret"], False, {"connection": connection})
    assert deadlines.take_slow_statements("slow") == [SlowStatement("SELECT %s", deadlines.SLOW)]
    assert deadlines.take_slow_statements("slow") == []


def test_a_clock_that_drifts(alias, context, monkeypatch):
    monkeypatch.setattr(drift, "measure_drift", lambda using: {"process": 12.5, "redis": None})
    observe(alias, context.clock)
    row = incidents(alias).get()
    assert (row.kind, row.peak) == ("clock", 12.5)
    assert row.subject
    assert row.reason.startswith("12.5 s ahead")


def test_old_incidents_and_gone_processes_are_deleted(alias):
    now = database_now(alias)
    old, kept = now - timedelta(days=400), timedelta(days=365)
    rows = OutboxIncident.objects.using(alias)
    rows.create(kind="clock", started_at=old, last_seen_at=old, ended_at=old)
    rows.create(kind="clock", started_at=old, last_seen_at=now, open_key="x")
    for seen in (old, now):
        OutboxWorker.objects.using(alias).create(host="h", pid=1, started_at=old, last_seen_at=seen)
    assert forget(alias, now, kept) == 2
    assert rows.get().open_key == "x"
    assert OutboxWorker.objects.using(alias).get().last_seen_at == now


def test_the_statements_do_not_contain_the_names_of_all_workspaces(alias, context, outbox_settings):
    names = {f"customer-{number}": {"API_KEY": f"em_sk_customer_{number}"} for number in range(300)}
    outbox_settings(DATABASES=[alias], WORKSPACES=names)
    fail(alias)
    group(alias, state=GroupState.PAUSED)
    Workspace.objects.using(alias).create(pk="removed", state=WorkspaceState.PAUSED)
    counts = []

    def count_parameters(execute, sql, params, many, state):
        counts.append(len(params or ()))
        return execute(sql, params, many, state)

    with connections[alias].execute_wrapper(count_parameters):
        observe(alias, context.clock)
    assert {row.workspace for row in incidents(alias)} == {"default"}
    assert max(counts) < 100

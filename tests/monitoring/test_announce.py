"""Signals of incidents: each begins and ends once, and a workspace or group says when it needs a person."""

from __future__ import annotations

import pytest
from django.db import transaction

from evermuse_outbox import signals
from evermuse_outbox.database_clock import database_now
from evermuse_outbox.delivery.context import deadlines
from evermuse_outbox.models import OutboxGroup, OutboxIncident, OutboxWorkspace, WorkspaceState
from evermuse_outbox.monitoring import drift, incidents, observe
from tests.rows import group

pytestmark = pytest.mark.commits


@pytest.fixture(autouse=True)
def nothing_else(monkeypatch):
    monkeypatch.setattr(drift, "measure_drift", lambda using: {})
    monkeypatch.setattr(deadlines, "_slow", type(deadlines._slow)(deadlines._slow.default_factory))
    monkeypatch.setattr(drift, "_reported_at", {})


@pytest.fixture
def received():
    """The calls of all signals of incidents: the name of the signal, and the arguments."""
    names = [name for name in vars(signals) if name.startswith(("incident_", "workspace_", "group_"))]
    calls, connected = [], []
    for name in names:

        def receive(sender, signal, name=name, **arguments):
            assert sender is OutboxIncident
            calls.append((name, arguments))

        getattr(signals, name).connect(receive, weak=False)
        connected.append((name, receive))
    yield calls
    for name, receive in connected:
        getattr(signals, name).disconnect(receive)


def names(received):
    called = [name for name, _ in received]
    received.clear()
    return called


def set_workspace(alias, state, failures=3):
    defaults = {"state": state, "failures": failures, "reason": "HTTP 500"}
    OutboxWorkspace.objects.using(alias).update_or_create(pk="default", defaults=defaults)


def test_a_workspace_fails_needs_a_person_and_recovers(alias, context, clock, received):
    set_workspace(alias, WorkspaceState.BACKING_OFF)
    observe(alias, context.clock)
    began = context.clock.now()
    incident = OutboxIncident.objects.using(alias).get()
    common = {
        "using": alias,
        "workspace": "default",
        "began_at": began,
        "incident_id": incident.pk,
        "reason": incident.reason,
    }
    kind = {"kind": "workspace", "subject": ""}
    assert received == [("incident_opened", common | kind), ("workspace_failing", common)]
    received.clear()

    set_workspace(alias, WorkspaceState.PAUSED)
    clock.move(20)
    observe(alias, context.clock)
    observe(alias, context.clock)
    paused = common | {"reason": OutboxIncident.objects.using(alias).get().reason}
    assert received == [("workspace_exhausted", paused)]
    received.clear()

    set_workspace(alias, WorkspaceState.ACTIVE)
    ended = {"ended_at": context.clock.now()}
    clock.move(40)
    observe(alias, context.clock)
    observe(alias, context.clock)
    assert received == [
        ("incident_closed", paused | kind | ended),
        ("workspace_recovered", paused | ended),
    ]


def test_a_workspace_that_recovers_for_seconds_sends_one_signal(alias, context, clock, received):
    for state in (WorkspaceState.BACKING_OFF, WorkspaceState.ACTIVE) * 4:
        set_workspace(alias, state)
        observe(alias, context.clock)
        clock.move(12)
    assert names(received) == ["incident_opened", "workspace_failing"]


def test_a_key_that_is_refused_needs_a_person_at_once(alias, context, received):
    set_workspace(alias, WorkspaceState.PAUSED, failures=0)
    observe(alias, context.clock)
    assert names(received) == ["incident_opened", "workspace_failing", "workspace_exhausted"]


def test_a_group_needs_a_person_after_three_probes(alias, context, clock, received):
    row = group(alias, state="paused", blocked_until=context.clock.now())
    observe(alias, context.clock)
    OutboxGroup.objects.using(alias).filter(pk=row.pk).update(probes=2)
    observe(alias, context.clock)
    (_, arguments) = received[1]
    assert (arguments["type"], arguments["product_id"]) == (row.type, row.product_id)
    assert names(received) == ["incident_opened", "group_failing"]
    OutboxGroup.objects.using(alias).filter(pk=row.pk).update(probes=incidents.EXHAUSTED_PROBES)
    observe(alias, context.clock)
    assert names(received) == ["group_exhausted"]
    row.delete()
    clock.move(40)
    observe(alias, context.clock)
    assert names(received) == ["incident_closed", "group_recovered"]


def test_a_silence_of_all_workers_is_an_incident_without_a_workspace(alias, context, received):
    now = database_now(alias)
    incidents.remember_silence(alias, now, now)
    ((name, arguments),) = received
    assert (name, arguments["kind"], arguments["workspace"]) == ("incident_opened", "no_worker", "")


def test_an_observation_that_is_rolled_back_sends_nothing(alias, context, received):
    set_workspace(alias, WorkspaceState.PAUSED)
    with pytest.raises(ZeroDivisionError), transaction.atomic(using=alias):
        observe(alias, context.clock)
        1 / 0  # noqa: B018
    assert received == []

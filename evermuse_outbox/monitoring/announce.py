"""Send the signals of incidents, and those of workspaces and groups that follow from them, after the commit."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from ..models import IncidentKind, OutboxIncident
from ..signals import (
    group_exhausted,
    group_failing,
    group_recovered,
    incident_closed,
    incident_opened,
    send_after_commit,
    workspace_exhausted,
    workspace_failing,
    workspace_recovered,
)

FAILING = {IncidentKind.WORKSPACE: workspace_failing, IncidentKind.GROUP: group_failing}
EXHAUSTED = {IncidentKind.WORKSPACE: workspace_exhausted, IncidentKind.GROUP: group_exhausted}
RECOVERED = {IncidentKind.WORKSPACE: workspace_recovered, IncidentKind.GROUP: group_recovered}


def announce_opened(using: str, incident: OutboxIncident) -> None:
    """Send ``incident_opened``, and that a workspace or group is failing."""
    kinds = {"kind": incident.kind, "subject": incident.subject}
    _send(incident_opened, using, incident, kinds)
    if signal := FAILING.get(IncidentKind(incident.kind)):
        _send(signal, using, incident, _group_of(incident))


def announce_exhausted(using: str, incident: OutboxIncident) -> None:
    """Send that a workspace or group is exhausted."""
    _send(EXHAUSTED[IncidentKind(incident.kind)], using, incident, _group_of(incident))


def announce_closed(using: str, incident: OutboxIncident, ended_at: datetime) -> None:
    """Send ``incident_closed``, and that a workspace or group has recovered."""
    kinds = {"kind": incident.kind, "subject": incident.subject, "ended_at": ended_at}
    _send(incident_closed, using, incident, kinds)
    if signal := RECOVERED.get(IncidentKind(incident.kind)):
        _send(signal, using, incident, _group_of(incident) | {"ended_at": ended_at})


def _send(signal: Any, using: str, incident: OutboxIncident, more: dict[str, Any]) -> None:
    def events() -> Iterator[dict[str, Any]]:
        yield {
            "workspace": incident.workspace,
            "reason": incident.reason,
            "began_at": incident.started_at,
            "incident_id": incident.pk,
            **more,
        }

    send_after_commit(signal, OutboxIncident, using, events)


def _group_of(incident: OutboxIncident) -> dict[str, str]:
    """Return the arguments that name the group; none for a workspace."""
    if incident.kind != IncidentKind.GROUP:
        return {}
    record_type, _, product_id = incident.subject.partition(" · ")
    return {"type": record_type, "product_id": product_id}

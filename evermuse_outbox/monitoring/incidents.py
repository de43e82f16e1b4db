"""Incidents: compare the present conditions with the open incidents, and begin, continue or end them.

Maintenance calls :func:`observe` every few seconds. A condition that is observed begins an incident. The incident ends
when the condition was not observed for a while. So a workspace that fails, recovers and fails within seconds is one
incident and not many.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db.models import QuerySet

from ..conf import Settings, get_settings
from ..delivery.context import Clock, SlowStatement, take_slow_statements
from ..delivery.scanning import find_waiting_work
from ..models import (
    GroupState,
    IncidentKind,
    OutboxGroup,
    OutboxIncident,
    OutboxWorker,
    OutboxWorkspace,
    WorkspaceState,
)
from .announce import announce_closed, announce_exhausted, announce_opened
from .backlog import oldest_of_groups
from .drift import describe_drift, drifting_clocks
from .missing import missing_workspaces

OBSERVE_INTERVAL = 10.0
"""Seconds of a process between two observations. A block that is shorter may be missed; it needs no attention."""

GONE_AFTER = {
    IncidentKind.WORKSPACE: timedelta(seconds=30),
    IncidentKind.GROUP: timedelta(seconds=30),
    IncidentKind.BACKLOG: timedelta(seconds=30),
    IncidentKind.NO_WORKER: timedelta(seconds=30),
    IncidentKind.SLOW_DATABASE: timedelta(minutes=2),
    IncidentKind.CLOCK: timedelta(minutes=15),
}
"""Time without the condition after which an incident ends.

Each process observes only its own slow statements and, every ten minutes, its own clock. So these last longer.
"""

MIN_FAILURES = 2
"""Failures in a row from which a workspace that backs off is an incident. A single failed request is not."""

EXHAUSTED_STATES = (WorkspaceState.PAUSED, WorkspaceState.NO_CREDITS, WorkspaceState.RESTORED)
"""States of a workspace that usually last until a person has corrected something."""

EXHAUSTED_PROBES = 3
"""Probes of a paused group that were refused, from which on it probably does not recover by itself."""

WORKERS_KEPT = timedelta(days=1)
"""Time after which the row of a process that was not seen is deleted."""

ROWS_PER_RUN = 500
"""Old incidents and heartbeats that one run deletes."""


class Condition(NamedTuple):
    """Something that needs attention now.

    ``peak`` is its figure: seconds or a number, depending on the kind. ``is_exhausted`` is true for a workspace or a
    group that probably does not recover without a person.
    """

    kind: IncidentKind
    workspace: str
    subject: str
    reason: str
    peak: float | None = None
    is_exhausted: bool = False

    def to_incident(self, now: datetime) -> OutboxIncident:
        """Return the incident that this condition begins; it is not saved yet."""
        figures = {"workspace": self.workspace, "subject": self.subject, "peak": self.peak}
        return OutboxIncident(kind=self.kind, started_at=now, reason=self.reason, **figures)

    @property
    def key(self) -> tuple[str, str, str]:
        """Return what an incident has in common with its condition."""
        return (self.kind.value, self.workspace, self.subject)


_observed_at: dict[str, float] = {}
"""Database alias → when this process observed it last, on the monotonic clock."""


def observe_sometimes(using: str, clock: Clock) -> bool:
    """Call :func:`observe` if this process has not done so for ``OBSERVE_INTERVAL`` seconds. Return whether it has."""
    now = time.monotonic()
    if now - _observed_at.get(using, float("-inf")) < OBSERVE_INTERVAL:
        return False
    _observed_at[using] = now
    observe(using, clock)
    return True


def observe(using: str, clock: Clock) -> None:
    """Begin, continue and end the incidents of a database, according to the conditions of this moment."""
    now, rows = clock.now(), OutboxIncident.objects.using(using)
    known = {(row.kind, row.workspace, row.subject): row for row in rows.open()}
    for condition in find_conditions(using, now):
        incident = known.get(condition.key)
        if incident is None:
            incident = condition.to_incident(now)
            if not rows.begin(incident, now):
                continue
            announce_opened(using, incident)
        elif rows.see_again(incident.pk, at=now, reason=condition.reason, peak=condition.peak):
            incident.last_seen_at, incident.reason = now, condition.reason
        if condition.is_exhausted and not incident.exhausted_at and rows.exhaust(incident.pk, now):
            announce_exhausted(using, incident)
    for incident in known.values():
        is_gone = now - incident.last_seen_at > GONE_AFTER[IncidentKind(incident.kind)]
        if is_gone and rows.end(incident.pk, incident.last_seen_at):
            announce_closed(using, incident, incident.last_seen_at)


def remember_silence(using: str, last_seen: datetime, now: datetime) -> None:
    """Store that no process worked from ``last_seen`` until now. No process could observe it meanwhile."""
    reason = "No process sent a heartbeat, so nothing was sent. Records waited."
    seconds = (now - last_seen).total_seconds()
    row = OutboxIncident(kind=IncidentKind.NO_WORKER, started_at=last_seen, reason=reason, peak=seconds)
    if OutboxIncident.objects.using(using).begin(row, now):
        announce_opened(using, row)


def find_conditions(using: str, now: datetime) -> Iterator[Condition]:
    """Yield what needs attention in a database now."""
    settings = get_settings()
    yield from _blocked_workspaces(using, settings)
    yield from _missing_workspaces(using)
    yield from _paused_groups(using, settings)
    for name in sorted(find_waiting_work(using).pending & settings.workspaces.keys()):
        yield from _backlog(using, name, settings.max_lag, now)
    for name, seconds in drifting_clocks(using).items():
        yield Condition(IncidentKind.CLOCK, "", name, describe_drift(using, seconds), abs(seconds))
    if statements := take_slow_statements(using):
        yield _slow_statements(statements)


def _blocked_workspaces(using: str, settings: Settings) -> Iterator[Condition]:
    # The names are compared here. As parameters of a statement, thousands would be too many for a database.
    rows = OutboxWorkspace.objects.using(using).exclude(state=WorkspaceState.ACTIVE)
    for row in rows.defer("run_queue", "arrival_rates"):
        is_isolated_failure = row.state == WorkspaceState.BACKING_OFF and row.failures < MIN_FAILURES
        if is_isolated_failure or row.pk not in settings.workspaces:
            continue
        reason = f"{row.get_state_display()}: {row.reason}"
        is_exhausted = row.state in EXHAUSTED_STATES
        yield Condition(IncidentKind.WORKSPACE, row.pk, "", reason, row.failures, is_exhausted)


def _missing_workspaces(using: str) -> Iterator[Condition]:
    for name, rows in missing_workspaces(using).items():
        reason = (
            f"The settings do not have it any more, and {rows['pending']:,} pending records and "
            f"{rows['open_batches']:,} open batches wait."
        )
        yield Condition(IncidentKind.WORKSPACE, name, "", reason, rows["pending"], is_exhausted=True)


def _paused_groups(using: str, settings: Settings) -> Iterator[Condition]:
    rows = OutboxGroup.objects.using(using).exclude(state__in=(GroupState.SUSPECTED, GroupState.CLEARED))
    for row in rows:
        if row.workspace not in settings.workspaces:
            continue
        is_exhausted = row.probes >= EXHAUSTED_PROBES
        yield Condition(IncidentKind.GROUP, row.workspace, str(row), row.reason, row.records, is_exhausted)


def _backlog(using: str, workspace: str, max_lag: float, now: datetime) -> Iterator[Condition]:
    oldest = next(iter(oldest_of_groups(using, workspace)), None)
    seconds = (now - oldest.enqueued_at).total_seconds() if oldest else 0.0
    if oldest and seconds > max_lag:
        reason = f"The oldest record of {oldest.type} · {oldest.product_id} waits longer than MAX_LAG."
        yield Condition(IncidentKind.BACKLOG, workspace, "", reason, seconds)


def _slow_statements(statements: list[SlowStatement]) -> Condition:
    slowest = max(statements, key=lambda statement: statement.seconds)
    reason = f"{len(statements)} slow statements; the slowest took {slowest.seconds:.1f} s: {slowest.text}"
    return Condition(IncidentKind.SLOW_DATABASE, "", "", reason, slowest.seconds)


def forget(using: str, now: datetime, kept: timedelta) -> int:
    """Delete ended incidents older than ``kept`` and the heartbeats of processes that are gone; return how many."""
    old_incidents = OutboxIncident.objects.using(using).filter(ended_at__lt=now - kept)
    old_workers = OutboxWorker.objects.using(using).filter(last_seen_at__lt=now - WORKERS_KEPT)
    return sum(_delete_some(rows) for rows in (old_incidents, old_workers))


def _delete_some(rows: QuerySet[Any]) -> int:
    pks = list(rows.order_by().values_list("pk", flat=True)[:ROWS_PER_RUN])
    return rows.model._default_manager.using(rows.db).filter(pk__in=pks).delete()[0] if pks else 0

"""Translate the figures of the overview into samples, and add the few that only alerts need.

The overview reads a bounded number of rows, so a scrape does not become slower with the tables. A metric therefore has
the same value as the page of the admin, and its help says which window it counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Min

from ..conf import get_settings
from ..insight import KINDS, Overview, Precision, WorkspaceFigures, collect_overview
from ..models import (
    BatchState,
    IncidentKind,
    OperationState,
    OutboxAttempt,
    OutboxBatch,
    OutboxDeferral,
    OutboxOperation,
    OutboxRejection,
    OutboxRule,
    OutboxWorkspace,
    RuleAction,
    WorkspaceState,
)
from ..monitoring import measure_drift, missing_workspaces, oldest_of_groups
from .by_label import read_by_label
from .definitions import Sample

HOUR = timedelta(hours=1)

MAX_REJECTIONS, MAX_CODES = 10_000, 20
"""Newest rejections that are read for the last hour, and the codes that are told apart."""

MAX_HELD = 100_000
"""Records that standing rules hold, of which no more are counted."""

MAX_ATTEMPTS = 2_000
"""Newest attempts whose durations are measured."""

QUANTILES = (0.5, 0.95)

OPERATION_STATES = (
    OperationState.COLLECTING,
    OperationState.READY,
    OperationState.RUNNING,
    OperationState.PAUSED,
    OperationState.FAILED,
)
OPEN_STATES = (
    BatchState.SEALED,
    BatchState.SENDING,
    BatchState.IN_DOUBT,
    BatchState.ACCEPTED,
    BatchState.ISOLATING,
)


def read_samples(using: str) -> Iterator[Sample]:
    """Yield all figures of a database. The database is the first label of each."""
    overview = collect_overview(using)
    for figures in overview.workspaces:
        yield from _workspace(using, figures)
    yield from _missing_workspaces(using, overview.at)
    yield from _problems(using, overview)
    yield from _workers(using, overview)
    yield from _rejections(using, overview)
    yield from _operations(using)
    yield from _rules(using)
    yield from read_by_label(using)
    yield from _rows_of_workspaces(using)
    yield from _in_doubt(using, overview.at)
    yield from _durations(using)
    for clock, seconds in measure_drift(using).items():
        if seconds is not None:
            yield Sample("clock_drift_seconds", (using, clock), seconds)


# --- from the overview --------------------------------------------------------------------------------


def _workspace(using: str, figures: WorkspaceFigures) -> Iterator[Sample]:
    where = (using, figures.name)
    oldest = figures.oldest_unsent
    yield Sample("pending_records", where, figures.pending.value)
    yield Sample("pending_records_exact", where, figures.pending.precision is Precision.EXACT)
    yield Sample("pending_groups", where, figures.group_count.value)
    yield Sample("lag_seconds", where, oldest.seconds if oldest else 0.0)
    yield Sample("in_flight_records", where, figures.records_in_flight)
    yield Sample("accepted_records", where, figures.records_last_minute)
    yield Sample("delivered_records", where, figures.delivered_last_hour)
    yield Sample("rate_limit_used_ratio", where, figures.limit_used)
    if figures.drained_in_seconds is not None:
        yield Sample("drain_estimate_seconds", where, figures.drained_in_seconds)
    yield Sample("attachments", (*where, "in_progress"), figures.attachments_in_progress)
    yield Sample("attachments", (*where, "failed"), figures.attachments_failed)
    for state in WorkspaceState:
        yield Sample("workspace_state", (*where, state.value), state.value == figures.state)
    for batch_state in OPEN_STATES:
        in_state = figures.in_flight.get(batch_state.value)
        yield Sample("batches", (*where, batch_state.value), in_state.batches if in_state else 0)
    for row in figures.attempts:
        yield Sample("requests", (*where, row.call, row.outcome, str(row.status or "")), row.count)


def _missing_workspaces(using: str, now: datetime) -> Iterator[Sample]:
    """Yield the backlog of workspaces that the settings do not have any more, so that alerts see it."""
    for name, rows in missing_workspaces(using).items():
        oldest = next(iter(oldest_of_groups(using, name)), None)
        yield Sample("pending_records", (using, name), rows["pending"])
        yield Sample(
            "lag_seconds", (using, name), (now - oldest.enqueued_at).total_seconds() if oldest else 0.0
        )
        for state in WorkspaceState:
            yield Sample("workspace_state", (using, name, state.value), state is WorkspaceState.PAUSED)


def _problems(using: str, overview: Overview) -> Iterator[Sample]:
    failures = Counter(problem.kind for problem in overview.problems if problem.is_failure)
    for kind in KINDS:
        yield Sample("problems", (using, kind), failures[kind])
    incidents = Counter(incident.kind for incident in overview.incidents if incident.ended_at is None)
    for each in IncidentKind:
        yield Sample("open_incidents", (using, each.value), incidents[each.value])


def _workers(using: str, overview: Overview) -> Iterator[Sample]:
    """Yield the number of workers, and their silence: the lag, if no worker was ever seen."""
    last_seen = overview.workers.last_seen_at
    if last_seen:
        silence = max((overview.at - last_seen).total_seconds(), 0.0)
    else:
        oldest = [each.oldest_unsent.seconds for each in overview.workspaces if each.oldest_unsent]
        silence = max(oldest, default=0.0)
    yield Sample("workers", (using,), overview.workers.at_work)
    yield Sample("worker_silence_seconds", (using,), silence)


def _rejections(using: str, overview: Overview) -> Iterator[Sample]:
    total = overview.rejections.total
    yield Sample("rejected_records", (using,), total.value)
    yield Sample("rejected_records_exact", (using,), total.precision is Precision.EXACT)
    newest = OutboxRejection.objects.using(using).order_by("-pk").values_list("code", "rejected_at")
    codes = Counter(code for code, at in newest[:MAX_REJECTIONS] if overview.at - at <= HOUR)
    most_common = codes.most_common(MAX_CODES)
    for code, count in most_common:
        yield Sample("rejections", (using, code), count)
    if others := codes.total() - sum(count for _, count in most_common):
        yield Sample("rejections", (using, "other"), others)


# --- what only alerts need ----------------------------------------------------------------------------


def _operations(using: str) -> Iterator[Sample]:
    rows = OutboxOperation.objects.using(using).filter(state__in=OPERATION_STATES).order_by()
    counts: Mapping[str, int] = dict(rows.values_list("state").annotate(Count("pk")))
    for state in OPERATION_STATES:
        yield Sample("operations", (using, state.value), counts.get(state.value, 0))


def _rules(using: str) -> Iterator[Sample]:
    counts = Counter(OutboxRule.objects.using(using).active().order_by().values_list("action", flat=True))
    for action in RuleAction:
        yield Sample("rules", (using, action.value), counts[action.value])
    held = OutboxDeferral.objects.using(using).filter(rule_id__isnull=False).order_by()
    yield Sample("rule_held_records", (using,), held.values("pk")[:MAX_HELD].count())


def _rows_of_workspaces(using: str) -> Iterator[Sample]:
    names = list(get_settings().workspaces)
    rows = OutboxWorkspace.objects.using(using).filter(pk__in=names)
    known = {name: counts for name, *counts in rows.values_list("pk", "failures", "batch_count")}
    for name in names:
        failures, batch_count = known.get(name, (0, 0))
        yield Sample("workspace_failures", (using, name), failures)
        yield Sample("sealed_batches_total", (using, name), batch_count)


def _in_doubt(using: str, now: datetime) -> Iterator[Sample]:
    rows = OutboxBatch.objects.using(using).filter(state=BatchState.IN_DOUBT).order_by()
    oldest = dict(rows.values_list("workspace").annotate(Min("sealed_at")))
    for name in get_settings().workspaces:
        seconds = (now - oldest.get(name, now)).total_seconds()
        yield Sample("in_doubt_seconds", (using, name), max(seconds, 0.0))


def _durations(using: str) -> Iterator[Sample]:
    rows: Any = OutboxAttempt.objects.using(using).exclude(seconds=None).order_by("-pk")
    durations: dict[str, list[float]] = {}
    for workspace, seconds in rows.values_list("workspace", "seconds")[:MAX_ATTEMPTS]:
        durations.setdefault(workspace, []).append(seconds)
    for workspace, values in durations.items():
        values.sort()
        for quantile in QUANTILES:
            value = values[min(int(quantile * len(values)), len(values) - 1)]
            yield Sample("request_duration_seconds", (using, workspace, str(quantile)), value)

"""Watch the runs: workers count their records from time to time, store the result, and send the signals of a run.

A run is counted the more rarely the longer a count takes, so that a large run costs little. Without a run that is
watched, this is one SELECT every few seconds.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any

from ..models import OutboxRun
from ..signals import run_finished, run_needs_person
from .counts import RunStatus, count_records, status_of
from .handle import Run, as_handle

LOOK_INTERVAL = 2.0
"""Seconds between two looks of a process for a run that is due."""

SHARE = 0.02
"""Share of the time that counting may take: of one run, and of one process."""

MIN_INTERVAL = timedelta(seconds=5)
"""Time between two counts of a run that is not finished."""

RARE_INTERVAL = timedelta(minutes=1)
"""Time between two counts of a finished run with rejected records: a person may retry them."""

LATE_COMMIT = timedelta(minutes=10)
"""Time after which a finished run is counted once more. A transaction may have committed records of it meanwhile."""

CLAIM = timedelta(minutes=2)
"""For how long a process has a run for itself. If it dies, another process counts the run after this time."""

MAX_POINTS = 200
"""Points of the plot of a run."""

_next_look: dict[str, float] = {}
"""Database alias → when this process looks for a due run again, on the monotonic clock."""


def watch_runs(using: str, now: datetime) -> Run | None:
    """Count the run that is due for the longest time; return it. Return None if none is due, or after a recent look."""
    started = time.monotonic()
    if started < _next_look.get(using, 0.0):
        return None
    _next_look[using] = started + LOOK_INTERVAL
    row = OutboxRun.objects.using(using).claim_due(now, now + CLAIM)
    if row is None:
        return None
    status = status_of(row, count_records(using, row.pk))
    took = time.monotonic() - started
    _next_look[using] = time.monotonic() + took / SHARE
    _announce(using, row, status)
    _store(using, row, status, now, timedelta(seconds=took / SHARE))
    return as_handle(row, using)


def _announce(using: str, row: OutboxRun, status: RunStatus) -> None:
    """Send the signals before the row says so: a crash between them repeats a signal, and loses none."""
    event: dict[str, Any] = {
        "workspace": row.workspace,
        "run": as_handle(row, using),
        "counts": status.counts,
        "is_clean": status.is_clean,
    }
    if status.rejected and row.needs_person_since is None:
        run_needs_person.send_robust(OutboxRun, using=using, **event)
    # A transaction may have added records to a run that was closed; the counts that were sent lack them.
    has_joined = status.total != sum(row.counts.values())
    if status.is_finished and (row.finished_at is None or has_joined):
        run_finished.send_robust(OutboxRun, using=using, **event)


def _store(using: str, row: OutboxRun, status: RunStatus, now: datetime, rest: timedelta) -> None:
    finished_at = (row.finished_at or now) if status.is_finished else None
    OutboxRun.objects.using(using).record_count(
        row,
        counts={state: count for state, count in status.counts.items() if count},
        history=_with_point(row, status, now),
        counted_at=now,
        finished_at=finished_at,
        needs_person_since=(row.needs_person_since or now) if status.rejected else None,
        count_at=_next_count(status, finished_at, now, rest),
    )


def _with_point(row: OutboxRun, status: RunStatus, now: datetime) -> list[list[float]]:
    """Return the history with this count. Every second point is left out when there are too many."""
    points = row.history or [[row.started_at.timestamp(), 0, 0]]
    point = [now.timestamp(), status.ended, status.total]
    # Of points with the same counts, the first and the last are enough for a straight line.
    if len(points) > 1 and points[-1][1:] == points[-2][1:] == point[1:]:
        points = points[:-1]
    if len(points) >= MAX_POINTS:
        points = points[::2]
    return [*points, point]


def _next_count(
    status: RunStatus, finished_at: datetime | None, now: datetime, rest: timedelta
) -> datetime | None:
    """Return when the run is counted again; None if nothing can change any more."""
    if finished_at is None:
        return now + max(MIN_INTERVAL, rest)
    if status.rejected:
        return now + max(RARE_INTERVAL, rest)
    return finished_at + LATE_COMMIT if now < finished_at + LATE_COMMIT else None

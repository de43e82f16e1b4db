"""Measure the pressure: the requests that go before a new record, and the rate at which they leave.

Counting stops at a limit. The rest of a longer backlog is extrapolated from the times of its records, so a measurement
costs about the same with a million pending records.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta

from ..conf import Workspace, get_settings
from ..delivery.scanning import count_pending_of_groups, read_enqueued_at, read_oldest_of_groups
from ..delivery.scheduling import Group, RunQueue
from ..models import (
    SENDABLE,
    BatchState,
    OutboxBatch,
    OutboxGroup,
    OutboxRecord,
    OutboxWorkspace,
    WorkspaceState,
)
from .figures import Pressure

MAX_GROUPS = 200
"""Groups that are read."""

MAX_COUNTED = 50_000
"""Records that are counted in all groups together. That takes about 10 ms."""

MIN_COUNTED = 2_000
"""Records that are counted in each group at least: two full requests."""

MAX_EXTRAPOLATED = 8
"""Groups of which the rest is extrapolated. It takes one query for each; the others count as far as counted."""

NO_END = (WorkspaceState.PAUSED, WorkspaceState.NO_CREDITS, WorkspaceState.RESTORED, WorkspaceState.HELD)
"""States that last until a person or Evermuse changes something."""


def measure(using: str, workspace: Workspace, now: datetime) -> Pressure:
    """Return how long a record that is enqueued at ``now`` will probably wait, by a few queries."""
    rows = OutboxWorkspace.objects.using(using).defer("arrival_rates")
    row = rows.filter(pk=workspace.name).first() or OutboxWorkspace(name=workspace.name)
    pending = _count(using, workspace.name, now)
    queue, settings = RunQueue.from_json(row.run_queue), get_settings()
    requests = _unsent(using, workspace.name) + sum(
        math.ceil(count / queue.full_size(group, settings.max_batch_records))
        for group, count in pending.items()
    )
    records = sum(pending.values())
    if row.state in NO_END:
        return Pressure(None, requests, records, f"the workspace is {row.get_state_display()}: {row.reason}")
    blocked = max((row.blocked_until - now) / timedelta(seconds=1), 0.0) if row.blocked_until else 0.0
    return Pressure(
        blocked + requests / workspace.total_rate, requests, records, _reason(row, blocked, requests)
    )


def _reason(row: OutboxWorkspace, blocked: float, requests: int) -> str:
    causes = [f"the workspace is {row.get_state_display()} for {blocked:,.0f} s"] if blocked else []
    if requests:
        causes.append(f"about {requests:,} requests go before")
    return ", and ".join(causes) + "." if causes else ""


def _unsent(using: str, workspace: str) -> int:
    states = (*SENDABLE, BatchState.SENDING)
    return OutboxBatch.objects.using(using).filter(workspace=workspace, state__in=states).count()


def _count(using: str, workspace: str, now: datetime) -> dict[Group, int]:
    """Return about how many records of each group wait to be sent. Those of paused groups are not sent."""
    paused = set(OutboxGroup.objects.using(using).paused(workspace).values_list("type", "product_id"))
    groups = [
        row.group for row in read_oldest_of_groups(using, workspace, MAX_GROUPS) if row.group not in paused
    ]
    if not groups:
        return {}
    limit = max(MIN_COUNTED, MAX_COUNTED // len(groups))
    counted = count_pending_of_groups(using, workspace, dict.fromkeys(groups, limit), {})
    counts = {group: count.records for group, count in counted.items()}
    full = [group for group, count in counts.items() if count >= limit][:MAX_EXTRAPOLATED]
    oldest = {group: counted[group].enqueued_at for group in full}
    return counts | _extrapolate(using, workspace, {group: oldest[group] or now for group in full}, limit)


def _extrapolate(
    using: str, workspace: str, oldest: Mapping[Group, datetime], limit: int
) -> dict[Group, int]:
    """Return how many records each group has, if they came at the rate of the ``limit`` oldest ones."""
    counts = {}
    last_counted = read_enqueued_at(using, workspace, [(group, limit - 1) for group in oldest])
    for (group, first), last in zip(oldest.items(), last_counted, strict=True):
        rows = (
            OutboxRecord.rows.using(using).pending().group(workspace, *group).order_by("-enqueued_at", "-pk")
        )
        newest = rows.values_list("enqueued_at", flat=True).first()
        if last and newest and last > first:
            counts[group] = max(limit, round(limit * ((newest - first) / (last - first))))
    return counts

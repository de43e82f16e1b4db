"""Measure the pressure: the requests that go before a new record, and the rate at which they leave.

A group that lingers or rests is not sent now, so it counts only if its time comes before the others are sent. Counting
stops at a limit. The rest of a longer backlog is extrapolated from the ids of its records, so a measurement costs about
the same with a million pending records.

When missing workers come back is not known. The estimate is that they will be missing for as long as they have been: so
a limit of the host is reached when they have been missing for about that time, and not at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta

from ..conf import Workspace, get_settings
from ..delivery.scanning import (
    PendingCount,
    count_pending_of_groups,
    read_oldest_of_groups,
)
from ..delivery.scheduling import Group, RunQueue, seconds_to_linger
from ..models import (
    SENDABLE,
    BatchState,
    OutboxBatch,
    OutboxGroup,
    OutboxRecord,
    OutboxWorker,
    OutboxWorkspace,
    WorkspaceState,
)
from ..monitoring import MISSING_AFTER
from .figures import Pressure

MAX_GROUPS = 200
"""Groups that are read."""

MAX_COUNTED = 50_000
"""Records that are counted in all groups together. That takes about 10 ms."""

MIN_COUNTED = 2_000
"""Records that are counted in each group at least: two full requests."""

MAX_EXTRAPOLATED = 8
"""Groups of which the rest is extrapolated. It takes three queries for each; the others count as far as counted."""

NO_END = (WorkspaceState.PAUSED, WorkspaceState.NO_CREDITS, WorkspaceState.RESTORED, WorkspaceState.HELD)
"""States that last until a person or Evermuse changes something."""


def measure(using: str, workspace: Workspace, now: datetime) -> Pressure:
    """Return how long a record that is enqueued at ``now`` will probably wait, by a few queries."""
    rows = OutboxWorkspace.objects.using(using).defer("arrival_rates")
    row = rows.filter(pk=workspace.name).first() or OutboxWorkspace(name=workspace.name)
    pending = _count(using, workspace.name)
    records = sum(count.records for count in pending.values())
    unsent, rate = _unsent(using, workspace.name), workspace.total_rate
    requests = _requests_before(unsent, RunQueue.from_json(row.run_queue), pending, rate, now)
    if row.state in NO_END:
        return Pressure(None, requests, records, f"the workspace is {row.get_state_display()}: {row.reason}")
    blocked = max((row.blocked_until - now) / timedelta(seconds=1), 0.0) if row.blocked_until else 0.0
    causes = [f"the workspace is {row.get_state_display()} for {blocked:,.0f} s"] if blocked else []
    missing = 0.0
    last_seen = OutboxWorker.objects.using(using).last_seen()
    if last_seen is not None and now - last_seen > MISSING_AFTER:
        missing = (now - last_seen) / timedelta(seconds=1)
        causes.append(f"no worker was seen since {last_seen.isoformat(timespec='seconds')}")
    if requests:
        causes.append(f"about {requests:,} requests go before")
    reason = ", and ".join(causes) + "." if causes else ""
    return Pressure(max(blocked, missing) + requests / rate, requests, records, reason)


def _requests_before(
    unsent: int, queue: RunQueue, pending: Mapping[Group, PendingCount], rate: float, now: datetime
) -> int:
    """Return how many requests go before a new record.

    A group that fills no request may have to wait. Then it goes before only if the wait ends while others are sent.
    """
    settings, requests, waits = get_settings(), unsent, []
    for group, (records, oldest) in pending.items():
        full = records / queue.full_size(group, settings.max_batch_records)
        if full >= 1 or oldest is None:
            requests += math.ceil(full)
            continue
        if queue.is_resting(group, now.timestamp()):
            continue
        age, sealed_ago = (now - oldest) / timedelta(seconds=1), queue.sealed_ago(group, now.timestamp())
        waits.append(seconds_to_linger(settings.linger, age=age, sealed_ago=sealed_ago))
    for wait in sorted(waits):
        requests += wait <= requests / rate
    return requests


def _unsent(using: str, workspace: str) -> int:
    states = (*SENDABLE, BatchState.SENDING)
    return OutboxBatch.objects.using(using).filter(workspace=workspace, state__in=states).count()


def _count(using: str, workspace: str) -> dict[Group, PendingCount]:
    """Return about how many records of each group wait to be sent. Those of paused groups are not sent."""
    paused = set(OutboxGroup.objects.using(using).paused(workspace).values_list("type", "product_id"))
    groups = [
        row.group for row in read_oldest_of_groups(using, workspace, MAX_GROUPS) if row.group not in paused
    ]
    if not groups:
        return {}
    limit = max(MIN_COUNTED, MAX_COUNTED // len(groups))
    counted = count_pending_of_groups(using, workspace, dict.fromkeys(groups, limit), {})
    full = [group for group, count in counted.items() if count.records >= limit][:MAX_EXTRAPOLATED]
    for group in full:
        counted[group] = counted[group]._replace(records=_extrapolate(using, workspace, group, limit))
    return counted


def _extrapolate(using: str, workspace: str, group: Group, limit: int) -> int:
    """Return how many records a group has, if its share of all ids is everywhere that of the ``limit`` oldest ones.

    Times would mislead: a million records that were imported in a minute are no measure of the hour after it.
    """
    rows = OutboxRecord.rows.using(using).pending().group(workspace, *group)
    oldest = rows.order_by("enqueued_at", "pk").values_list("pk", flat=True)
    edges = [*oldest[:1], *oldest[limit - 1 : limit]]
    newest = rows.order_by("-enqueued_at", "-pk").values_list("pk", flat=True).first()
    if newest is None or len(edges) < 2 or edges[1] <= edges[0]:
        return limit
    return max(limit, round(limit * (newest - edges[0]) / (edges[1] - edges[0])))

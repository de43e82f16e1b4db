"""The figures of one workspace: its state, its backlog by group, and its traffic."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from django.db import connections
from django.db.models import Min

from ..conf import Workspace
from ..delivery.scanning import count_pending_of_groups, read_enqueued_at
from ..models import GroupState, OutboxGroup, OutboxRecord, OutboxWorkspace, WorkspaceState
from ..monitoring import OldestOfGroup, oldest_of_groups
from .explaining import explain_workspace
from .figures import Count, GroupBacklog, OldestUnsent, Precision, WorkspaceFigures
from .traffic import Traffic

MAX_COUNTED = 20_000
"""Pending records of a workspace that are counted exactly. Counting takes some milliseconds for this many."""

MAX_COUNTED_OF_GROUP = 5_000
"""Pending records of a group that are counted exactly, and among which the waiting times are measured."""

MAX_GROUPS = 10
"""Groups that are shown of each workspace: those that wait longest."""

MAX_SCANNED = 1_000
"""Groups among which these are chosen."""

MINUTE = 60.0
"""Seconds."""


def collect_workspace(
    using: str, workspace: Workspace, traffic: Mapping[str, Traffic], now: datetime
) -> WorkspaceFigures:
    """Return the figures of a workspace."""
    name, lately = workspace.name, traffic.get(workspace.name) or Traffic()
    row = _read_row(using, name)
    oldest = oldest_of_groups(using, name, MAX_SCANNED)
    pending = count_pending(using, name)
    is_partial = len(oldest) == MAX_SCANNED
    return WorkspaceFigures(
        name=name,
        state=row.state,
        reason=row.reason,
        blocked_until=row.blocked_until,
        explanation=explain_workspace(row),
        pending=pending,
        oldest_unsent=_oldest_unsent(using, oldest, lately.first_unsent_batch, now),
        records_last_minute=lately.records_last_minute,
        requests_last_minute=lately.requests_last_minute,
        limit_used=lately.requests_last_minute / (workspace.total_rate * MINUTE),
        drained_in_seconds=_drained_in(row, pending, lately.records_last_minute),
        delivered_by_minute=lately.delivered,
        in_flight=lately.in_flight,
        attempts=lately.attempts,
        attachments_in_progress=lately.attachments_in_progress,
        attachments_failed=lately.attachments_failed,
        groups=_backlogs(using, name, oldest[:MAX_GROUPS], now),
        group_count=Count(len(oldest), Precision.AT_LEAST if is_partial else Precision.EXACT),
    )


def count_pending(using: str, workspace: str) -> Count:
    """Return the number of pending records of a workspace.

    Above ``MAX_COUNTED`` it is an estimate on PostgreSQL, and a lower bound on other databases.
    """
    rows = OutboxRecord.rows.using(using).pending().filter(workspace=workspace).order_by()
    count = rows.values("pk")[: MAX_COUNTED + 1].count()
    if count <= MAX_COUNTED:
        return Count(count)
    estimate = _estimate_rows(using, rows)
    return (
        Count(estimate, Precision.ABOUT) if estimate > MAX_COUNTED else Count(MAX_COUNTED, Precision.AT_LEAST)
    )


def _estimate_rows(using: str, rows: object) -> int:
    """Return how many rows PostgreSQL's planner expects; 0 on other databases."""
    connection = connections[using]
    if connection.vendor != "postgresql":
        return 0
    sql, parameters = rows.values("pk").query.sql_with_params()  # type: ignore[attr-defined]
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}", parameters)
        (plan,) = cursor.fetchone()
    return int(plan[0]["Plan"]["Plan Rows"])


def _read_row(using: str, name: str) -> OutboxWorkspace:
    rows = OutboxWorkspace.objects.using(using).defer("run_queue", "arrival_rates")
    return rows.filter(pk=name).first() or OutboxWorkspace(name=name, state=WorkspaceState.ACTIVE)


def _oldest_unsent(
    using: str, groups: list[OldestOfGroup], batch: int | None, now: datetime
) -> OldestUnsent | None:
    """Return the record that waits longest: of the pending ones, and of the unsent batch that was sealed first."""
    waiting = [
        OldestUnsent(*group, max((now - group.enqueued_at).total_seconds(), 0.0)) for group in groups[:1]
    ]
    if batch:
        rows = OutboxRecord.rows.using(using).filter(batch=batch, closed_as__isnull=True).order_by()
        for kind, product, at in rows.values_list("type", "product_id").annotate(at=Min("enqueued_at")):
            seconds = max((now - at).total_seconds(), 0.0)
            waiting.append(OldestUnsent(kind, product, at, seconds, batch))
    return min(waiting, key=lambda record: record.enqueued_at, default=None)


def _drained_in(row: OutboxWorkspace, pending: Count, records_last_minute: int) -> float | None:
    if not pending:
        return 0.0
    if row.state != WorkspaceState.ACTIVE:
        return None
    return pending.value / records_last_minute * MINUTE if records_last_minute else None


def _backlogs(using: str, workspace: str, groups: list[OldestOfGroup], now: datetime) -> list[GroupBacklog]:
    """Return the number of pending records of each group, and how long they wait."""
    names = [(group.type, group.product_id) for group in groups]
    counts = count_pending_of_groups(using, workspace, dict.fromkeys(names, MAX_COUNTED_OF_GROUP + 1), {})
    known = [min(counts[name].records, MAX_COUNTED_OF_GROUP) if name in counts else 0 for name in names]
    # The oldest record is at position 0, so a tenth of the records waits longer than the one at a tenth.
    positions = [
        (name, int(count * share)) for name, count in zip(names, known, strict=True) for share in (0.5, 0.1)
    ]
    times = read_enqueued_at(using, workspace, positions)
    paused = _paused(using, workspace)
    return [
        _backlog(group, count, times[2 * number : 2 * number + 2], paused, now)
        for number, (group, count) in enumerate(
            zip(groups, (counts.get(name) for name in names), strict=True)
        )
        if count and count.records
    ]


def _backlog(
    group: OldestOfGroup,
    count: object,
    times: list[datetime | None],
    paused: set[tuple[str, str]],
    now: datetime,
) -> GroupBacklog:
    records: int = count.records  # type: ignore[attr-defined]
    is_counted = records <= MAX_COUNTED_OF_GROUP
    longest = max((now - group.enqueued_at).total_seconds(), 0.0)
    p50, p90 = (max((now - at).total_seconds(), 0.0) if at else longest for at in times)
    return GroupBacklog(
        type=group.type,
        product_id=group.product_id,
        pending=Count(records) if is_counted else Count(MAX_COUNTED_OF_GROUP, Precision.AT_LEAST),
        p50=p50,
        p90=p90,
        max=longest,
        is_paused=(group.type, group.product_id) in paused,
    )


def _paused(using: str, workspace: str) -> set[tuple[str, str]]:
    rows = OutboxGroup.objects.using(using).filter(workspace=workspace)
    stopped = rows.exclude(state__in=(GroupState.SUSPECTED, GroupState.CLEARED))
    return set(stopped.values_list("type", "product_id"))

"""The group scan: find the groups with pending records, the age of each, and those that fill a request.

A scan takes one step through the index of pending records for each group, however many records are pending. The cost of
a query with GROUP BY would grow with the backlog.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, NamedTuple

from django.conf import settings
from django.db import connections

from ...models import OutboxRecord, OutboxWorkspace
from ..context import DeliveryContext
from ..scheduling import (
    Group,
    GroupScan,
    ResumePoint,
    RunQueue,
    WaitingGroup,
    groups_to_count,
    max_queue_length,
)
from .sql import counts_query, groups_query, positions_query
from .sql_common import TABLE, CountedGroup, Query

MAX_GROUPS = 5_000
"""Groups that one scan reads at most. With more groups, the next scan continues after the last one."""

COUNTED_AT_ONCE = 16
"""Groups that are counted by one query. No more are counted once enough of them are full."""

EPOCH = datetime(1970, 1, 2, tzinfo=UTC)
"""Before any record was enqueued, in every time zone."""


class OldestRecord(NamedTuple):
    """A group and the oldest of its pending records."""

    group: Group
    at: ResumePoint


class PendingCount(NamedTuple):
    """The number of pending records of a group, and when the oldest of them was enqueued."""

    records: int
    enqueued_at: datetime | None


def scan_groups(context: DeliveryContext, queue: RunQueue, *, excluded: Collection[Group]) -> GroupScan:
    """Scan the groups of the workspace and learn their arrival rates. Needs the sealing lock.

    Args:
        context: the delivery context.
        queue: the run queue; its resume points, arrival rates and scan position are used and updated.
        excluded: groups that must not be sealed now.
    """
    workspaces = OutboxWorkspace.objects.using(context.using)
    queue.arrival_rates = workspaces.read_arrival_rates(context.workspace_name)
    started, now = context.clock.monotonic(), context.clock.now()
    oldest = {row.group: row.at for row in _read_oldest(context, queue) if row.group not in excluded}
    ages = {group: (now - at.enqueued_at) / timedelta(seconds=1) for group, at in oldest.items()}
    groups = queue.describe_groups(ages, context.settings.max_batch_records, now.timestamp())
    full = _count_full_requests(context, queue, groups, oldest, max_queue_length(context, queue))
    groups = [waiting._replace(full_requests=full.get(waiting.group, 0)) for waiting in groups]
    return GroupScan(groups, oldest, context.clock.monotonic() - started)


def read_groups(
    context: DeliveryContext, after: Group, limit: int, resume_points: Mapping[Group, ResumePoint]
) -> list[OldestRecord]:
    """Return the groups with pending records after the group ``after``, at most ``limit``, in the index's order."""
    return _read_groups(context.using, context.workspace_name, after, limit, resume_points)


def read_oldest_of_groups(using: str, workspace: str, limit: int) -> list[OldestRecord]:
    """Return the first ``limit`` groups with pending records, in the index's order, each with its oldest record."""
    return _read_groups(using, workspace, ("", ""), limit, {})


def _read_groups(
    using: str, workspace: str, after: Group, limit: int, resume_points: Mapping[Group, ResumePoint]
) -> list[OldestRecord]:
    query = groups_query(connections[using].vendor, workspace, after, limit, resume_points)
    parse = _datetime_parser(using)
    return [
        OldestRecord((kind, product), ResumePoint(parse(enqueued_at), pk))
        for kind, product, enqueued_at, pk in _rows(using, query)
        if enqueued_at is not None
    ]


def count_pending(
    context: DeliveryContext, limits: Mapping[Group, int], resume_points: Mapping[Group, ResumePoint]
) -> dict[Group, PendingCount]:
    """Count the pending records of each group from its resume point, up to the given limit, in one query."""
    return count_pending_of_groups(context.using, context.workspace_name, limits, resume_points)


def count_pending_of_groups(
    using: str, workspace: str, limits: Mapping[Group, int], resume_points: Mapping[Group, ResumePoint]
) -> dict[Group, PendingCount]:
    """Do what :func:`count_pending` does, without a delivery context."""
    if not limits:
        return {}
    beginning = ResumePoint(EPOCH if settings.USE_TZ else EPOCH.replace(tzinfo=None), 0)
    groups = list(limits)
    points = [resume_points.get(group, beginning) for group in groups]
    counted = [
        CountedGroup(*group, limits[group], _adapt_datetime(using, point.enqueued_at), point.pk)
        for group, point in zip(groups, points, strict=True)
    ]
    query = counts_query(connections[using].vendor, workspace, counted)
    parse = _datetime_parser(using)
    return {
        groups[position]: PendingCount(count, parse(enqueued_at))
        for position, count, enqueued_at in _rows(using, query)
    }


def read_enqueued_at(
    using: str, workspace: str, positions: Sequence[tuple[Group, int]]
) -> list[datetime | None]:
    """Return when the pending record at each position of its group was enqueued, the oldest at 0, in one query.

    It reads as many entries of the index as the positions say. The result is None behind the end of a group.
    """
    if not positions:
        return []
    query = positions_query(connections[using].vendor, workspace, positions)
    parse, times = _datetime_parser(using), dict(_rows(using, query))
    return [parse(times[number]) if number in times else None for number in range(len(positions))]


def _read_oldest(context: DeliveryContext, queue: RunQueue) -> list[OldestRecord]:
    """Return the oldest record of each group. With more than ``MAX_GROUPS``, continue where the last scan ended.

    Groups that were recently full are always among the result.
    """
    started, now = context.clock.monotonic(), context.clock.now().timestamp()
    points = queue.trusted_resume_points(now)
    rows = read_groups(context, queue.scan_after, MAX_GROUPS, points)
    if queue.scan_after != ("", "") and len(rows) < MAX_GROUPS:
        rows += read_groups(context, ("", ""), MAX_GROUPS - len(rows), points)
    queue.scan_after = rows[-1].group if len(rows) == MAX_GROUPS else ("", "")
    if not points:
        queue.full_scan_at, queue.full_scan_seconds = now, context.clock.monotonic() - started
    if queue.scan_after == ("", ""):
        return rows
    counts = count_pending(context, dict.fromkeys(queue.recently_full, 1), points)
    outside = [OldestRecord(group, ResumePoint(at, 0)) for group, (_, at) in counts.items() if at]
    return rows + outside


def _count_full_requests(
    context: DeliveryContext,
    queue: RunQueue,
    groups: list[WaitingGroup],
    oldest: Mapping[Group, ResumePoint],
    slots: int,
) -> dict[Group, int]:
    """Count the groups that are most likely full, until ``slots`` of them are; return their number of full requests."""
    ages = {waiting.group: waiting.age for waiting in groups}
    candidates = iter(groups_to_count(groups, start=queue.sample_start))
    full: dict[Group, int] = {}
    while len(full) < slots and (chunk := list(islice(candidates, COUNTED_AT_ONCE))):
        limits = queue.count_limits(chunk, context.settings.max_batch_records)
        counts = {group: count.records for group, count in count_pending(context, limits, oldest).items()}
        full |= queue.learn_counts(counts, ages, context.settings.max_batch_records, slots)
    queue.advance_sample()
    return full


def _rows(using: str, query: Query) -> list[Any]:
    statement, parameters = query
    with connections[using].cursor() as cursor:
        cursor.execute(statement, parameters)
        return list(cursor.fetchall())


def _adapt_datetime(using: str, value: datetime) -> Any:
    """Return the value as Django passes it to this database."""
    field = OutboxRecord._meta.get_field("enqueued_at")
    return field.get_db_prep_value(value, connection=connections[using])


def _datetime_parser(using: str) -> Any:
    """Return a function that converts this database's value as Django does."""
    connection = connections[using]
    field = OutboxRecord._meta.get_field("enqueued_at")
    column = field.get_col(TABLE)
    converters = [*connection.ops.get_db_converters(column), *field.get_db_converters(connection)]

    def parse(value: Any) -> Any:
        for convert in converters:
            value = convert(value, column, connection)
        return value

    return parse

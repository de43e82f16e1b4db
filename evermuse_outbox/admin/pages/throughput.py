"""Records delivered in the last hour, minute by minute, as numbers that the template draws."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Count, F, Subquery, Sum
from django.db.models.functions import Coalesce, TruncMinute

from ...database_clock import database_now
from ...models import BatchState, OutboxBatch

MINUTES = 60
"""Number of minutes, and of bars, in the drawing."""

MAX_BATCHES = 50_000
"""Maximum number of batches that the query reads: the newest. Ten requests per second send 36,000 in an hour."""

HEIGHT = 60.0
"""Height of the drawing in units of its SVG."""

BAR_STEP = 10.0
"""Distance between the bars of two minutes, in the same units."""

MIN_BAR_HEIGHT = 1.5
"""Minimum height of a bar, in the same units. A minute with few records then stays visible."""


@dataclass(frozen=True, slots=True)
class Minute:
    """The deliveries of one minute and their bar. ``x``, ``y`` and ``height`` are in units of the drawing."""

    at: datetime
    batches: int
    records: int
    x: float
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Throughput:
    """The deliveries of one hour: each minute, the sums, and the highest number of records in a minute."""

    minutes: Sequence[Minute]
    batches: int
    records: int
    highest: int


def throughput_of_last_hour(using: str | None, workspace: str | None = None) -> Throughput:
    """Return the deliveries of a workspace, or of all together, in the last hour. This costs one query.

    Args:
        using: Database alias; None for Django's default.
        workspace: Name of a workspace; None for all.
    """
    end = database_now(using).replace(second=0, microsecond=0)
    start = end - timedelta(minutes=MINUTES - 1)
    return draw_throughput(start, _count_by_minute(using, workspace, start))


def draw_throughput(start: datetime, counts: Iterable[tuple[datetime, int, int]]) -> Throughput:
    """Return the drawing of the hour from ``start``; ``counts`` are tuples of minute, batches and records."""
    by_minute = {at: (int(batches), int(records or 0)) for at, batches, records in counts}
    highest = max((records for _, records in by_minute.values()), default=0)
    minutes = [_draw_minute(index, start, by_minute, highest) for index in range(MINUTES)]
    batches, records = sum(m.batches for m in minutes), sum(m.records for m in minutes)
    return Throughput(minutes, batches, records, highest)


def _draw_minute(
    index: int, start: datetime, by_minute: Mapping[datetime, tuple[int, int]], highest: int
) -> Minute:
    at = start + timedelta(minutes=index)
    batches, records = by_minute.get(at, (0, 0))
    height = round(max(records / highest * HEIGHT, MIN_BAR_HEIGHT), 1) if records else 0.0
    return Minute(at, batches, records, index * BAR_STEP, round(HEIGHT - height, 1), height)


def _count_by_minute(using: str | None, workspace: str | None, start: datetime) -> Any:
    rows = OutboxBatch.objects.using(using)
    last = rows.order_by("-pk").values("pk")[:1]
    delivered = rows.filter(
        state=BatchState.COMPLETE, finished_at__gte=start, pk__gt=Subquery(last) - MAX_BATCHES
    )
    if workspace is not None:
        delivered = delivered.filter(workspace=workspace)
    # In UTC, because MariaDB supports other time zones only if its time zone tables are loaded.
    by_minute = delivered.order_by().values(minute=TruncMinute("finished_at", tzinfo=UTC))
    total = Sum(Coalesce(F("accepted_count"), F("record_count")))
    return by_minute.annotate(batch_total=Count("pk"), record_total=total).values_list(
        "minute", "batch_total", "record_total"
    )

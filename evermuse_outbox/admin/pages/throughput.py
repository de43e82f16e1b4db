"""What was delivered in the last hour, minute by minute: one bounded query, numbers for a drawing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Count, F, Subquery, Sum
from django.db.models.functions import Coalesce, TruncMinute
from django.utils import timezone

from ...models import BatchState, OutboxBatch

MINUTES = 60
NEWEST = 50_000
"""Batches that are looked at, the newest: more than ten a second give in an hour."""

HEIGHT = 60.0
STEP = 10.0


@dataclass(frozen=True, slots=True)
class Minute:
    """One bar of the drawing and what it stands for."""

    at: datetime
    batches: int
    records: int
    x: float
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Hour:
    """The last hour: its minutes, its sums, and the highest minute."""

    minutes: Sequence[Minute]
    batches: int
    records: int
    highest: int


def last_hour(using: str | None, workspace: str | None = None) -> Hour:
    """What was delivered, by one workspace or by all."""
    end = timezone.now().replace(second=0, microsecond=0)
    start = end - timedelta(minutes=MINUTES - 1)
    return hour(start, _counted(using, workspace, start))


def hour(start: datetime, counted: Iterable[tuple[datetime, int, int]]) -> Hour:
    """The drawing of ``counted``: minute, batches, records."""
    found = {at: (int(batches), int(records or 0)) for at, batches, records in counted}
    highest = max((records for _, records in found.values()), default=0)
    minutes = [_minute(index, start + timedelta(minutes=index), found, highest) for index in range(MINUTES)]
    batches, records = sum(m.batches for m in minutes), sum(m.records for m in minutes)
    return Hour(minutes, batches, records, highest)


def _minute(index: int, at: datetime, found: dict[datetime, tuple[int, int]], highest: int) -> Minute:
    batches, records = found.get(at, (0, 0))
    height = round(max(records / highest * HEIGHT, 1.5), 1) if records else 0.0
    return Minute(at, batches, records, index * STEP, round(HEIGHT - height, 1), height)


def _counted(using: str | None, workspace: str | None, start: datetime) -> Any:
    rows = OutboxBatch.objects.using(using)
    last = rows.order_by("-pk").values("pk")[:1]
    done = rows.filter(state=BatchState.COMPLETE, finished_at__gte=start, pk__gt=Subquery(last) - NEWEST)
    if workspace is not None:
        done = done.filter(workspace=workspace)
    # In UTC, as MariaDB knows other time zones only where their tables are loaded.
    by_minute = done.order_by().values(minute=TruncMinute("finished_at", tzinfo=UTC))
    total = Sum(Coalesce(F("accepted_count"), F("record_count")))
    return by_minute.annotate(batch_total=Count("pk"), record_total=total).values_list(
        "minute", "batch_total", "record_total"
    )

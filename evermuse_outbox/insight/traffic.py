"""Read what happened lately in all workspaces: requests, deliveries and unfinished batches, each by one query."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Count, F, Min, Q, Subquery, Sum
from django.db.models.functions import Coalesce, TruncMinute

from ..models import BatchState, OutboxAttempt, OutboxBatch
from .figures import AttemptCount, InFlight

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)

MINUTES = 60
"""Minutes of the plot."""

MAX_BATCHES = 50_000
"""Newest batches among which deliveries are counted. Ten requests per second send 36,000 in an hour."""


@dataclass(slots=True)
class Traffic:
    """What happened in one workspace."""

    attempts: list[AttemptCount] = field(default_factory=list)
    requests_last_minute: int = 0
    records_last_minute: int = 0
    delivered: list[int] = field(default_factory=lambda: [0] * MINUTES)
    in_flight: dict[str, InFlight] = field(default_factory=dict)
    first_unsent_batch: int | None = None
    attachments_in_progress: int = 0
    attachments_failed: int = 0


def read_traffic(using: str, now: datetime) -> dict[str, Traffic]:
    """Return the traffic of each workspace that had any."""
    traffic: defaultdict[str, Traffic] = defaultdict(Traffic)
    _read_attempts(using, now, traffic)
    _read_last_minute(using, now, traffic)
    _read_deliveries(using, now, traffic)
    _read_unfinished(using, traffic)
    _read_attachments(using, traffic)
    return traffic


def _read_attempts(using: str, now: datetime, traffic: dict[str, Traffic]) -> None:
    rows = OutboxAttempt.objects.using(using).filter(started_at__gte=now - HOUR).order_by()
    counted = rows.values_list("workspace", "call", "outcome", "status").annotate(n=Count("pk"))
    for workspace, call, outcome, status, count in counted:
        traffic[workspace].attempts.append(AttemptCount(call, outcome, status, count))
    for figures in traffic.values():
        figures.attempts.sort(key=lambda row: (row.call, -row.count, row.outcome, row.status or 0))


def _read_last_minute(using: str, now: datetime, traffic: dict[str, Traffic]) -> None:
    rows = OutboxAttempt.objects.using(using).filter(started_at__gte=now - MINUTE).order_by()
    is_accepted = Q(call=OutboxAttempt.Call.INGEST, outcome="accepted")
    counted = rows.values("workspace").annotate(
        requests=Count("pk"), accepted=Sum("batch__record_count", filter=is_accepted)
    )
    for row in counted:
        figures = traffic[row["workspace"]]
        figures.requests_last_minute, figures.records_last_minute = row["requests"], int(row["accepted"] or 0)


def _read_deliveries(using: str, now: datetime, traffic: dict[str, Traffic]) -> None:
    rows, start = OutboxBatch.objects.using(using), _first_minute(now)
    newest = rows.order_by("-pk").values("pk")[:1]
    done = rows.filter(
        state=BatchState.COMPLETE, finished_at__gte=start, pk__gt=Subquery(newest) - MAX_BATCHES
    )
    # In UTC, because MariaDB supports other time zones only if its time zone tables are loaded.
    by_minute = done.order_by().values("workspace", minute=TruncMinute("finished_at", tzinfo=_utc(now)))
    for row in by_minute.annotate(
        accepted=Sum(Coalesce(F("accepted_count"), F("record_count"))), failed=Sum("attachment_failed")
    ):
        figures, number = traffic[row["workspace"]], (row["minute"] - start) // MINUTE
        if 0 <= number < MINUTES:
            figures.delivered[number] += int(row["accepted"] or 0)
            figures.attachments_failed += int(row["failed"] or 0)


def _first_minute(now: datetime) -> datetime:
    return now.replace(second=0, microsecond=0) - (MINUTES - 1) * MINUTE


def _utc(now: datetime) -> Any:
    """Return UTC; None if the project has no time zones (``USE_TZ = False``)."""
    return UTC if now.tzinfo else None


def _read_unfinished(using: str, traffic: dict[str, Traffic]) -> None:
    rows = OutboxBatch.objects.using(using).open().order_by()
    counted = rows.values_list("workspace", "state").annotate(
        batches=Count("pk"), members=Sum("record_count"), first=Min("pk")
    )
    for workspace, state, batches, records, first in counted:
        figures = traffic[workspace]
        figures.in_flight[state] = InFlight(batches, int(records or 0))
        if state != BatchState.ACCEPTED:
            figures.first_unsent_batch = min(figures.first_unsent_batch or first, first)


def _read_attachments(using: str, traffic: dict[str, Traffic]) -> None:
    rows = OutboxBatch.objects.using(using).filter(next_poll_at__isnull=False, attachment_total__gt=0)
    # MariaDB refuses a negative difference of unsigned columns, so the difference is made of sums.
    for row in (
        rows.order_by()
        .values("workspace")
        .annotate(
            total=Sum("attachment_total"),
            complete=Sum("attachment_complete"),
            failed=Sum("attachment_failed"),
        )
    ):
        done = int(row["complete"] or 0) + int(row["failed"] or 0)
        traffic[row["workspace"]].attachments_in_progress = max(int(row["total"] or 0) - done, 0)

"""Collect the figures of the overview: is something wrong, since when, and does it recover by itself.

Every figure has its window in the docstring of its class: now, the last hour, or all time. Each query reads a bounded
number of rows, so the overview does not become slower with the table.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count as CountOf
from django.db.models import Max, Q

from ..conf import get_settings
from ..database_clock import database_now
from ..models import (
    OperationState,
    OutboxIncident,
    OutboxOperation,
    OutboxRecord,
    OutboxRejection,
    OutboxRun,
    OutboxWorker,
    RecordState,
    is_last_rejection,
)
from ..monitoring import MISSING_AFTER
from ..runs import status_of
from .figures import (
    Count,
    Incident,
    Job,
    Precision,
    RejectionGroup,
    Rejections,
    RunFigures,
    Worker,
    Workers,
    WorkspaceFigures,
    to_json,
)
from .problems import Problem, find_problems, find_unbuilt_indexes
from .traffic import read_traffic
from .workspaces import collect_workspace

MAX_WORKERS = 50
"""Processes that are listed."""

MAX_INCIDENTS = 100
"""Incidents that are listed: all open ones, and the latest of the last day."""

UNFINISHED = (
    OperationState.COLLECTING,
    OperationState.READY,
    OperationState.RUNNING,
    OperationState.PAUSED,
)
"""States of a job that is not over."""

MAX_JOBS = 20
"""Jobs that are listed."""

MAX_RUNS = 20
"""Runs that are listed."""

MAX_REJECTIONS = 10_000
"""Newest rejections that are grouped. Grouping takes some milliseconds for each thousand."""

MAX_COUNTED_REJECTED = 50_000
"""Rejected records that are counted exactly."""

MAX_REJECTION_GROUPS = 20
"""Groups of rejections that are shown: those with most records."""

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Overview:
    """All figures of one database at one moment."""

    database: str
    at: datetime
    problems: list[Problem]
    """What needs attention now, the most important first. Empty if the outbox is healthy."""
    workers: Workers
    workspaces: list[WorkspaceFigures]
    rejections: Rejections
    incidents: list[Incident]
    """Those that are open now, and those that ended in the last 24 hours; the latest first."""
    jobs: list[Job]
    runs: list[RunFigures]
    """Those that are not finished, and those with rejected records; the latest first."""

    def to_json(self) -> dict[str, Any]:
        """Return the figures as :mod:`json` can serialize them."""
        figures: dict[str, Any] = to_json(self)
        return figures


def collect_overview(using: str, *, hidden: Collection[str] = ()) -> Overview:
    """Return all figures of a database.

    Args:
        using: Database alias.
        hidden: Names of workspaces that are left out, because the person may not see them.
    """
    now, names = database_now(using), get_settings().workspaces
    traffic = read_traffic(using, now)
    return Overview(
        database=using,
        at=now,
        problems=[*find_problems(using, hidden=hidden), *find_unbuilt_indexes(using)],
        workers=collect_workers(using, now),
        workspaces=[
            collect_workspace(using, workspace, traffic, now)
            for name, workspace in names.items()
            if name not in hidden
        ],
        rejections=collect_rejections(using, hidden),
        incidents=collect_incidents(using, now, hidden),
        jobs=collect_jobs(using, hidden),
        runs=collect_runs(using, hidden),
    )


def collect_workers(using: str, now: datetime) -> Workers:
    """Return the processes with a heartbeat, those seen last first."""
    rows = OutboxWorker.objects.using(using)
    since = now - MISSING_AFTER
    processes = [
        Worker(
            host=row.host,
            pid=row.pid,
            command=row.command,
            version=row.version,
            activity=row.activity,
            started_at=row.started_at,
            last_seen_at=row.last_seen_at,
            is_at_work=row.last_seen_at >= since,
        )
        for row in rows.order_by("-last_seen_at", "pk")[:MAX_WORKERS]
    ]
    at_work = sum(process.is_at_work for process in processes)
    if at_work == MAX_WORKERS:
        at_work = rows.seen_since(since).count()
    return Workers(not at_work, processes[0].last_seen_at if processes else None, at_work, processes)


def collect_incidents(using: str, now: datetime, hidden: Collection[str] = ()) -> list[Incident]:
    """Return the incidents that are open, and those that ended in the last day."""
    rows = OutboxIncident.objects.using(using).exclude(workspace__in=hidden)
    ended = rows.filter(ended_at__gte=now - DAY).order_by("-ended_at", "-pk")[:MAX_INCIDENTS]
    listed = [*rows.open().order_by("-started_at")[:MAX_INCIDENTS], *ended]
    latest = sorted(listed, key=lambda row: (row.started_at, row.pk), reverse=True)[:MAX_INCIDENTS]
    return [
        Incident(
            id=row.pk,
            kind=row.kind,
            label=str(row.get_kind_display()),
            workspace=row.workspace,
            subject=row.subject,
            started_at=row.started_at,
            ended_at=row.ended_at,
            reason=row.reason,
            peak=row.peak,
        )
        for row in latest
    ]


def collect_jobs(using: str, hidden: Collection[str] = ()) -> list[Job]:
    """Return the manual operations on many records that are not over."""
    rows = OutboxOperation.objects.using(using).filter(state__in=UNFINISHED).order_by("pk")
    if hidden:  # a job without a workspace concerns several
        rows = rows.exclude(workspace__in=["", *hidden])
    return [
        Job(row.pk, row.kind, row.state, row.by, row.percent, row.done, row.total) for row in rows[:MAX_JOBS]
    ]


def collect_runs(using: str, hidden: Collection[str] = ()) -> list[RunFigures]:
    """Return the runs that need attention or are not finished. Their records are not counted anew."""
    rows = OutboxRun.objects.using(using).exclude(workspace__in=hidden)
    unsettled = rows.filter(Q(finished_at__isnull=True) | Q(needs_person_since__isnull=False))
    return [_describe_run(row) for row in unsettled.order_by("-pk")[:MAX_RUNS]]


def _describe_run(row: OutboxRun) -> RunFigures:
    status = status_of(row, row.counts)
    return RunFigures(
        id=row.pk,
        name=row.name,
        workspace=row.workspace,
        state=status.state,
        started_at=row.started_at,
        counted_at=row.counted_at,
        ended=status.ended,
        rejected=status.rejected,
        total=max(status.total, (row.expected or 0) if row.closed_at is None else 0),
    )


def collect_rejections(using: str, hidden: Collection[str] = ()) -> Rejections:
    """Return the rejected records, grouped by their last error, type and product. This costs four queries.

    Records of the ``hidden`` workspaces are left out.
    """
    rejected = OutboxRecord.rows.using(using).rejected().exclude(workspace__in=hidden)
    count = rejected.order_by().values("pk")[: MAX_COUNTED_REJECTED + 1].count()
    total = Count(count) if count <= MAX_COUNTED_REJECTED else Count(MAX_COUNTED_REJECTED, Precision.AT_LEAST)
    if not count:
        return Rejections(total, is_partial=False, groups=[])
    rows = OutboxRejection.objects.using(using)
    ids = rows.order_by("-pk").values_list("pk", flat=True)
    oldest = next(iter(ids[MAX_REJECTIONS - 1 : MAX_REJECTIONS]), 0)
    newest = rows.filter(is_last_rejection(), pk__gte=oldest, record__closed_as=RecordState.REJECTED)
    groups = list(_group(newest.exclude(record__workspace__in=hidden)))
    examples = rows.in_bulk([group["latest"] for group in groups])
    is_partial = bool(oldest) and rows.filter(pk__lt=oldest).exists()
    return Rejections(total, is_partial, [_describe(group, examples[group["latest"]]) for group in groups])


def _group(rows: Any) -> Any:
    grouped = rows.order_by().values("signature", "record__type", "record__product_id")
    counted = grouped.annotate(n=CountOf("record", distinct=True), latest=Max("pk"))
    return counted.order_by("-n", "-latest")[:MAX_REJECTION_GROUPS]


def _describe(group: dict[str, Any], example: OutboxRejection) -> RejectionGroup:
    return RejectionGroup(
        signature=group["signature"],
        type=group["record__type"],
        product_id=group["record__product_id"],
        count=group["n"],
        last_at=example.rejected_at,
        example=example.record_id,
        message=f"{example.code}: {example.message}",
    )

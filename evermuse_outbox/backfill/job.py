"""The job of a backfill: its row stores the last primary key, the counts, and the process that executes it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from django.db import models, transaction
from django.db.models import F

from ..delivery.context import Clock, retry_on_database_error
from ..model_records import ModelRecord
from ..models import (
    BACKFILL,
    UNCONFIRMED,
    UNFINISHED,
    Decision,
    OperationState,
    OutboxOperation,
    OutboxWorkspace,
    process_user,
    start_operation,
)
from ..runs import RunPlan, default_run_name


class BackfillEnded(Exception):
    """Another process has taken the backfill over, or a person has cancelled it. ``message`` says which."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True, slots=True)
class Plan:
    """What is backfilled.

    Attributes:
        declaration: how a row becomes a record.
        using: database alias of the rows and of the outbox.
        filters: lookup → value, as in ``filter(**filters)``.
        decision: the person and the reason.
        batch: maximum number of rows of one transaction.
        skips_known: whether rows are skipped of which the outbox has a record.
        max_bad_rows: number of bad rows after which the backfill stops; None for no limit.
        run: the run that the records of a new job join; None for a run with the name of the backfill.
    """

    declaration: ModelRecord[Any]
    using: str
    filters: Mapping[str, str] = field(default_factory=dict)
    decision: Decision = field(default_factory=Decision)
    batch: int = 1_000
    skips_known: bool = False
    max_bad_rows: int | None = None
    run: RunPlan | None = None

    @property
    def model(self) -> type[models.Model]:
        """The model whose rows are read."""
        return self.declaration.model

    @property
    def name(self) -> str:
        """The name by which an interrupted backfill is found again. It is stored, and shown to people."""
        filters = ", ".join(f"{name}={value}" for name, value in sorted(self.filters.items()))
        return f"{self.model._meta.label} where {filters}" if filters else f"all {self.model._meta.label}"

    @property
    def run_plan(self) -> RunPlan:
        """The run that the records of a new job join."""
        return self.run or RunPlan(default_run_name(f"backfill of {self.name}"))

    def rows(self) -> models.QuerySet[Any]:
        """Return the rows in the order of their primary keys."""
        return self.declaration.queryset().using(self.using).filter(**self.filters).order_by("pk")

    def pk_to_text(self, pk: Any) -> str:
        """Return a primary key as the job stores it."""
        return json.dumps(str(pk))

    def pk_from_text(self, text: str) -> Any:
        """Return a stored primary key."""
        return self.model._meta.pk.to_python(json.loads(text))


@dataclass(slots=True)
class Progress:
    """How far a backfill has come, with the chunks of earlier starts.

    Attributes:
        job: id of the row that stores it.
        total: number of rows that were counted at the first start.
        enqueued: rows whose records were enqueued.
        skipped: rows that the declaration does not record.
        bad: rows without a valid record.
        is_paused: whether a person has paused it.
        waits_for: why no chunk is inserted now; empty if nothing is in the way.
        errors: kind of error → number of rows and the first primary keys.
    """

    job: int = 0
    total: int = 0
    enqueued: int = 0
    skipped: int = 0
    bad: int = 0
    is_paused: bool = False
    waits_for: str = ""
    errors: dict[str, Any] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """Number of rows that were read."""
        return self.enqueued + self.skipped + self.bad


def find_unfinished(plan: Plan) -> OutboxOperation | None:
    """Return the job of an earlier start of the same backfill that is not over, or None."""
    jobs = OutboxOperation.objects.using(plan.using).filter(kind=BACKFILL, state__in=UNFINISHED)
    return jobs.filter(workspace=plan.declaration.workspace, selection=plan.name).order_by("pk").last()


def begin(plan: Plan) -> OutboxOperation:
    """Return the job of the backfill, which now belongs to this process: that of an earlier start, or a new one.

    A process that executed it before stops at its next chunk.
    """
    OutboxWorkspace.objects.using(plan.using).ensure_row(plan.declaration.workspace)
    # Counting may take long, so it is done before the locks.
    extent = None if find_unfinished(plan) else _measure(plan)
    return retry_on_database_error(
        plan.using, Clock.of(plan.using), _take_over, plan, extent, uuid.uuid4().hex
    )


def _take_over(plan: Plan, extent: _Extent | None, run: str) -> OutboxOperation:
    """Give the job to this process, in one transaction. Insert it if there is none."""
    jobs = OutboxOperation.objects.using(plan.using)
    with transaction.atomic(using=plan.using):
        # Two first starts at once insert one job. The lock is a write: under REPEATABLE READ, PostgreSQL would
        # show the second start an old snapshot after a mere SELECT … FOR UPDATE.
        workspace = OutboxWorkspace.objects.using(plan.using).filter(pk=plan.declaration.workspace)
        workspace.update(seal_count=F("seal_count"))
        earlier = find_unfinished(plan)
        # The process that executes it until now may have stored a chunk since, or may have finished it.
        job = jobs.lock(earlier.pk) if earlier else None
        if job is None or job.is_over:
            job = _create(plan, extent or _measure(plan))
        if job.state == OperationState.COLLECTING:
            jobs.complete_collecting(job.pk)
        if job.state in UNCONFIRMED:
            jobs.confirm(job.pk, Clock.of(plan.using).now(), plan.decision.reason)
        elif job.state == OperationState.PAUSED:
            jobs.proceed(job.pk)
        jobs.filter(pk=job.pk).update(options={**job.options, "run": run})
        job.refresh_from_db(using=plan.using)
    return job


class _Extent(NamedTuple):
    """Which rows a new job has: up to the highest primary key of now, because later rows are live traffic."""

    until: str
    total: int


def _measure(plan: Plan) -> _Extent:
    rows = plan.rows()
    last = rows.reverse().values_list("pk", flat=True).first()
    return _Extent("" if last is None else plan.pk_to_text(last), rows.count())


def _create(plan: Plan, extent: _Extent) -> OutboxOperation:
    """Insert a job."""
    return start_operation(
        plan.using,
        kind=BACKFILL,
        by=plan.decision.by or process_user(),
        reason=plan.decision.reason,
        selection=plan.name,
        workspace=plan.declaration.workspace,
        options={"after": "", "until": extent.until, "joins": plan.run_plan.to_json()},
        total=extent.total,
        has_members=False,
    )


def run_plan_of(plan: Plan, job: OutboxOperation) -> RunPlan:
    """Return the run that the records of a job join: as its first start has stored it."""
    stored = job.options.get("joins")
    return RunPlan.from_json(stored) if stored else plan.run_plan


def as_progress(job: OutboxOperation) -> Progress:
    """Return the counts of a job."""
    return Progress(
        job=job.pk,
        total=job.total,
        enqueued=job.changed,
        skipped=job.refused,
        bad=job.failed,
        is_paused=job.state == OperationState.PAUSED,
        errors=dict(job.expected),
    )

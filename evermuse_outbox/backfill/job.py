"""The job of a backfill: its row stores the last primary key, the counts, and the process that executes it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db import models

from ..delivery.context import Clock
from ..model_records import ModelRecord
from ..models import (
    BACKFILL,
    UNFINISHED,
    Decision,
    OperationState,
    OutboxOperation,
    process_user,
    start_operation,
)


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
    """

    declaration: ModelRecord[Any]
    using: str
    filters: Mapping[str, str] = field(default_factory=dict)
    decision: Decision = field(default_factory=Decision)
    batch: int = 1_000
    skips_known: bool = False
    max_bad_rows: int | None = None

    @property
    def model(self) -> type[models.Model]:
        """The model whose rows are read."""
        return self.declaration.model

    @property
    def name(self) -> str:
        """The name by which an interrupted backfill is found again. It is stored, and shown to people."""
        filters = ", ".join(f"{name}={value}" for name, value in sorted(self.filters.items()))
        return f"{self.model._meta.label} where {filters}" if filters else f"all {self.model._meta.label}"

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
    clock = Clock.of(plan.using)
    job = find_unfinished(plan) or _create(plan)
    jobs = OutboxOperation.objects.using(plan.using)
    if job.state == OperationState.COLLECTING:
        jobs.complete_collecting(job.pk)
        jobs.confirm(job.pk, clock.now(), plan.decision.reason)
    elif job.state == OperationState.READY:
        jobs.confirm(job.pk, clock.now(), plan.decision.reason)
    elif job.state == OperationState.PAUSED:
        jobs.proceed(job.pk)
    options = {**job.options, "run": uuid.uuid4().hex}
    jobs.filter(pk=job.pk).update(options=options)
    job.refresh_from_db(using=plan.using)
    return job


def _create(plan: Plan) -> OutboxOperation:
    """Insert a job. Its end is the highest primary key of now: later rows are live traffic."""
    rows = plan.rows()
    last = rows.reverse().values_list("pk", flat=True).first()
    return start_operation(
        plan.using,
        kind=BACKFILL,
        by=plan.decision.by or process_user(),
        reason=plan.decision.reason,
        selection=plan.name,
        workspace=plan.declaration.workspace,
        options={"after": "", "until": "" if last is None else plan.pk_to_text(last)},
        total=rows.count(),
        has_members=False,
    )


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

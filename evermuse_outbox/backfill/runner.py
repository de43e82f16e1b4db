"""Execute a backfill: wait for room → lock rows → convert → insert and store the progress → wake the workers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from django.db import transaction
from django.db.models import F

from ..delivery.context import DeliveryContext, open_context, retry_on_database_error
from ..models import ActionKind, OperationState, OutboxAction, OutboxOperation
from ..models.insert import insert_many
from ..wakeup import wake_workers
from .job import BackfillEnded, Plan, Progress, as_progress, run_plan_of
from .pace import Pace
from .rows import BadRow, Chunk, build_chunk, drop_known, lock_rows, read_pks

PACE_PAUSE = 0.01
"""Seconds between two looks whether something may be inserted: a tenth of a slot of the rate limit."""

LOCKED_PAUSE = 0.05
"""Seconds until a locked row is tried again."""

PERSON_PAUSE = 1.0
"""Seconds between two looks whether a person has continued a paused backfill."""

LOCKED = "another transaction has locked the next row"
PAUSED = "a person has paused it"

MAX_KINDS, MAX_EXAMPLES = 20, 20
"""Kinds of errors that the job stores, and primary keys for each."""

OTHER_ERRORS = "other errors"


class TooManyBadRows(Exception):
    """More rows are bad than the caller allows. What was enqueued before stays, and the backfill can continue."""


def run(plan: Plan, job: OutboxOperation) -> Iterator[tuple[Progress, list[BadRow]]]:
    """Execute a job until no row is left. Yield the progress with the bad rows of each chunk, and at each wait.

    Raises:
        BackfillEnded: Another process has taken it over, or a person has cancelled it.
        TooManyBadRows: More rows are bad than the plan allows.
    """
    context = open_context(plan.using, plan.declaration.workspace)
    runner = _Runner(plan, context, job)
    yield as_progress(job), []
    while True:
        progress, bad = runner.step()
        yield progress, bad
        if plan.max_bad_rows is not None and progress.bad > plan.max_bad_rows:
            raise TooManyBadRows
        if runner.is_finished:
            return


def check(plan: Plan, limit: int | None = None) -> Iterator[tuple[Progress, list[BadRow]]]:
    """Convert the rows, at most ``limit``, and change nothing. Yield the progress with the bad rows of each chunk."""
    context = open_context(plan.using, plan.declaration.workspace)
    rows = plan.rows()
    last = rows.reverse().values_list("pk", flat=True).first()
    progress, after = Progress(total=min(rows.count(), limit or rows.count())), None
    yield progress, []
    while last is not None and progress.done < progress.total:
        pks = read_pks(plan, after, last, min(plan.batch, progress.total - progress.done))
        if not pks:
            return
        chunk, after = build_chunk(plan, pks, context.settings), pks[-1]
        if plan.skips_known:
            drop_known(plan.using, chunk)
        progress.enqueued += len(chunk.envelopes)
        progress.skipped += chunk.skipped
        progress.bad += len(chunk.bad)
        add_errors(progress.errors, chunk.bad)
        yield progress, chunk.bad
        if plan.max_bad_rows is not None and progress.bad > plan.max_bad_rows:
            raise TooManyBadRows


class _Runner:
    """One process that executes a backfill."""

    def __init__(self, plan: Plan, context: DeliveryContext, job: OutboxOperation) -> None:
        self._plan, self._context, self._job = plan, context, job
        self._run = job.options["run"]
        self._pace = Pace(context, context.clock)
        self._next_look = 0.0
        self._pks: list[Any] = []
        self._read_after: str | None = None
        self.is_finished = False

    def step(self) -> tuple[Progress, list[BadRow]]:
        """Insert the next chunk, or wait for a moment. Return the progress and the bad rows of the chunk."""
        free = self._pace.free_requests()
        if not free:
            self._look_at_job()
            self._next_pks()  # read ahead, so that the next chunk is quick
            return self._wait(self._pace.reason, PACE_PAUSE)
        pks, started = self._next_pks(), time.monotonic()
        chunk = retry_on_database_error(self._plan.using, self._context.clock, self._write_chunk, pks, free)
        if self._job.state == OperationState.PAUSED:
            return self._wait(PAUSED, PERSON_PAUSE)
        if chunk.is_blocked:
            return self._wait(LOCKED, LOCKED_PAUSE)
        self._pace.note_inserted(chunk.tallies, time.monotonic() - started)
        if chunk.envelopes:
            wake_workers(self._plan.using, self._context.workspace_name, lingers=False)
        self.is_finished = self._job.state == OperationState.FINISHED
        return as_progress(self._job), chunk.bad

    def _look_at_job(self) -> None:
        """See once a second, also while no chunk can be inserted, whether a person has paused or cancelled the job."""
        now = self._context.clock.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + PERSON_PAUSE
        stored = OutboxOperation.objects.using(self._plan.using).filter(pk=self._job.pk).first()
        self._job = self._check_mine(stored)

    def _wait(self, reason: str, seconds: float) -> tuple[Progress, list[BadRow]]:
        self._context.clock.sleep(seconds)
        progress = as_progress(self._job)
        progress.waits_for = reason
        return progress, []

    def _next_pks(self) -> list[Any]:
        """Return the primary keys of the next rows. They are read once for each chunk."""
        after, until = self._job.options["after"], self._job.options["until"]
        if self._read_after != after:
            from_text = self._plan.pk_from_text
            first = from_text(after) if after else None
            self._pks = read_pks(self._plan, first, from_text(until), self._plan.batch) if until else []
            self._read_after = after
        return self._pks

    def _write_chunk(self, pks: Sequence[Any], free: int) -> Chunk:
        """Insert the records of the next rows and store the progress, in one transaction."""
        plan, started = self._plan, time.monotonic()
        with transaction.atomic(using=plan.using):
            stored = self._lock_job()
            if stored.state == OperationState.PAUSED or stored.options["after"] != self._job.options["after"]:
                # Paused, or the answer to the COMMIT was lost and the chunk is repeated.
                self._job = stored
                return Chunk()
            unlocked = lock_rows(plan, pks)
            if pks and not unlocked:
                self._job = stored
                return Chunk(is_blocked=True)
            chunk = build_chunk(plan, unlocked, self._context.settings, free)
            if plan.skips_known:
                drop_known(plan.using, chunk)
            self._insert(chunk)
            self._store(stored, chunk, started)
        self._job = stored
        return chunk

    def _lock_job(self) -> OutboxOperation:
        return self._check_mine(OutboxOperation.objects.using(self._plan.using).lock(self._job.pk))

    def _check_mine(self, stored: OutboxOperation | None) -> OutboxOperation:
        """Return the row of the job, or raise if this process must not go on."""
        if stored is None or stored.options.get("run") != self._run:
            raise BackfillEnded(f"Another process goes on with job #{self._job.pk}.")
        if stored.state not in (OperationState.RUNNING, OperationState.PAUSED):
            raise BackfillEnded(f"Job #{stored.pk} is {stored.get_state_display()}. {stored.message}".strip())
        return stored

    def _insert(self, chunk: Chunk) -> None:
        if not chunk.envelopes:
            return
        contract = self._context.workspace.contract
        using, workspace = self._plan.using, self._context.workspace_name
        extras = run_plan_of(self._plan, self._job).columns(using, workspace)
        insert_many(using, workspace, contract, chunk.envelopes, extras)

    def _store(self, job: OutboxOperation, chunk: Chunk, started: float) -> None:
        """Write the progress and the manual action of the locked job, and finish it if no row was left."""
        jobs = OutboxOperation.objects.using(self._plan.using)
        if chunk.last_pk is None:
            jobs.finish(job.pk, self._context.clock.now())
            run_plan_of(self._plan, job).end(self._plan.using, self._context.workspace_name)
            job.state = OperationState.FINISHED
            return
        add_errors(job.expected, chunk.bad)
        job.options["after"] = self._plan.pk_to_text(chunk.last_pk)
        job.changed += len(chunk.envelopes)
        job.refused += chunk.skipped
        job.failed += len(chunk.bad)
        job.bytes += sum(envelope.size for envelope in chunk.envelopes)
        job.busy_seconds += time.monotonic() - started
        job.started_at = job.started_at or self._context.clock.now()
        job.action_id = self._log(job, len(chunk.envelopes))
        columns = [
            "options",
            "expected",
            "changed",
            "refused",
            "failed",
            "bytes",
            "busy_seconds",
            "started_at",
        ]
        job.save(using=self._plan.using, update_fields=[*columns, "action_id"])

    def _log(self, job: OutboxOperation, count: int) -> int | None:
        """Insert the row of the action log with the first records, and add to it later. Return its id."""
        actions = OutboxAction.objects.using(self._plan.using)
        if not count:
            return job.action_id
        if job.action_id and actions.filter(pk=job.action_id).update(records=F("records") + count):
            return job.action_id
        target = f"backfill of {job.selection}"
        row = actions.log(
            ActionKind.IMPORT, self._plan.decision, workspace=job.workspace, target=target, records=count
        )
        return int(row.pk)


def add_errors(errors: dict[str, Any], bad: Sequence[BadRow]) -> None:
    """Count bad rows by the kind of their error: kind → ``{"count": …, "ids": […]}``, with the first primary keys."""
    for row in bad:
        is_known = row.kind in errors or len(errors) < MAX_KINDS
        entry = errors.setdefault(row.kind if is_known else OTHER_ERRORS, {"count": 0, "ids": []})
        entry["count"] += 1
        if len(entry["ids"]) < MAX_EXAMPLES:
            entry["ids"].append(row.pk)

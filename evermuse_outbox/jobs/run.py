"""Execute confirmed jobs in chunks: lock → read the next members → perform → write the results and the counts.

A chunk is one transaction. A crash before its commit changes nothing, and a crash after it repeats nothing, because the
row of the job says which member was the last. Two workers never execute the same job at the same time.

If a chunk raises an exception, it is rolled back, and its members are tried one by one: a bad member is noted as failed
and does not stop the job. A transient error of the database concerns no member, so the chunk is repeated.
"""

from __future__ import annotations

import time

from django.db import Error as DatabaseError
from django.db import transaction
from django.db.models import F

from ..delivery.context import Clock, classify_database_error, retry_on_database_error
from ..foreign_text import describe_error, get_logger, log_ids
from ..models import (
    MemberResult,
    OperationState,
    OutboxAction,
    OutboxOperation,
    OutboxOperationMember,
    disable_jit,
)
from ..operations import NotPossible
from .collect import decision_of
from .kinds import Kind, Refusals, get_kind

logger = get_logger(__name__)


def has_running_job(using: str) -> bool:
    """Return whether a confirmed job has members left. This is one query of an index."""
    return OutboxOperation.objects.using(using).running().exists()


def run_operations(using: str, seconds: float, *, clock: Clock | None = None) -> int:
    """Execute the confirmed jobs of a database, one chunk of each in turn. Return how many members were handled.

    After ``seconds``, no further chunk begins. A job that another worker executes is skipped.
    """
    clock = clock or Clock.of(using)
    deadline, total = clock.monotonic() + seconds, 0
    while pks := list(OutboxOperation.objects.using(using).running().values_list("pk", flat=True)[:100]):
        handled = 0
        for pk in pks:
            handled += run_chunk(using, pk, clock=clock)
            if clock.monotonic() >= deadline:
                return total + handled
        total += handled
        if not handled:
            break
    return total


def run_chunk(using: str, pk: int, *, clock: Clock | None = None) -> int:
    """Execute the next chunk of a job. Return how many members were handled.

    Return 0 if the job has just finished, is not running, or is executed by another worker.

    Raises:
        DatabaseError: The database failed several times. The next run goes on where this one began.
    """
    clock = clock or Clock.of(using)
    try:
        return retry_on_database_error(using, clock, _run_chunk, using, pk, clock)
    except Exception as error:
        if classify_database_error(error) is not None:
            raise
        logger.warning(
            "job #%d: a chunk raised %s; its members are tried one by one",
            pk,
            type(error).__name__,
            extra=log_ids(database=using),
        )
        return _run_one_by_one(using, pk, clock)


def _run_chunk(using: str, pk: int, clock: Clock, limit: int | None = None) -> int:
    """Execute the next members in one transaction, at most ``limit``."""
    started = time.monotonic()
    with transaction.atomic(using=using):
        job = OutboxOperation.objects.using(using).lock(pk, skip_locked=True)
        if job is None or job.state != OperationState.RUNNING:
            return 0
        try:
            kind = get_kind(job.kind)
            kind.prepare(using, job.options)
        except NotPossible as error:
            OutboxOperation.objects.using(using).fail(pk, clock.now(), error.message)
            return 0
        disable_jit(using)
        members = OutboxOperationMember.objects.using(using).next_of(job, limit or kind.chunk)
        if not members:
            OutboxOperation.objects.using(using).finish(pk, clock.now())
            return 0
        refusals = kind.perform(using, members, decision_of(job), job.options)
        _write_progress(job, kind, members, refusals, clock, started)
        return len(members)


def _run_one_by_one(using: str, pk: int, clock: Clock) -> int:
    """Execute the next members of a job alone, as many as a chunk has. Note those as failed that raise."""
    handled, limit = 0, 1
    while handled < limit:
        job = OutboxOperation.objects.using(using).filter(pk=pk).first()
        if job is None or job.state != OperationState.RUNNING:
            break
        limit = get_kind(job.kind).chunk
        try:
            count = retry_on_database_error(using, clock, _run_chunk, using, pk, clock, 1)
        except Exception as error:
            if classify_database_error(error) is not None:
                raise
            count = retry_on_database_error(using, clock, _note_failure, using, pk, job.done_to, error)
        if not count:
            break
        handled += count
    return handled


def _note_failure(using: str, pk: int, done_to: int, error: Exception) -> int:
    """Note that the next member cannot be changed, unless another worker has handled it. Return how many were noted."""
    with transaction.atomic(using=using):
        job = OutboxOperation.objects.using(using).lock(pk)
        if job is None or job.state != OperationState.RUNNING or job.done_to != done_to:
            return 0
        rows = OutboxOperationMember.objects.using(using)
        members = rows.next_of(job, 1)
        if not members:
            return 0
        rows.note(job, MemberResult.FAILED, {members[0]: _describe(error)})
        OutboxOperation.objects.using(using).filter(pk=pk).update(
            done_to=members[0], failed=F("failed") + 1, started_at=job.started_at or job.confirmed_at
        )
        return 1


def _describe(error: Exception) -> str:
    """Return an error in words. A database quotes values of rows, which may be payload, so only its class is named."""
    return type(error).__name__ if isinstance(error, DatabaseError) else describe_error(error)


def _write_progress(
    job: OutboxOperation, kind: Kind, members: list[int], refusals: Refusals, clock: Clock, started: float
) -> None:
    """Write the results of a chunk, the counts of the job, and its manual action."""
    rows = OutboxOperationMember.objects.using(job.using)
    refused = {pk: str(refusals[pk]) for pk in members if pk in refusals}
    if refused:
        rows.note(job, MemberResult.REFUSED, refused)
    changed = len(members) - len(refused)
    action_id = _record_action(job, kind, changed) if changed or job.action_id else None
    OutboxOperation.objects.using(job.using).filter(pk=job.pk).update(
        done_to=members[-1],
        changed=F("changed") + changed,
        refused=F("refused") + len(refused),
        busy_seconds=F("busy_seconds") + (time.monotonic() - started),
        started_at=job.started_at or clock.now(),
        action_id=action_id,
    )


def _record_action(job: OutboxOperation, kind: Kind, changed: int) -> int:
    """Record the manual action of the job. The first chunk inserts the row, and later ones add to it."""
    actions = OutboxAction.objects.using(job.using)
    if job.action_id and actions.filter(pk=job.action_id).update(records=F("records") + changed):
        return job.action_id
    target = f"job #{job.pk}: {job.selection}".removesuffix(": ")
    row = actions.log(kind.action, decision_of(job), workspace=job.workspace, target=target, records=changed)
    return int(row.pk)

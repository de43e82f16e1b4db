"""Apply deferrals that are due: make records pending, let them expire, and coalesce debounced versions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from django.db import transaction

from ...models import OutboxDeferral, OutboxRecord, OutboxWorkspace, RecordState, by_id
from ..context import Clock, retry_on_database_error
from ..scheduling import RunQueue
from .plan import Changes, Deferral, plan_changes

CHUNK = 500
"""Rows of one transaction. It holds the sealing lock, so it must be short; and old versions of SQLite allow 999
parameters in one statement."""


MAX_SECONDS = 0.5
"""Seconds for which one call of :func:`apply_all_due` begins another chunk. Other workspaces wait meanwhile."""


def apply_all_due(using: str, workspace: str, clock: Clock) -> int:
    """Apply the deferrals of a workspace that are due, chunk by chunk, for up to ``MAX_SECONDS``. Return how many.

    A deferral is due when its time has passed for certain, so that the error of the clock sends no record too early.
    """
    started, count = clock.monotonic(), 0
    while clock.monotonic() - started < MAX_SECONDS:
        done = retry_on_database_error(using, clock, apply_due, using, workspace, clock.surely_passed())
        count += done
        if done < CHUNK:
            break
    return count


def apply_due(using: str, workspace: str, now: datetime) -> int:
    """Apply the deferrals of a workspace that are due, at most ``CHUNK`` of them. Return how many rows were due.

    It is one transaction under the sealing lock, so a crash loses nothing. Call it again if the result is ``CHUNK``.
    """
    with transaction.atomic(using=using):
        row = OutboxWorkspace.objects.using(using).lock_for_sealing(workspace)
        due = _read(OutboxDeferral.objects.using(using).due(workspace, now)[:CHUNK])
        if due:
            changes = plan_changes(due, *_read_records(using, due, now), now)
            _write(using, changes)
            _forget_resume_points(using, row, changes.pending)
        return len(due)


def _forget_resume_points(using: str, workspace: OutboxWorkspace, pks: Collection[int]) -> None:
    """Let sealing find records that have become pending before the resume points of their groups."""
    queue = RunQueue.from_json(workspace.run_queue)
    if not (pks and queue.resume_points):
        return
    rows = OutboxRecord.rows.using(using).filter(by_id(pks))
    if queue.forget_resume_points(set(rows.order_by().values_list("type", "product_id"))):
        workspace.run_queue = queue.to_json()
        workspace.save(using=using, update_fields=["run_queue"])


def expire_due(using: str, pks: Sequence[int], now: datetime) -> set[int]:
    """Let those of the pending records expire whose time is over, and return their ids. Needs the sealing lock."""
    rows = OutboxDeferral.objects.using(using).filter(by_id(pks), expires_at__lte=now)
    if expired := list(rows.values_list("pk", flat=True)):
        OutboxRecord.rows.using(using).expire(expired)
        rows.filter(by_id(expired)).delete()
    return set(expired)


def _read(rows: Iterable[OutboxDeferral]) -> list[Deferral]:
    return [
        Deferral(row.pk, row.due_at, row.send_after, row.expires_at, row.latest_at, row.rule_id)
        for row in rows
    ]


def _read_records(
    using: str, due: Collection[Deferral], now: datetime
) -> tuple[dict[int, str], dict[int, Deferral]]:
    """Return the state of each record, and the newest version of each that is debounced and has not expired."""
    records = OutboxRecord.objects.using(using).filter(by_id([row.pk for row in due]))
    states, identities = {}, {}
    for pk, state, identity in records.order_by().values_list("pk", "state", "identity"):
        states[pk], identities[pk] = state, identity
    debounced = {row.pk: identities[row.pk] for row in due if row.latest_at and row.pk in identities}
    if not debounced:
        return states, {}
    scheduled = OutboxRecord.rows.using(using).filter(
        identity__in=set(debounced.values()), closed_as=RecordState.SCHEDULED
    )
    versions = dict(scheduled.order_by("pk").values_list("pk", "identity"))
    rows = OutboxDeferral.objects.using(using).filter(
        record_id__in=scheduled.values("pk"), latest_at__isnull=False
    )
    newest = {
        versions[row.pk]: row
        for row in _read(rows.order_by("pk"))
        if row.pk in versions and (row.expires_at is None or row.expires_at > now)
    }
    return states, {pk: newest[identity] for pk, identity in debounced.items() if identity in newest}


def _write(using: str, changes: Changes) -> None:
    records, deferrals = OutboxRecord.rows.using(using), OutboxDeferral.objects.using(using)
    if changes.expired:
        records.expire(changes.expired)
    if changes.coalesced:
        records.coalesce(changes.coalesced)
    if changes.pending:
        records.make_due(changes.pending)
    for row in changes.kept.values():
        columns = row._asdict()
        deferrals.filter(pk=columns.pop("pk")).update(**columns)
    if changes.ended:
        deferrals.filter(by_id(changes.ended)).delete()

"""Apply a status: write what Evermuse reports about an accepted batch into the rows.

Every change requires the state in which the batch was read. So an older report never overwrites a newer one.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.db import transaction

from ...evermuse.api import RecordError, Status
from ...models import BatchState, OutboxBatch, OutboxRecord, OutboxRejection
from ..context import DeliveryContext, full_jitter, poll_delay
from ..isolation import (
    LocatedErrors,
    errors_to_json,
    locate_errors,
    open_members,
    reject_located,
    reject_open_members,
    start_isolating,
)
from ..sealing import lock_for_sealing, reseal_parts

ATTACHMENTS_IN_PROGRESS = ("PENDING", "IN_PROGRESS")
"""Values of ``attachmentDownloadStatus`` that can still change. Source: OpenAPI document, getBatch."""


def apply_statuses(context: DeliveryContext, reported: Sequence[tuple[OutboxBatch, Status]]) -> None:
    """Apply the statuses of a listing page to polled batches.

    Batches with the same changes are written by one statement; nearly always, the change is that they are complete.
    A status that concerns records, with rejections or a failure, is applied to its batch alone.
    """
    now = context.clock.now()  # the same time for all, so that their changes are equal
    batches_by_changes: dict[tuple[BatchState, BatchState, str], list[OutboxBatch]] = defaultdict(list)
    changes_by_key = {}
    for batch, status in reported:
        if _affects_records(batch, status):
            context.run_with_retries(apply_status, context, batch, status)
            continue
        before, after = BatchState(batch.state), _next_state(batch, status)
        columns = _status_columns(batch, status, now)
        changes = {name: value for name, value in columns.items() if getattr(batch, name) != value}
        key = (before, after, json.dumps(changes, default=str, sort_keys=True))
        changes_by_key[key] = changes
        batches_by_changes[key].append(batch)
    for key, batches in batches_by_changes.items():
        before, after, _ = key
        _write_changes(context, batches, before, after, changes_by_key[key])


def apply_status(context: DeliveryContext, batch: OutboxBatch, status: Status) -> None:
    """Apply the status of one batch, in one transaction."""
    with transaction.atomic(using=context.using):
        if not _affects_records(batch, status):
            _write_status(context, batch, status)
        elif status.status == "COMPLETE":
            _complete_with_rejections(context, batch, status)
        else:
            fail_accepted_batch(context, batch, _failure_message(status), status)


def fail_accepted_batch(
    context: DeliveryContext, batch: OutboxBatch, message: str, status: Status | None = None
) -> None:
    """Change accepted → failed, and seal the records in a new batch with a new key. Call it inside a transaction.

    After ``MAX_RESENDS`` resends, the records that ``status`` names are rejected, or all if it names none. The other
    records go on in a new batch with a new count of resends.
    """
    lock_for_sealing(context)
    columns = _reported_columns(status) if status else {}
    columns |= {"next_poll_at": None, "finished_at": context.clock.now(), "message": message}
    if not OutboxBatch.objects.using(context.using).fail_accepted(batch, **columns):
        return
    resends = batch.resends + 1
    if resends > context.settings.max_resends:
        _reject_failed(context, batch, message, status.errors if status else ())
        resends = 0
    pause = full_jitter(resends or 1, context.settings.backoff_base, context.settings.backoff_cap)
    remaining = open_members(context, batch)
    reseal_parts(context, batch, [remaining], resends=resends, due_at=context.clock.after(pause))


def _affects_records(batch: OutboxBatch, status: Status) -> bool:
    """Return whether the status rejects records or fails the batch. That is possible only for an accepted batch."""
    if batch.state != BatchState.ACCEPTED:
        return False
    has_new_rejections = status.rejected > (batch.rejected_count or 0)
    return status.status == "FAILED" or (status.status == "COMPLETE" and has_new_rejections)


# --- a status that concerns the batch only ------------------------------------------------------------


def _write_changes(
    context: DeliveryContext,
    batches: Sequence[OutboxBatch],
    before: BatchState,
    after: BatchState,
    changes: dict[str, Any],
) -> None:
    """Write equal changes to several batches, and plan their next poll. Without changes, write only the due ones."""
    now = context.clock.now()
    if not changes and before == after:
        batches = [batch for batch in batches if batch.next_poll_at and batch.next_poll_at <= now]
    if not batches:
        return
    if "next_poll_at" not in changes:
        age = min(batch.seconds_since_accepted(now) for batch in batches)
        changes = changes | {"next_poll_at": _next_poll_at(context, age)}
    ids = sorted(batch.pk for batch in batches)
    context.run_with_retries(_change_status, context, ids, before, after, changes)


def _write_status(context: DeliveryContext, batch: OutboxBatch, status: Status) -> bool:
    """Write the status and plan the next poll. Return False if the batch has changed since it was read."""
    now = context.clock.now()
    columns = {"next_poll_at": _next_poll_at(context, batch.seconds_since_accepted(now))}
    columns |= _status_columns(batch, status, now)
    before, after = BatchState(batch.state), _next_state(batch, status)
    return _change_status(context, [batch.pk], before, after, columns) > 0


def _change_status(
    context: DeliveryContext,
    ids: Collection[int],
    before: BatchState,
    after: BatchState,
    columns: dict[str, Any],
) -> int:
    """Write the columns to the batches that are still in the state ``before``. Return how many there are."""
    rows = OutboxBatch.objects.using(context.using)
    if before != after:
        return rows.complete(ids, **columns)
    return rows.update_status(ids, before, **columns)


def _next_state(batch: OutboxBatch, status: Status) -> BatchState:
    return BatchState.COMPLETE if status.status == "COMPLETE" else BatchState(batch.state)


def _status_columns(batch: OutboxBatch, status: Status, now: datetime) -> dict[str, Any]:
    """Return the columns that the status determines. ``next_poll_at`` is among them if polling ends."""
    columns = _reported_columns(status) | {"message": ""}
    if _next_state(batch, status) == BatchState.COMPLETE:
        columns["finished_at"] = batch.finished_at or now
        if status.attachment_status not in ATTACHMENTS_IN_PROGRESS:
            columns["next_poll_at"] = None
    return columns


def _reported_columns(status: Status) -> dict[str, Any]:
    return {
        "remote_status": status.status,
        "accepted_count": status.accepted,
        "rejected_count": status.rejected,
        "total_error_count": status.total_errors,
        "errors": errors_to_json(status.errors),
        "attachment_status": status.attachment_status,
        "attachment_total": status.attachment_total,
        "attachment_complete": status.attachment_complete,
        "attachment_failed": status.attachment_failed,
        "unknown_since": None,
    }


def _next_poll_at(context: DeliveryContext, age: float) -> datetime:
    return context.clock.after(poll_delay(age, context.settings.poll_interval))


# --- a status that concerns records -------------------------------------------------------------------


def _complete_with_rejections(context: DeliveryContext, batch: OutboxBatch, status: Status) -> None:
    """Apply COMPLETE with more rejections than the 202 reported.

    If all rejected records are named, they are rejected and the batch is complete. Otherwise the batch is isolated.
    """
    lock_for_sealing(context)
    members, still_open = _sent_members(context, batch), open_members(context, batch)
    located = _locate_errors(batch, members, status.errors)
    if len(located) > status.rejected:
        located = {}  # more records have errors than were rejected, so the errors do not say which were rejected
    to_reject = {position: error for position, error in located.items() if members[position] in still_open}
    if len(located) == status.rejected:
        if _write_status(context, batch, status):
            reject_located(context, batch, members, to_reject)
        return
    message = f"COMPLETE with {status.rejected} rejected records, not all of them named"
    if not to_reject and len(still_open) == 1 and len(members) == batch.record_count:
        to_reject = {members.index(still_open[0]): RecordError(0, "REJECTED", message)}
    columns = _reported_columns(status)
    columns |= {"next_poll_at": None, "finished_at": context.clock.now(), "message": message}
    if OutboxBatch.objects.using(context.using).refuse_accepted(batch, **columns):
        reject_located(context, batch, members, to_reject)
        start_isolating(context, batch, named=len(to_reject))


def _reject_failed(
    context: DeliveryContext, batch: OutboxBatch, message: str, errors: Sequence[RecordError]
) -> None:
    """Reject the open records that the errors name; all open records if they name none.

    If members were removed, a position could mean another record. Then reject none: the next batch shows which.
    """
    members, still_open = _sent_members(context, batch), open_members(context, batch)
    if errors and len(members) != batch.record_count:
        return
    to_reject = {
        # Evermuse had accepted this record, so no older version may follow it. The code FAILED makes sure of that.
        position: replace(error, code="FAILED")
        for position, error in _locate_errors(batch, members, errors).items()
        if members[position] in still_open
    }
    if to_reject:
        reject_located(context, batch, members, to_reject)
    else:
        reject_open_members(context, batch, "FAILED", message)


def _locate_errors(
    batch: OutboxBatch, members: tuple[int, ...], errors: Sequence[RecordError]
) -> LocatedErrors:
    """Locate the errors; none if a record was purged, because a position could then mean another record."""
    return locate_errors(members, errors) if len(members) == batch.record_count else {}


def _sent_members(context: DeliveryContext, batch: OutboxBatch) -> tuple[int, ...]:
    """Return the ids of the records as they were sent, in order; also of records that a retry has taken out."""
    inside = OutboxRecord.rows.using(context.using).filter(batch=batch)
    rejected = OutboxRejection.objects.using(context.using).filter(batch=batch)
    ids = {*inside.values_list("pk", flat=True), *rejected.values_list("record_id", flat=True)}
    # Sealing orders members by id, and a record leaves a batch only after it was rejected in it.
    return tuple(sorted(ids))


def _failure_message(status: Status) -> str:
    reasons = "; ".join(error.message for error in status.errors[:3])
    return f"Evermuse reports FAILED: {reasons}" if reasons else "Evermuse reports FAILED without a reason"

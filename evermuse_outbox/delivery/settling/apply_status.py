"""What Evermuse says later of a batch that it accepted, written into the rows.

Fenced by the state that the batch was read in: what was said earlier never overwrites what was said later.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
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

ATTACHMENTS_UNDER_WAY = ("PENDING", "IN_PROGRESS")


def apply_status(context: DeliveryContext, batch: OutboxBatch, status: Status) -> None:
    """Writes what Evermuse says of an accepted batch."""
    with transaction.atomic(using=context.using):
        match status.status:
            case "COMPLETE" if _tells_of_more_rejections(batch, status):
                _complete_in_part(context, batch, status)
            case "COMPLETE":
                _follow(context, batch, status, BatchState.COMPLETE)
            case "FAILED" if batch.state == BatchState.ACCEPTED:
                fail(context, batch, _told(status), _failure_message(status), status.errors)
            case _:
                _follow(context, batch, status, BatchState(batch.state))


def apply_statuses(context: DeliveryContext, told: Sequence[tuple[OutboxBatch, Status]]) -> None:
    """Writes what a page of the listing says of followed batches.

    All that are told the same are written by one statement: nearly always that they are complete. Whoever has more to
    say, rejections or a failure, is settled alone.
    """
    now = context.clock.now()  # one for all, or they would not be alike
    alike: dict[tuple[str, str], list[tuple[OutboxBatch, dict[str, Any]]]] = defaultdict(list)
    for batch, status in told:
        if _is_plain(batch, status):
            changes = _news(batch, status, now)
            alike[batch.state, json.dumps(changes, default=str, sort_keys=True)].append((batch, changes))
        else:
            context.run_with_retries(apply_status, context, batch, status)
    for group in alike.values():
        _tell(context, [batch for batch, _ in group], group[0][1])


def _is_plain(batch: OutboxBatch, status: Status) -> bool:
    """Whether nothing follows from it for any record."""
    if status.status == "COMPLETE":
        return not _tells_of_more_rejections(batch, status)
    return status.status != "FAILED" or batch.state != BatchState.ACCEPTED


def _news(batch: OutboxBatch, status: Status, now: datetime) -> dict[str, Any]:
    """What is not in its row yet."""
    state = BatchState.COMPLETE if status.status == "COMPLETE" else BatchState(batch.state)
    told = _told(status) | {"state": state, "message": ""}
    news = {name: value for name, value in told.items() if getattr(batch, name) != value}
    if _is_over(state, status):
        news["next_poll_at"] = None
    if state == BatchState.COMPLETE and batch.finished_at is None:
        news["finished_at"] = now
    return news


def _tell(context: DeliveryContext, batches: list[OutboxBatch], news: dict[str, Any]) -> None:
    """One statement for batches that are told the same; none for those that are told nothing and not due."""
    now = context.clock.now()
    if not news:
        batches = [batch for batch in batches if batch.next_poll_at and batch.next_poll_at <= now]
    if not batches:
        return
    if "next_poll_at" not in news:
        youngest = min(age_of(batch, now) for batch in batches)
        later = context.clock.after(poll_delay(youngest, context.settings.poll_interval))
        news = news | {"next_poll_at": later}
    ids = sorted(batch.pk for batch in batches)
    context.run_with_retries(_write_status, context, ids, BatchState(batches[0].state), news)


def fail(
    context: DeliveryContext,
    batch: OutboxBatch,
    told: dict[str, Any],
    message: str,
    errors: Sequence[RecordError] = (),
) -> None:
    """accepted → failed. Its records go out again under a new key, a limited number of times; then those that
    ``errors`` name, or all where it names none, are rejected and wait for a person, and the others go on.

    Call it inside a transaction."""
    lock_for_sealing(context)
    ended = {"next_poll_at": None, "finished_at": context.clock.now(), "message": message}
    if not OutboxBatch.objects.using(context.using).fail_accepted(batch, **told | ended):
        return
    resends = batch.resends + 1
    if resends > context.settings.max_resends:
        _reject_failed(context, batch, message, errors)
        resends = 0
    pause = full_jitter(resends or 1, context.settings.backoff_base, context.settings.backoff_cap)
    rest = open_members(context, batch)
    reseal_parts(context, batch, [rest], resends=resends, due_at=context.clock.after(pause))


def _reject_failed(
    context: DeliveryContext, batch: OutboxBatch, message: str, errors: Sequence[RecordError]
) -> None:
    members, still_open = _members(context, batch), open_members(context, batch)
    named = _locate(batch, members, errors)
    blamed = {
        position: replace(error, code="FAILED")  # Evermuse had taken them: no older version may follow
        for position, error in named.items()
        if members[position] in still_open
    }
    if blamed:
        reject_located(context, batch, members, blamed)
    else:
        reject_open_members(context, batch, "FAILED", message)


def _tells_of_more_rejections(batch: OutboxBatch, status: Status) -> bool:
    return status.rejected > (batch.rejected_count or 0) and batch.state == BatchState.ACCEPTED


def _follow(context: DeliveryContext, batch: OutboxBatch, status: Status, state: BatchState) -> bool:
    now = context.clock.now()
    later = context.clock.after(poll_delay(age_of(batch, now), context.settings.poll_interval))
    next_poll = None if _is_over(state, status) else later
    ended = {"finished_at": batch.finished_at or now} if state == BatchState.COMPLETE else {}
    changes = _told(status) | ended | {"state": state, "next_poll_at": next_poll, "message": ""}
    return bool(_write_status(context, [batch.pk], BatchState(batch.state), changes))


def _is_over(state: BatchState, status: Status) -> bool:
    return state == BatchState.COMPLETE and status.attachment_status not in ATTACHMENTS_UNDER_WAY


def age_of(batch: OutboxBatch, now: datetime) -> float:
    """Seconds since Evermuse has it."""
    return (now - (batch.accepted_at or batch.sealed_at)).total_seconds()


def _complete_in_part(context: DeliveryContext, batch: OutboxBatch, status: Status) -> None:
    """COMPLETE with more rejections than the 202 told of: the same question as then, asked later."""
    lock_for_sealing(context)
    members, still_open = _members(context, batch), open_members(context, batch)
    named = _locate(batch, members, status.errors)
    if len(named) > status.rejected:
        named = {}  # it complains about more than it rejects, and so does not say which ones
    fresh = {position: error for position, error in named.items() if members[position] in still_open}
    if len(named) == status.rejected:
        if _follow(context, batch, status, BatchState.COMPLETE):
            reject_located(context, batch, members, fresh)
        return
    message = f"COMPLETE with {status.rejected} rejected records, not all of them named"
    if not fresh and len(still_open) == 1:
        fresh = {members.index(still_open[0]): RecordError(0, "REJECTED", message)}
    ended = {"next_poll_at": None, "finished_at": context.clock.now(), "message": message}
    if OutboxBatch.objects.using(context.using).refuse_accepted(batch, **_told(status) | ended):
        reject_located(context, batch, members, fresh)
        start_isolating(context, batch, named=len(fresh))


def _locate(batch: OutboxBatch, members: tuple[int, ...], errors: Sequence[RecordError]) -> LocatedErrors:
    """Who is meant; nobody where one of those who were sent is not there any more, and an index may mean another."""
    return locate_errors(members, errors) if len(members) == batch.record_count else {}


def _members(context: DeliveryContext, batch: OutboxBatch) -> tuple[int, ...]:
    """The ids of the records as they were sent, in order: also of those that a retry has taken out since."""
    inside = OutboxRecord.rows.using(context.using).filter(batch=batch)
    rejected = OutboxRejection.objects.using(context.using).filter(batch=batch)
    ids = {*inside.values_list("pk", flat=True), *rejected.values_list("record_id", flat=True)}
    # Members are sealed in the order of their ids, and who leaves has been rejected here before.
    return tuple(sorted(ids))


def _write_status(
    context: DeliveryContext, ids: Sequence[int], before: BatchState, changes: dict[str, Any]
) -> int:
    """Write the same changes to batches that were read in the state ``before``; return how many still are in it."""
    columns = dict(changes)
    state = columns.pop("state", before)
    rows = OutboxBatch.objects.using(context.using)
    is_completed = before == BatchState.ACCEPTED and state == BatchState.COMPLETE
    return rows.complete(ids, **columns) if is_completed else rows.update_status(ids, before, **columns)


def _told(status: Status) -> dict[str, Any]:
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
    }


def _failure_message(status: Status) -> str:
    said = "; ".join(error.message for error in status.errors[:3])
    return f"Evermuse says FAILED: {said}" if said else "Evermuse says FAILED and gives no reason"

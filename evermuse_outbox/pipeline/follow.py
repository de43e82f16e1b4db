"""What Evermuse says later of a batch that it accepted, written into the rows.

Fenced by the state that the batch was read in: what was said earlier never overwrites what was said later.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction

from ..evermuse.outcomes import RecordError, Status
from ..models import BatchState, OutboxBatch, OutboxRecord, OutboxRejection, OutboxWorkspace
from .backoff import full_jitter, poll_after
from .channel import Channel
from .seal import Sealed, seal_parts
from .settle import errors_json, locate, open_members, parts_of, reject_located, reject_open

ATTACHMENTS_UNDER_WAY = ("PENDING", "IN_PROGRESS")


def settle_status(channel: Channel, batch: OutboxBatch, status: Status) -> None:
    """Writes what Evermuse says of an accepted batch."""
    with transaction.atomic(using=channel.using):
        match status.status:
            case "COMPLETE" if _tells_of_more_rejections(batch, status):
                _complete_in_part(channel, batch, status)
            case "COMPLETE":
                _follow(channel, batch, status, BatchState.COMPLETE)
            case "FAILED" if batch.state == BatchState.ACCEPTED:
                fail(channel, batch, _told(status), _failure_message(status))
            case _:
                _follow(channel, batch, status, BatchState(batch.state))


def fail(channel: Channel, batch: OutboxBatch, told: dict[str, Any], message: str) -> None:
    """accepted → failed. Its records go out again under a new key, a limited number of times; then they
    are rejected and wait for a person. Call it inside a transaction."""
    # Whose turn it is comes before anything is read: a newer version must not be sealed meanwhile.
    OutboxWorkspace.objects.using(channel.using).take_turn(channel.name)
    ended = {"next_poll_at": None, "finished_at": channel.clock.now(), "message": message}
    if not _change(channel, batch, BatchState.FAILED, told | ended):
        return
    if batch.resends >= channel.settings.max_resends:
        reject_open(channel, batch, "FAILED", message)
        return
    pause = full_jitter(batch.resends + 1, channel.settings.backoff_base, channel.settings.backoff_cap)
    due_at = channel.clock.after(pause)
    seal_parts(channel, batch, [open_members(channel, batch)], resends=batch.resends + 1, due_at=due_at)


def _tells_of_more_rejections(batch: OutboxBatch, status: Status) -> bool:
    return status.rejected > (batch.rejected_count or 0) and batch.state == BatchState.ACCEPTED


def _follow(channel: Channel, batch: OutboxBatch, status: Status, state: BatchState) -> bool:
    over = state == BatchState.COMPLETE and status.attachment_status not in ATTACHMENTS_UNDER_WAY
    now = channel.clock.now()
    age = (now - (batch.accepted_at or batch.sealed_at)).total_seconds()
    next_poll = None if over else channel.clock.after(poll_after(age, channel.settings.poll_interval))
    ended = {"finished_at": batch.finished_at or now} if state == BatchState.COMPLETE else {}
    return _change(channel, batch, state, _told(status) | ended | {"next_poll_at": next_poll, "message": ""})


def _complete_in_part(channel: Channel, batch: OutboxBatch, status: Status) -> None:
    """COMPLETE with more rejections than the 202 told of: the same question as then, asked later."""
    OutboxWorkspace.objects.using(channel.using).take_turn(channel.name)
    sealed, still_open = Sealed(batch, _members(channel, batch), b""), set(open_members(channel, batch))
    named = locate(sealed.members, status.errors)
    fresh = {position: error for position, error in named.items() if sealed.members[position] in still_open}
    if len(named) == status.rejected:
        if _follow(channel, batch, status, BatchState.COMPLETE):
            reject_located(channel, sealed, fresh)
        return
    message = f"COMPLETE with {status.rejected} rejected records, not all of them named"
    unsure = [p for p, pk in enumerate(sealed.members) if pk in still_open and p not in fresh]
    if not fresh and len(unsure) == 1:
        fresh = {unsure.pop(): RecordError(0, "REJECTED", message)}
    ended = {"next_poll_at": None, "finished_at": channel.clock.now(), "message": message}
    if _change(channel, batch, BatchState.SPLIT, _told(status) | ended):
        reject_located(channel, sealed, fresh)
        rest = [sealed.members[position] for position in unsure]
        seal_parts(channel, batch, parts_of(rest, together=bool(fresh)))


def _members(channel: Channel, batch: OutboxBatch) -> tuple[int, ...]:
    """The ids of the records as they were sent, in order: also of those that a retry has taken out since."""
    inside = OutboxRecord.rows.using(channel.using).filter(batch=batch)
    rejected = OutboxRejection.objects.using(channel.using).filter(batch=batch)
    ids = {*inside.values_list("pk", flat=True), *rejected.values_list("record_id", flat=True)}
    # Members are sealed in the order of their ids, and who leaves has been rejected here before.
    return tuple(sorted(ids))


def _change(channel: Channel, batch: OutboxBatch, state: BatchState, changes: dict[str, Any]) -> bool:
    rows = OutboxBatch.objects.using(channel.using).filter(pk=batch.pk, state=batch.state)
    return bool(rows.update(state=state, polls=batch.polls + 1, **changes))


def _told(status: Status) -> dict[str, Any]:
    return {
        "remote_status": status.status,
        "accepted_count": status.accepted,
        "rejected_count": status.rejected,
        "total_error_count": status.total_errors,
        "errors": errors_json(status.errors),
        "attachment_status": status.attachment_status,
        "attachment_total": status.attachment_total,
        "attachment_complete": status.attachment_complete,
        "attachment_failed": status.attachment_failed,
    }


def _failure_message(status: Status) -> str:
    said = "; ".join(error.message for error in status.errors[:3])
    return f"Evermuse says FAILED: {said}" if said else "Evermuse says FAILED and gives no reason"

"""Settling: what an attempt came to, written into the rows. The only ``match`` on outcomes.

The batch is changed first, fenced by its lease; a worker whose lease was taken over changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction

from ..evermuse.client import Answer
from ..evermuse.outcomes import (
    Accepted,
    InDoubt,
    KeyRefused,
    Outcome,
    RecordError,
    Refused,
    Status,
    Throttled,
    TooLarge,
    Unavailable,
)
from ..models import BatchState, OutboxAttempt, OutboxBatch, OutboxRecord, OutboxRejection
from . import pace
from .backoff import full_jitter, poll_after
from .channel import Channel
from .seal import Sealed, seal_parts

logger = logging.getLogger(__name__)

DETAIL_LENGTH = 2_000
"""Characters of an answer that are kept on an attempt."""

ATTACHMENTS_UNDER_WAY = ("PENDING", "IN_PROGRESS")

OUTCOME_NAMES = {
    Accepted: "accepted",
    Refused: "refused",
    TooLarge: "too_large",
    KeyRefused: "key_refused",
    Throttled: "throttled",
    InDoubt: "in_doubt",
    Unavailable: "unavailable",
}


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP call as its attempt row will tell it."""

    call: str
    started_at: datetime
    outcome: str
    status: int | None = None
    seconds: float | None = None
    detail: str = ""

    @classmethod
    def made(cls, call: str, started_at: datetime, outcome: Outcome | None, answer: Answer | None) -> Call:
        """A call that brought this answer, or none. ``outcome`` None means a read that was answered."""
        name = OUTCOME_NAMES[type(outcome)] if outcome else "read"
        if answer is None:
            return cls(call, started_at, name, detail=getattr(outcome, "message", ""))
        detail = answer.body[: 4 * DETAIL_LENGTH].decode("utf-8", "replace").replace("\0", "\ufffd")
        return cls(call, started_at, name, answer.status, answer.seconds, detail[:DETAIL_LENGTH])

    def write(self, channel: Channel, batch: OutboxBatch | None) -> None:
        """The attempt row."""
        OutboxAttempt(
            batch=batch,
            workspace=channel.name,
            call=self.call,
            started_at=self.started_at,
            seconds=self.seconds,
            status=self.status,
            outcome=self.outcome,
            detail=self.detail,
        ).save(using=channel.using, force_insert=True)


def settle(channel: Channel, sealed: Sealed, outcome: Outcome, call: Call) -> None:
    """Writes what became of a leased batch, and what it says about the workspace."""
    _settle_workspace(channel, outcome)
    with transaction.atomic(using=channel.using):
        call.write(channel, sealed.batch)
        if not _settle_batch(channel, sealed, outcome):
            logger.warning(
                "the lease of batch #%s was taken over; its answer is left to the new holder", sealed.batch.pk
            )


def _settle_workspace(channel: Channel, outcome: Outcome) -> None:
    match outcome:
        case Throttled(seconds, message):
            pace.hold_for_retry_after(channel, seconds, message)
        case KeyRefused(_, message):
            pace.pause(channel, message)
        case InDoubt(message) | Unavailable(message):
            pace.back_off(channel, message)
        case Accepted() | Refused() | TooLarge():
            pace.resume(channel)


def _settle_batch(channel: Channel, sealed: Sealed, outcome: Outcome) -> bool:
    """False when the lease was lost."""
    match outcome:
        case Accepted(rejected=0):
            return _accept(channel, sealed, outcome)
        case Accepted():
            return _accept_in_part(channel, sealed, outcome)
        case Refused(code, message, errors):
            return _refuse(channel, sealed, code, message, errors)
        case TooLarge(message):
            return _refuse(channel, sealed, "TOO_LARGE", message, ())
        case InDoubt(message):
            return _wait(channel, sealed, message, in_doubt=True, failed=True)
        case Unavailable(message):
            return _wait(channel, sealed, message, failed=True)
        case Throttled(_, message) | KeyRefused(_, message):
            return _wait(channel, sealed, message)


# --- 202 ----------------------------------------------------------------------------------------------


def _accept(channel: Channel, sealed: Sealed, outcome: Accepted) -> bool:
    return _rows(channel).settle(sealed.batch, BatchState.ACCEPTED, **_accepted(channel, outcome))


def _accept_in_part(channel: Channel, sealed: Sealed, outcome: Accepted) -> bool:
    """Some records were rejected. Where the answer names them all, the others are accepted."""
    located = _located(sealed.members, outcome.errors)
    if len(located) == outcome.rejected:
        state = BatchState.ACCEPTED if outcome.accepted else BatchState.REFUSED
        ended = {} if outcome.accepted else {"next_poll_at": None, "finished_at": channel.clock.now()}
        if not _rows(channel).settle(sealed.batch, state, **_accepted(channel, outcome) | ended):
            return False
        _reject(channel, sealed, located)
        return True
    told = _accepted(channel, outcome) | {"next_poll_at": None}
    message = f"{outcome.rejected} records were rejected and the answer does not name them all"
    # An answer that complains about more records than it rejects does not say which ones it rejected.
    sure = located if len(located) < outcome.rejected else {}
    return _divide(channel, sealed, "REJECTED", message, sure, told)


def _accepted(channel: Channel, outcome: Accepted) -> dict[str, Any]:
    return {
        "remote_id": outcome.remote_id,
        "accepted_at": channel.clock.now(),
        "accepted_count": outcome.accepted,
        "rejected_count": outcome.rejected,
        "total_error_count": outcome.total_errors,
        "errors": _errors_json(outcome.errors),
        "next_poll_at": channel.clock.after(poll_after(0, channel.settings.poll_interval)),
        "in_doubt": False,
        "failures": 0,
        "message": "",
    }


# --- 400, 413 -----------------------------------------------------------------------------------------


def _refuse(channel: Channel, sealed: Sealed, code: str, message: str, errors: Sequence[RecordError]) -> bool:
    located = _located(sealed.members, errors)
    told = {"errors": _errors_json(errors), "in_doubt": False, "failures": 0}
    return _divide(channel, sealed, code, message, located, told)


def _divide(
    channel: Channel,
    sealed: Sealed,
    code: str,
    message: str,
    located: dict[int, RecordError],
    told: dict[str, Any],
) -> bool:
    """The located records are rejected, the others go on in new batches: together where at least one
    was located, in halves where none was, and a single one is the culprit itself."""
    if sealed.batch.contract != channel.workspace.contract:
        # Sealed before the host changed CONTRACT: the form may be all that is wrong, so nobody is blamed.
        parts: list[Sequence[int]] = [sealed.members]
        located = {}
    else:
        located = located or _culprit(sealed, code, message)
        rest = [pk for position, pk in enumerate(sealed.members) if position not in located]
        parts = _parts(rest, together=bool(located))
    state = BatchState.SPLIT if parts else BatchState.REFUSED
    ended = {"message": message, "finished_at": channel.clock.now()}
    if not _rows(channel).settle(sealed.batch, state, **told | ended):
        return False
    _reject(channel, sealed, located)
    if parts:
        seal_parts(channel, sealed.batch, parts)
    return True


def _culprit(sealed: Sealed, code: str, message: str) -> dict[int, RecordError]:
    return {0: RecordError(0, code, message)} if len(sealed.members) == 1 else {}


def _parts(rest: Sequence[int], *, together: bool) -> list[Sequence[int]]:
    """Who goes on with whom: together where at least one was located, in halves where none was."""
    half = (len(rest) + 1) // 2
    return [part for part in ([rest] if together else [rest[:half], rest[half:]]) if part]


def _located(members: Sequence[int], errors: Sequence[RecordError]) -> dict[int, RecordError]:
    """Position → its errors in one, for the positions that exist."""
    located: dict[int, RecordError] = {}
    for error in errors:
        if error.index >= len(members):
            continue
        before = located.get(error.index)
        message = f"{before.message}\n{error.message}" if before else error.message
        located[error.index] = RecordError(error.index, before.code if before else error.code, message)
    return located


def _reject(channel: Channel, sealed: Sealed, located: dict[int, RecordError]) -> None:
    now = channel.clock.now()
    OutboxRecord.rows.using(channel.using).reject(
        OutboxRejection(
            record_id=sealed.members[position],
            batch=sealed.batch,
            position=position,
            code=error.code,
            message=error.message,
            rejected_at=now,
        )
        for position, error in located.items()
    )


# --- nothing taken, or unclear ------------------------------------------------------------------------


def _wait(
    channel: Channel, sealed: Sealed, message: str, *, in_doubt: bool = False, failed: bool = False
) -> bool:
    """The batch waits for its next attempt; once in doubt, it stays in doubt until an answer is clear."""
    batch = sealed.batch
    doubted = batch.in_doubt or in_doubt
    failures = batch.failures + failed
    pause = (
        full_jitter(failures, channel.settings.backoff_base, channel.settings.backoff_cap) if failed else 0
    )
    return _rows(channel).settle(
        batch,
        BatchState.IN_DOUBT if doubted else BatchState.SEALED,
        in_doubt=doubted,
        failures=failures,
        due_at=channel.clock.after(pause),
        message=message,
    )


# --- what Evermuse says later -------------------------------------------------------------------------


def settle_status(channel: Channel, batch: OutboxBatch, status: Status) -> None:
    """Writes what Evermuse says of an accepted batch."""
    with transaction.atomic(using=channel.using):
        match status.status:
            case "COMPLETE" if (
                status.rejected > (batch.rejected_count or 0) and batch.state == BatchState.ACCEPTED
            ):
                _complete_in_part(channel, batch, status)
            case "COMPLETE":
                _follow(channel, batch, status, BatchState.COMPLETE)
            case "FAILED" if batch.state == BatchState.ACCEPTED:
                fail(channel, batch, _told(status), _failure_message(status))
            case _:
                _follow(channel, batch, status, BatchState(batch.state))


def fail(channel: Channel, batch: OutboxBatch, told: dict[str, Any], message: str) -> None:
    """accepted → failed. Its records go out again under a new key, a limited number of times; then they
    are rejected and wait for a person."""
    ended = {"next_poll_at": None, "finished_at": channel.clock.now(), "message": message}
    if not _change(channel, batch, BatchState.FAILED, told | ended):
        return
    members = _open_members(channel, batch)
    if batch.resends >= channel.settings.max_resends:
        _reject(channel, Sealed(batch, members, b""), _all(members, "FAILED", message))
        return
    pause = full_jitter(batch.resends + 1, channel.settings.backoff_base, channel.settings.backoff_cap)
    seal_parts(channel, batch, [members], resends=batch.resends + 1, due_at=channel.clock.after(pause))


def give_up(channel: Channel, batch: OutboxBatch, message: str) -> None:
    """leased → failed, for a batch that can never be sent as it was sealed. Its records are rejected."""
    with transaction.atomic(using=channel.using):
        ended = {"finished_at": channel.clock.now(), "message": message}
        if _rows(channel).settle(batch, BatchState.FAILED, **ended):
            members = _open_members(channel, batch)
            _reject(channel, Sealed(batch, members, b""), _all(members, "NOT_SENDABLE", message))


def _open_members(channel: Channel, batch: OutboxBatch) -> tuple[int, ...]:
    rows = OutboxRecord.rows.using(channel.using).filter(batch=batch, closed_as__isnull=True)
    return tuple(rows.order_by("pk").values_list("pk", flat=True))


def _all(members: Sequence[int], code: str, message: str) -> dict[int, RecordError]:
    return {position: RecordError(position, code, message) for position in range(len(members))}


def _follow(channel: Channel, batch: OutboxBatch, status: Status, state: BatchState) -> bool:
    over = state == BatchState.COMPLETE and status.attachment_status not in ATTACHMENTS_UNDER_WAY
    now = channel.clock.now()
    age = (now - (batch.accepted_at or batch.sealed_at)).total_seconds()
    next_poll = None if over else channel.clock.after(poll_after(age, channel.settings.poll_interval))
    ended = {"finished_at": batch.finished_at or now} if state == BatchState.COMPLETE else {}
    return _change(channel, batch, state, _told(status) | ended | {"next_poll_at": next_poll})


def _complete_in_part(channel: Channel, batch: OutboxBatch, status: Status) -> None:
    """COMPLETE with more rejections than the 202 told of: the same question as then, asked later."""
    rows = OutboxRecord.rows.using(channel.using).filter(batch=batch).order_by("pk")
    closed = dict(rows.values_list("pk", "closed_as"))
    sealed = Sealed(batch, tuple(closed), b"")
    located = _located(sealed.members, status.errors)
    fresh = {p: e for p, e in located.items() if not closed[sealed.members[p]]}
    if len(located) == status.rejected:
        if _follow(channel, batch, status, BatchState.COMPLETE):
            _reject(channel, sealed, fresh)
        return
    message = f"COMPLETE with {status.rejected} rejected records, not all of them named"
    unsure = [p for p, pk in enumerate(sealed.members) if not closed[pk] and p not in fresh]
    if not fresh and len(unsure) == 1:
        fresh = {unsure.pop(): RecordError(0, "REJECTED", message)}
    ended = {"next_poll_at": None, "finished_at": channel.clock.now(), "message": message}
    if _change(channel, batch, BatchState.SPLIT, _told(status) | ended):
        _reject(channel, sealed, fresh)
        seal_parts(channel, batch, _parts([sealed.members[p] for p in unsure], together=bool(fresh)))


def _change(channel: Channel, batch: OutboxBatch, state: BatchState, changes: dict[str, Any]) -> bool:
    """Fenced by the state it was read in: what Evermuse said earlier never overwrites what it said later."""
    rows = _rows(channel).filter(pk=batch.pk, state=batch.state)
    return bool(rows.update(state=state, polls=batch.polls + 1, **changes))


def _told(status: Status) -> dict[str, Any]:
    return {
        "remote_status": status.status,
        "accepted_count": status.accepted,
        "rejected_count": status.rejected,
        "total_error_count": status.total_errors,
        "errors": _errors_json(status.errors),
        "attachment_status": status.attachment_status,
        "attachment_total": status.attachment_total,
        "attachment_complete": status.attachment_complete,
        "attachment_failed": status.attachment_failed,
    }


def _failure_message(status: Status) -> str:
    said = "; ".join(error.message for error in status.errors[:3])
    return f"Evermuse says FAILED: {said}" if said else "Evermuse says FAILED and gives no reason"


def _errors_json(errors: Sequence[RecordError]) -> list[dict[str, Any]]:
    return [{"index": e.index, "code": e.code, "message": e.message} for e in errors[:20]]


def _rows(channel: Channel) -> Any:
    return OutboxBatch.objects.using(channel.using)

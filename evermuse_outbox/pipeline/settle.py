"""Settling: what the attempt to send a batch came to, written into the rows. The only ``match`` on it.

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
from ..evermuse.limits import MAX_LISTED_ERRORS
from ..evermuse.outcomes import (
    Accepted,
    InDoubt,
    KeyRefused,
    Outcome,
    RecordError,
    Refused,
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
            pace.resume(channel, sent=True)


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
    named = locate(sealed.members, outcome.errors)
    same_form = sealed.batch.contract == channel.workspace.contract
    if len(named) == outcome.rejected and same_form:
        state = BatchState.ACCEPTED if outcome.accepted else BatchState.REFUSED
        ended = {} if outcome.accepted else {"next_poll_at": None, "finished_at": channel.clock.now()}
        if not _rows(channel).settle(sealed.batch, state, **_accepted(channel, outcome) | ended):
            return False
        reject_located(channel, sealed, named)
        return True
    told = _accepted(channel, outcome) | {"next_poll_at": None}
    message = f"{outcome.rejected} of {len(sealed.members)} records were rejected"
    # An answer that complains about more records than it rejects does not say which ones it rejected.
    sure = named if len(named) < outcome.rejected else {}
    return _divide(channel, sealed, "REJECTED", message, sure, told)


def _accepted(channel: Channel, outcome: Accepted) -> dict[str, Any]:
    return {
        "remote_id": outcome.remote_id,
        "accepted_at": channel.clock.now(),
        "accepted_count": outcome.accepted,
        "rejected_count": outcome.rejected,
        "total_error_count": outcome.total_errors,
        "errors": errors_json(outcome.errors),
        "next_poll_at": channel.clock.after(poll_after(0, channel.settings.poll_interval)),
        "in_doubt": False,
        "failures": 0,
        "message": "",
    }


# --- 400, 413 -----------------------------------------------------------------------------------------


def _refuse(channel: Channel, sealed: Sealed, code: str, message: str, errors: Sequence[RecordError]) -> bool:
    named = locate(sealed.members, errors)
    told = {"errors": errors_json(errors), "in_doubt": False, "failures": 0}
    return _divide(channel, sealed, code, message, named, told)


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
        parts = parts_of(rest, together=bool(located))
    state = BatchState.SPLIT if parts else BatchState.REFUSED
    ended = {"message": message, "finished_at": channel.clock.now()}
    if not _rows(channel).settle(sealed.batch, state, **told | ended):
        return False
    reject_located(channel, sealed, located)
    if parts:
        seal_parts(channel, sealed.batch, parts)
    return True


def _culprit(sealed: Sealed, code: str, message: str) -> dict[int, RecordError]:
    return {0: RecordError(0, code, message)} if len(sealed.members) == 1 else {}


def parts_of(rest: Sequence[int], *, together: bool) -> list[Sequence[int]]:
    """Who goes on with whom: together where at least one was located, in halves where none was."""
    half = (len(rest) + 1) // 2
    return [part for part in ([rest] if together else [rest[:half], rest[half:]]) if part]


def locate(members: Sequence[int], errors: Sequence[RecordError]) -> dict[int, RecordError]:
    """Position → its errors in one, for the positions that exist."""
    located: dict[int, RecordError] = {}
    for error in errors:
        if error.index >= len(members):
            continue
        before = located.get(error.index)
        message = f"{before.message}\n{error.message}" if before else error.message
        located[error.index] = RecordError(error.index, before.code if before else error.code, message)
    return located


def reject_located(channel: Channel, sealed: Sealed, located: dict[int, RecordError]) -> None:
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


# --- what can never be sent as it was sealed ----------------------------------------------------------


def give_up(channel: Channel, batch: OutboxBatch, message: str) -> None:
    """leased → failed, for a batch that can never be sent as it was sealed. Its records are rejected."""
    with transaction.atomic(using=channel.using):
        ended = {"finished_at": channel.clock.now(), "message": message}
        if _rows(channel).settle(batch, BatchState.FAILED, **ended):
            reject_open(channel, batch, "NOT_SENDABLE", message)


def reject_open(channel: Channel, batch: OutboxBatch, code: str, message: str) -> None:
    """Every record that is still in ``batch`` → rejected, all for the same reason."""
    now = channel.clock.now()
    rows = OutboxRecord.rows.using(channel.using)
    rows.reject(
        OutboxRejection(record_id=pk, batch=batch, code=code, message=message, rejected_at=now)
        for pk in open_members(channel, batch)
    )


def open_members(channel: Channel, batch: OutboxBatch) -> tuple[int, ...]:
    """The ids of the records that are still in ``batch``, in order."""
    rows = OutboxRecord.rows.using(channel.using).filter(batch=batch, closed_as__isnull=True)
    return tuple(rows.order_by("pk").values_list("pk", flat=True))


def errors_json(errors: Sequence[RecordError]) -> list[dict[str, Any]]:
    return [{"index": e.index, "code": e.code, "message": e.message} for e in errors[:MAX_LISTED_ERRORS]]


def _rows(channel: Channel) -> Any:
    return OutboxBatch.objects.using(channel.using)

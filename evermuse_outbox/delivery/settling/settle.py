"""Settling: what the attempt to send a batch came to, written into the rows. The only ``match`` on it.

The batch is changed first, fenced by its lease; a worker whose lease was taken over changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db import transaction

from ...evermuse.client import Answer
from ...evermuse.outcomes import (
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
from ...models import BatchState, OutboxAttempt, OutboxBatch
from ..context.backoff import full_jitter, poll_after
from ..context.context import Channel
from ..context.retries import persist_until
from ..gates import permits as pace
from ..gates.group_breaker import clear
from ..isolation.isolate import Refusal, dividing_parent, go_on_after_good, go_on_after_names, refuse
from ..isolation.rejections import (
    Located,
    errors_json,
    locate,
    open_members,
    reject_located,
    reject_open,
)
from ..sealing.seal import Sealed

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

    def is_written(self, channel: Channel, batch: OutboxBatch) -> bool:
        """Whether that row is there."""
        rows = OutboxAttempt.objects.using(channel.using)
        return rows.filter(batch=batch, call=self.call, started_at=self.started_at).exists()


def settle(channel: Channel, sealed: Sealed, outcome: Outcome, call: Call, *, by_read: bool = False) -> None:
    """Writes what became of a leased batch, and what it says about the workspace; ``by_read`` for what was learned
    without sending, which says nothing of sends.

    An answer is precious: where the database has trouble, it is kept and tried again while the lease lasts.
    """
    until = sealed.batch.leased_until or channel.clock.now()
    try:
        if not by_read:
            persist_until(until, channel.using, channel.clock, _settle_workspace, channel, outcome)
    finally:
        persist_until(until, channel.using, channel.clock, _write, channel, sealed, outcome, call)


def _write(channel: Channel, sealed: Sealed, outcome: Outcome, call: Call) -> None:
    """One try: the batch in memory stays as it was leased, for the next one."""
    sealed = replace(sealed, batch=copy(sealed.batch))
    with transaction.atomic(using=channel.using):
        if _settle_batch(channel, sealed, outcome):
            call.write(channel, sealed.batch)
        elif not call.is_written(channel, sealed.batch):  # or a COMMIT of ours was lost only on its way back
            call.write(channel, sealed.batch)
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
        case Accepted(accepted=0):
            return _accept_nobody(channel, sealed, outcome)
        case Accepted(rejected=0):
            return _accept(channel, sealed, outcome)
        case Accepted():
            return _accept_in_part(channel, sealed, outcome)
        case Refused(code, message, errors):
            told = {"errors": errors_json(errors), "in_doubt": False, "failures": 0}
            return refuse(channel, sealed, Refusal(code, message, errors, told))
        case TooLarge(message):
            told = {"in_doubt": False, "failures": 0}
            return refuse(channel, sealed, Refusal("TOO_LARGE", message, told=told, too_large=True))
        case InDoubt(message):
            return _wait(channel, sealed, message, in_doubt=True, failed=True)
        case Unavailable(message):
            return _wait(channel, sealed, message, failed=True)
        case Throttled(_, message) | KeyRefused(_, message):
            return _wait(channel, sealed, message)


# --- 202 ----------------------------------------------------------------------------------------------


def _accept(channel: Channel, sealed: Sealed, outcome: Accepted, named: Located | None = None) -> bool:
    """Evermuse has all of it, but for the ``named`` ones."""
    parent = dividing_parent(channel, sealed.batch)
    if not _rows(channel).settle(sealed.batch, BatchState.ACCEPTED, **_accepted(channel, outcome)):
        return False
    clear(channel, sealed.batch)
    if named:
        reject_located(channel, sealed.batch, sealed.members, named)
    if parent and named:
        go_on_after_names(channel, parent, len(named))
    elif parent:
        go_on_after_good(channel, parent, len(sealed.members))
    return True


def _accept_in_part(channel: Channel, sealed: Sealed, outcome: Accepted) -> bool:
    """Some records were rejected. Where the answer names them all, the others are accepted."""
    named = locate(sealed.members, outcome.errors)
    same_form = sealed.batch.contract == channel.workspace.contract
    if len(named) == outcome.rejected and same_form:
        return _accept(channel, sealed, outcome, named)
    # An answer that complains about more records than it rejects does not say which ones it rejected.
    sure = outcome.errors if len(named) < outcome.rejected else ()
    return refuse(channel, sealed, _rejection(channel, sealed, outcome, sure))


def _accept_nobody(channel: Channel, sealed: Sealed, outcome: Accepted) -> bool:
    """A 202 that rejects every record is a refusal."""
    return refuse(channel, sealed, _rejection(channel, sealed, outcome, outcome.errors))


def _rejection(channel: Channel, sealed: Sealed, outcome: Accepted, errors: Sequence[RecordError]) -> Refusal:
    message = f"{outcome.rejected} of {len(sealed.members)} records were rejected"
    told = _accepted(channel, outcome) | {"next_poll_at": None}
    return Refusal("REJECTED", message, errors, told, accepted=outcome.accepted)


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
    batch = copy(batch)  # a rollback leaves the caller's as it was leased
    with transaction.atomic(using=channel.using):
        ended = {"finished_at": channel.clock.now(), "message": message}
        parent = dividing_parent(channel, batch)
        members = open_members(channel, batch)
        if _rows(channel).settle(batch, BatchState.FAILED, **ended):
            reject_open(channel, batch, "NOT_SENDABLE", message)
            if parent:
                go_on_after_names(channel, parent, len(members))


def _rows(channel: Channel) -> Any:
    return OutboxBatch.objects.using(channel.using)

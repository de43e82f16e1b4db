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
from ...models import BatchQuerySet, BatchState, OutboxAttempt, OutboxBatch
from ..context.backoff import full_jitter, poll_delay
from ..context.context import DeliveryContext
from ..context.retries import retry_until
from ..gates import permits as pace
from ..gates.group_breaker import clear
from ..isolation.isolate import Refusal, go_on_after_good, go_on_after_names, lock_isolating_parent, refuse
from ..isolation.rejections import (
    Located,
    errors_json,
    locate,
    open_members,
    reject_located,
    reject_open,
)
from ..sealing.seal import SealedBatch

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

    def write(self, context: DeliveryContext, batch: OutboxBatch | None) -> None:
        """The attempt row."""
        OutboxAttempt(
            batch=batch,
            workspace=context.workspace_name,
            call=self.call,
            started_at=self.started_at,
            seconds=self.seconds,
            status=self.status,
            outcome=self.outcome,
            detail=self.detail,
        ).save(using=context.using, force_insert=True)

    def is_written(self, context: DeliveryContext, batch: OutboxBatch) -> bool:
        """Whether that row is there."""
        rows = OutboxAttempt.objects.using(context.using)
        return rows.filter(batch=batch, call=self.call, started_at=self.started_at).exists()


def settle(
    context: DeliveryContext, sealed: SealedBatch, outcome: Outcome, call: Call, *, by_read: bool = False
) -> None:
    """Writes what became of a leased batch, and what it says about the workspace; ``by_read`` for what was learned
    without sending, which says nothing of sends.

    An answer is precious: where the database has trouble, it is kept and tried again while the lease lasts.
    """
    until = sealed.batch.leased_until or context.clock.now()
    try:
        if not by_read:
            retry_until(until, context.using, context.clock, _settle_workspace, context, outcome)
    finally:
        retry_until(until, context.using, context.clock, _write, context, sealed, outcome, call)


def _write(context: DeliveryContext, sealed: SealedBatch, outcome: Outcome, call: Call) -> None:
    """One try: the batch in memory stays as it was leased, for the next one."""
    sealed = replace(sealed, batch=copy(sealed.batch))
    with transaction.atomic(using=context.using):
        if _settle_batch(context, sealed, outcome):
            call.write(context, sealed.batch)
        elif not call.is_written(context, sealed.batch):  # or a COMMIT of ours was lost only on its way back
            call.write(context, sealed.batch)
            logger.warning(
                "the lease of batch #%s was taken over; its answer is left to the new holder", sealed.batch.pk
            )


def _settle_workspace(context: DeliveryContext, outcome: Outcome) -> None:
    match outcome:
        case Throttled(seconds, message):
            pace.hold_for_retry_after(context, seconds, message)
        case KeyRefused(_, message):
            pace.pause(context, message)
        case InDoubt(message) | Unavailable(message):
            pace.back_off(context, message)
        case Accepted() | Refused() | TooLarge():
            pace.resume(context, sent=True)


def _settle_batch(context: DeliveryContext, sealed: SealedBatch, outcome: Outcome) -> bool:
    """False when the lease was lost."""
    match outcome:
        case Accepted(accepted=0):
            return _accept_nobody(context, sealed, outcome)
        case Accepted(rejected=0):
            return _accept(context, sealed, outcome)
        case Accepted():
            return _accept_in_part(context, sealed, outcome)
        case Refused(code, message, errors):
            told = {"errors": errors_json(errors), "in_doubt": False, "failures": 0}
            return refuse(context, sealed, Refusal(code, message, errors, told))
        case TooLarge(message):
            told = {"in_doubt": False, "failures": 0}
            return refuse(context, sealed, Refusal("TOO_LARGE", message, told=told, too_large=True))
        case InDoubt(message):
            return _wait(context, sealed, message, in_doubt=True, failed=True)
        case Unavailable(message):
            return _wait(context, sealed, message, failed=True)
        case Throttled(_, message) | KeyRefused(_, message):
            return _wait(context, sealed, message)


# --- 202 ----------------------------------------------------------------------------------------------


def _accept(
    context: DeliveryContext, sealed: SealedBatch, outcome: Accepted, named: Located | None = None
) -> bool:
    """Evermuse has all of it, but for the ``named`` ones."""
    parent = lock_isolating_parent(context, sealed.batch)
    if not _rows(context).settle(sealed.batch, BatchState.ACCEPTED, **_accepted(context, outcome)):
        return False
    clear(context, sealed.batch)
    if named:
        reject_located(context, sealed.batch, sealed.members, named)
    if parent and named:
        go_on_after_names(context, parent, len(named))
    elif parent:
        go_on_after_good(context, parent, len(sealed.members))
    return True


def _accept_in_part(context: DeliveryContext, sealed: SealedBatch, outcome: Accepted) -> bool:
    """Some records were rejected. Where the answer names them all, the others are accepted."""
    named = locate(sealed.members, outcome.errors)
    same_form = sealed.batch.contract == context.workspace.contract
    if len(named) == outcome.rejected and same_form:
        return _accept(context, sealed, outcome, named)
    # An answer that complains about more records than it rejects does not say which ones it rejected.
    sure = outcome.errors if len(named) < outcome.rejected else ()
    return refuse(context, sealed, _rejection(context, sealed, outcome, sure))


def _accept_nobody(context: DeliveryContext, sealed: SealedBatch, outcome: Accepted) -> bool:
    """A 202 that rejects every record is a refusal."""
    return refuse(context, sealed, _rejection(context, sealed, outcome, outcome.errors))


def _rejection(
    context: DeliveryContext, sealed: SealedBatch, outcome: Accepted, errors: Sequence[RecordError]
) -> Refusal:
    message = f"{outcome.rejected} of {len(sealed.members)} records were rejected"
    told = _accepted(context, outcome) | {"next_poll_at": None}
    return Refusal("REJECTED", message, errors, told, accepted=outcome.accepted)


def _accepted(context: DeliveryContext, outcome: Accepted) -> dict[str, Any]:
    return {
        "remote_id": outcome.remote_id,
        "accepted_at": context.clock.now(),
        "accepted_count": outcome.accepted,
        "rejected_count": outcome.rejected,
        "total_error_count": outcome.total_errors,
        "errors": errors_json(outcome.errors),
        "next_poll_at": context.clock.after(poll_delay(0, context.settings.poll_interval)),
        "in_doubt": False,
        "failures": 0,
        "message": "",
    }


# --- nothing taken, or unclear ------------------------------------------------------------------------


def _wait(
    context: DeliveryContext,
    sealed: SealedBatch,
    message: str,
    *,
    in_doubt: bool = False,
    failed: bool = False,
) -> bool:
    """The batch waits for its next attempt; once in doubt, it stays in doubt until an answer is clear."""
    batch = sealed.batch
    doubted = batch.in_doubt or in_doubt
    failures = batch.failures + failed
    pause = (
        full_jitter(failures, context.settings.backoff_base, context.settings.backoff_cap) if failed else 0
    )
    return _rows(context).settle(
        batch,
        BatchState.IN_DOUBT if doubted else BatchState.SEALED,
        in_doubt=doubted,
        failures=failures,
        due_at=context.clock.after(pause),
        message=message,
    )


# --- what can never be sent as it was sealed ----------------------------------------------------------


def give_up(context: DeliveryContext, batch: OutboxBatch, message: str) -> None:
    """leased → failed, for a batch that can never be sent as it was sealed. Its records are rejected."""
    batch = copy(batch)  # a rollback leaves the caller's as it was leased
    with transaction.atomic(using=context.using):
        ended = {"finished_at": context.clock.now(), "message": message}
        parent = lock_isolating_parent(context, batch)
        members = open_members(context, batch)
        if _rows(context).settle(batch, BatchState.FAILED, **ended):
            reject_open(context, batch, "NOT_SENDABLE", message)
            if parent:
                go_on_after_names(context, parent, len(members))


def _rows(context: DeliveryContext) -> BatchQuerySet:
    return OutboxBatch.objects.using(context.using)

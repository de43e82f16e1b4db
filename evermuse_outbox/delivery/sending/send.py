"""Sending: lease → wait for the throttle → POST → outcome → settle. Two short transactions, HTTP between."""

from __future__ import annotations

import logging
from dataclasses import replace
from enum import Enum, auto
from functools import partial

from ...evermuse.client import Answer
from ...evermuse.errors import Unanswered, Unreachable
from ...evermuse.outcomes import Accepted, Outcome, of_error, of_ingest
from ...models import BatchState, OutboxBatch
from ..context.context import DeliveryContext
from ..gates import permits as pace
from ..polling import reconciliation as lookup
from ..sealing.seal import BodyChanged, SealedBatch, SealRaced, open_sealed, seal_next
from ..settling.settle import Call, give_up, settle

logger = logging.getLogger(__name__)


class Step(Enum):
    """What one turn of a sender came to."""

    SENT = auto()
    IDLE = auto()
    HELD = auto()
    CROWDED = auto()
    """Enough others wait for the next slots."""


def send_next(context: DeliveryContext, *, new_first: bool = False) -> Step:
    """Sends the batch that has waited longest, or seals and sends a new one; or the other way round.

    Who sends many takes both ways in turn: a batch that is divided for long, part by part, holds up nobody else.
    """
    with pace.gate(context) as gate:
        if gate.is_open:
            return _send_ready(context, new_first)
    return Step.HELD


def _send_ready(context: DeliveryContext, new_first: bool) -> Step:
    if pace.is_crowded(context):
        return Step.CROWDED
    try:
        first, second = (_seal, lease_due) if new_first else (lease_due, _seal)
        sealed = first(context) or second(context)
    except SealRaced as error:
        logger.warning("%s", error)
        return Step.HELD
    return send(context, sealed) if sealed else Step.IDLE


def _seal(context: DeliveryContext) -> SealedBatch | None:
    return context.run_with_retries(seal_next, context)


def lease_due(context: DeliveryContext) -> SealedBatch | None:
    """The longest waiting sealed batch, leased to the caller; None where none is due."""
    rows = OutboxBatch.objects.using(context.using)
    for batch in context.run_with_retries(list, rows.due(context.workspace_name, context.clock.now())[:20]):
        if context.run_with_retries(rows.lease, batch, context.clock.after(context.settings.lease)):
            try:
                return context.run_with_retries(open_sealed, context, batch)
            except BodyChanged as error:
                logger.error("%s", error)
                context.run_with_retries(give_up, context, batch, str(error))
    return None


def send(context: DeliveryContext, sealed: SealedBatch) -> Step:
    """Posts a leased batch when it may be sent, and settles what came of it."""
    if lookup.is_needed(context, sealed.batch) and (step := _look_up(context, sealed)):
        return step
    permit = None
    try:
        permit = pace.acquire_permit(context)
        if permit and not _lease_lasts(context, sealed):
            permit = None
    finally:
        if permit is None:
            give_back(context, sealed)
    if permit is None:
        return Step.HELD
    started = context.clock.now()
    outcome, answer = post(context, sealed, permit)
    settle(context, sealed, outcome, Call.made("ingest", started, outcome, answer))
    return Step.SENT


def _look_up(context: DeliveryContext, sealed: SealedBatch) -> Step | None:
    """Settles a batch that Evermuse turns out to have; None where it is to be sent again."""
    started = context.clock.now()
    try:
        outcome = lookup.look_up(context, sealed.batch)
    except lookup.NotNow:
        give_back(context, sealed)
        return Step.HELD
    except Exception:
        give_back(context, sealed)
        raise
    if outcome is None:
        return None
    call = Call.made("listing", started, outcome, None)
    if isinstance(outcome, Accepted):
        call = replace(call, detail=f"Found in the listing as {outcome.remote_id}.")
    settle(context, sealed, outcome, call, by_read=True)
    return Step.SENT


def _lease_lasts(context: DeliveryContext, sealed: SealedBatch) -> bool:
    """Whether an answer can be had before the lease runs out; a sender may have been paused for long."""
    until = sealed.batch.leased_until
    return until is not None and context.clock.after(context.settings.timeout) < until


def post(context: DeliveryContext, sealed: SealedBatch, permit: str) -> tuple[Outcome, Answer | None]:
    """One HTTP call, and what it came to."""
    batch = sealed.batch
    request = partial(
        context.client.ingest,
        sealed.body,
        content_type=sealed.content_type,
        key=batch.key,
        format_hint=batch.format_hint,
    )
    try:
        answer = pace.call(context, permit, request, is_send=True)
    except (Unreachable, Unanswered) as error:
        return of_error(error), None
    return of_ingest(answer, len(sealed.members)), answer


def give_back(context: DeliveryContext, sealed: SealedBatch) -> None:
    """Nothing was sent: the batch waits on as it was before the lease."""
    state = BatchState.IN_DOUBT if sealed.batch.in_doubt else BatchState.SEALED
    rows = OutboxBatch.objects.using(context.using)
    context.run_with_retries(rows.settle, sealed.batch, state)

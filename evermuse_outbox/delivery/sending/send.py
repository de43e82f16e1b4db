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
from ..context.context import Channel
from ..gates import permits as pace
from ..polling import reconciliation as lookup
from ..sealing.seal import BodyChanged, Sealed, SealRaced, open_sealed, seal_next
from ..settling.settle import Call, give_up, settle

logger = logging.getLogger(__name__)


class Step(Enum):
    """What one turn of a sender came to."""

    SENT = auto()
    IDLE = auto()
    HELD = auto()
    CROWDED = auto()
    """Enough others wait for the next slots."""


def send_next(channel: Channel, *, new_first: bool = False) -> Step:
    """Sends the batch that has waited longest, or seals and sends a new one; or the other way round.

    Who sends many takes both ways in turn: a batch that is divided for long, part by part, holds up nobody else.
    """
    with pace.gate(channel) as gate:
        if gate.is_open:
            return _send_ready(channel, new_first)
    return Step.HELD


def _send_ready(channel: Channel, new_first: bool) -> Step:
    if pace.is_crowded(channel):
        return Step.CROWDED
    try:
        first, second = (_seal, lease_due) if new_first else (lease_due, _seal)
        sealed = first(channel) or second(channel)
    except SealRaced as error:
        logger.warning("%s", error)
        return Step.HELD
    return send(channel, sealed) if sealed else Step.IDLE


def _seal(channel: Channel) -> Sealed | None:
    return channel.persist(seal_next, channel)


def lease_due(channel: Channel) -> Sealed | None:
    """The longest waiting sealed batch, leased to the caller; None where none is due."""
    rows = OutboxBatch.objects.using(channel.using)
    for batch in channel.persist(list, rows.due(channel.name, channel.clock.now())[:20]):
        if channel.persist(rows.lease, batch, channel.clock.after(channel.settings.lease)):
            try:
                return channel.persist(open_sealed, channel, batch)
            except BodyChanged as error:
                logger.error("%s", error)
                channel.persist(give_up, channel, batch, str(error))
    return None


def send(channel: Channel, sealed: Sealed) -> Step:
    """Posts a leased batch when it may be sent, and settles what came of it."""
    if lookup.is_needed(channel, sealed.batch) and (step := _look_up(channel, sealed)):
        return step
    visit = None
    try:
        visit = pace.wait_for_slot(channel)
        if visit and not _lease_lasts(channel, sealed):
            visit = None
    finally:
        if visit is None:
            give_back(channel, sealed)
    if visit is None:
        return Step.HELD
    started = channel.clock.now()
    outcome, answer = post(channel, sealed, visit)
    settle(channel, sealed, outcome, Call.made("ingest", started, outcome, answer))
    return Step.SENT


def _look_up(channel: Channel, sealed: Sealed) -> Step | None:
    """Settles a batch that Evermuse turns out to have; None where it is to be sent again."""
    started = channel.clock.now()
    try:
        outcome = lookup.look_up(channel, sealed.batch)
    except lookup.NotNow:
        give_back(channel, sealed)
        return Step.HELD
    except Exception:
        give_back(channel, sealed)
        raise
    if outcome is None:
        return None
    call = Call.made("listing", started, outcome, None)
    if isinstance(outcome, Accepted):
        call = replace(call, detail=f"Found in the listing as {outcome.remote_id}.")
    settle(channel, sealed, outcome, call, by_read=True)
    return Step.SENT


def _lease_lasts(channel: Channel, sealed: Sealed) -> bool:
    """Whether an answer can be had before the lease runs out; a sender may have been paused for long."""
    until = sealed.batch.leased_until
    return until is not None and channel.clock.after(channel.settings.timeout) < until


def post(channel: Channel, sealed: Sealed, visit: str) -> tuple[Outcome, Answer | None]:
    """One HTTP call, and what it came to."""
    batch = sealed.batch
    request = partial(
        channel.client.ingest,
        sealed.body,
        content_type=sealed.content_type,
        key=batch.key,
        format_hint=batch.format_hint,
    )
    try:
        answer = pace.call(channel, visit, request, is_send=True)
    except (Unreachable, Unanswered) as error:
        return of_error(error), None
    return of_ingest(answer, len(sealed.members)), answer


def give_back(channel: Channel, sealed: Sealed) -> None:
    """Nothing was sent: the batch waits on as it was before the lease."""
    state = BatchState.IN_DOUBT if sealed.batch.in_doubt else BatchState.SEALED
    rows = OutboxBatch.objects.using(channel.using)
    channel.persist(rows.settle, sealed.batch, state)

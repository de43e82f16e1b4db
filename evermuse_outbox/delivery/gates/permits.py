"""When this process may call Evermuse: what holds the workspace, and the wait for a slot.

Nobody who waits here holds a transaction or a row lock; a leased batch is all that waits with them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime

from ...conf import PATIENCE
from ...evermuse.client import Answer
from ...evermuse.errors import ThrottleUnavailable
from ...evermuse.outcomes import Throttled, of_read
from ...models import Hold, OutboxWorkspace
from ...ratelimit.throttle import MAX_HOLD
from ..context.backoff import full_jitter
from ..context.context import Channel

logger = logging.getLogger(__name__)

CROWDED = 0.3
"""Seconds. Where the next slot is further away, enough senders wait already."""

KEEPER_DOWN = 5.0
"""Seconds until Redis is asked again when it did not answer."""

PROBE = 60.0
"""Seconds between two tries of a key that was refused."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether a workspace may be used. ``probe_until`` is set for the one who tries whether a hold is over."""

    is_open: bool
    probe_until: datetime | None = None


CLOSED, OPEN = Gate(is_open=False), Gate(is_open=True)

_let_in_after: ContextVar[int | None] = ContextVar("let in after", default=None)
"""How many failures in a row there were when this sender was let in."""


@contextmanager
def gate(channel: Channel) -> Iterator[Gate]:
    """Whether the workspace may be used now. Where a hold has run out, one caller gets to try it.

    What that caller learns from Evermuse opens the workspace or holds it anew. Where nothing was learned,
    the next caller may try.
    """
    before, found = _let_in_after.set(None), CLOSED
    try:
        found = channel.persist(_gate, channel)
        yield found
    except ThrottleUnavailable as error:
        # Without the keeper of the pace nothing is sent: the limit is a promise.
        channel.persist(_hold, channel, Hold.BACKING_OFF, KEEPER_DOWN, str(error))
    finally:
        _let_in_after.reset(before)
        if found.probe_until:
            mine = OutboxWorkspace.objects.using(channel.using).filter(
                pk=channel.name, held_until=found.probe_until
            )
            channel.persist(mine.update, held_until=channel.clock.now())


def _gate(channel: Channel) -> Gate:
    rows = OutboxWorkspace.objects.using(channel.using)
    row = rows.named(channel.name)
    _let_in_after.set(row.failures)
    if row.held_until and row.held_until > channel.clock.now():
        return CLOSED
    if not channel.workspace.api_key:
        _hold(channel, Hold.PAUSED, PROBE, f"no API_KEY is set for the workspace {channel.name!r}")
        return CLOSED
    if row.state == Hold.OPEN:
        return OPEN
    if row.state == Hold.THROTTLED:
        rows.resume(channel.name, channel.clock.now(), sent=False)
        return OPEN
    until = channel.clock.after(channel.settings.lease)
    return Gate(is_open=True, probe_until=until) if rows.claim_probe(row, until) else CLOSED


def is_crowded(channel: Channel) -> bool:
    """Whether the next slot is so far away that another sender would only wait."""
    return channel.throttle.wait() > CROWDED


def wait_for_slot(channel: Channel) -> str | None:
    """Returns at the moment when a request may be sent: its visit, for :meth:`Throttle.leave`.

    None where that moment is not soon. Slots given out before a 429 are not used after it: the hold stands
    at the door.
    """
    clock = channel.clock
    deadline = clock.monotonic() + PATIENCE
    grant = channel.throttle.reserve(PATIENCE)
    wait = grant.wait
    if not grant.taken:
        return None
    while clock.monotonic() + wait <= deadline:
        clock.sleep(wait)
        wait, visit = channel.throttle.enter()
        if visit:
            return visit
    return None


def call(channel: Channel, visit: str, request: Callable[[], Answer], *, is_send: bool) -> Answer:
    """One HTTP call within its visit. Raises what ``request`` raises."""
    try:
        answer = request()
        if isinstance(told := of_read(answer), Throttled):
            _shut_the_door(channel, told.retry_after)  # before anything else, as others stand before it
        return answer
    finally:
        try:
            channel.throttle.leave(visit, is_send=is_send)
        except ThrottleUnavailable as error:
            # The answer matters more; an unfinished visit ends by itself.
            logger.warning("%s", error)


def hold_for_retry_after(channel: Channel, seconds: float, message: str) -> None:
    """429: nobody who uses this key sends for that long; :func:`call` has shut the door already."""
    _hold(channel, Hold.THROTTLED, min(seconds, MAX_HOLD), message)


def _shut_the_door(channel: Channel, seconds: float) -> None:
    try:
        channel.throttle.hold(seconds)
    except ThrottleUnavailable as error:
        # Who does not answer gives no slots either, and the workspace's own hold stands.
        logger.warning("%s", error)


def pause(channel: Channel, message: str) -> None:
    """401, 403: the key is tried again now and then."""
    _hold(channel, Hold.PAUSED, PROBE, message)


def back_off(channel: Channel, message: str) -> None:
    """Trouble of the API or of the way to it: everything waits, longer each time.

    Ten requests that were under way together when the API died are one failure, not ten.
    """
    rows = OutboxWorkspace.objects.using(channel.using)
    let_in_after = _let_in_after.get()
    failures = rows.named(channel.name).failures if let_in_after is None else let_in_after
    seconds = full_jitter(failures + 1, channel.settings.backoff_base, channel.settings.backoff_cap)
    until = channel.clock.after(seconds)
    if rows.back_off(channel.name, failures, until, message):
        _tell(channel, Hold.BACKING_OFF, until, message)


def resume(channel: Channel, *, sent: bool) -> None:
    """The API has answered as it should: what held the workspace is over. ``sent`` for the answer to a POST."""
    if OutboxWorkspace.objects.using(channel.using).resume(channel.name, channel.clock.now(), sent=sent):
        logger.info("workspace %s is open again", channel.name)


def _hold(channel: Channel, state: Hold, seconds: float, reason: str) -> None:
    until = channel.clock.after(seconds)
    if OutboxWorkspace.objects.using(channel.using).hold(channel.name, state, until, reason):
        _tell(channel, state, until, reason)


def _tell(channel: Channel, state: Hold, until: datetime, reason: str) -> None:
    logger.warning("workspace %s is %s until %s: %s", channel.name, state.value, until.isoformat(), reason)

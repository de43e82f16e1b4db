"""When this process may call Evermuse: what holds the workspace, and the wait for a slot.

Nobody who waits here holds a transaction or a row lock; a leased batch is all that waits with them.
"""

from __future__ import annotations

import logging
from enum import Enum, auto

from django.utils import timezone

from ..evermuse.throttle import MAX_HOLD
from ..models import Hold, OutboxWorkspace
from .backoff import full_jitter
from .channel import Channel

logger = logging.getLogger(__name__)

CROWDED = 0.3
"""Seconds. Where the next slot is further away, enough senders wait already."""

PATIENCE = 5.0
"""Seconds that a leased batch waits for its slot before it is given back."""

LATE = 0.025
"""Seconds. A slot met later than this is let go: a late request would fall into the window of the next ones."""

PROBE = 60.0
"""Seconds between two tries of a key that was refused."""


class Gate(Enum):
    """Whether a workspace may be used."""

    OPEN = auto()
    PROBE = auto()
    CLOSED = auto()


def gate(channel: Channel) -> Gate:
    """Whether the workspace may be used now. Where a hold has run out, one caller gets to try it.

    Who is told ``PROBE`` sends one batch, whose outcome opens or holds the workspace, or calls
    :func:`leave_probe`.
    """
    if not channel.workspace.api_key:
        _hold(channel, Hold.PAUSED, PROBE, f"no API_KEY is set for the workspace {channel.name!r}")
        return Gate.CLOSED
    rows = OutboxWorkspace.objects.using(channel.using)
    row = rows.named(channel.name)
    if row.state == Hold.OPEN:
        return Gate.OPEN
    if row.held_until and row.held_until > channel.clock.now():
        return Gate.CLOSED
    if row.state == Hold.THROTTLED:
        rows.resume(channel.name)
        return Gate.OPEN
    mine = rows.claim_probe(row, channel.clock.after(channel.settings.lease))
    return Gate.PROBE if mine else Gate.CLOSED


def leave_probe(channel: Channel) -> None:
    """There was nothing to try with: the next caller may."""
    rows = OutboxWorkspace.objects.using(channel.using).filter(pk=channel.name).exclude(state=Hold.OPEN)
    rows.update(held_until=channel.clock.now())


def is_crowded(channel: Channel) -> bool:
    """Whether the next slot is so far away that another sender would only wait."""
    return channel.throttle.wait() > CROWDED


def wait_for_slot(channel: Channel) -> bool:
    """Returns True at the moment of our slot, False where there will be none soon."""
    clock = channel.clock
    deadline = clock.monotonic() + PATIENCE
    while (patience := deadline - clock.monotonic()) > 0:
        grant = channel.throttle.reserve(patience)
        if not grant.taken:
            return False
        slot = clock.monotonic() + grant.wait
        clock.sleep(grant.wait)
        # Slots given out before a 429 must not be used after it.
        if grant.wait and channel.throttle.held():
            return False
        if clock.monotonic() - slot <= LATE:
            return True
        logger.debug("slot met %.3f s late, taking another", clock.monotonic() - slot)
    return False


def hold_for_retry_after(channel: Channel, seconds: float, message: str) -> None:
    """429: nobody who uses this key sends for that long."""
    channel.throttle.hold(seconds)
    _hold(channel, Hold.THROTTLED, min(seconds, MAX_HOLD), message)


def pause(channel: Channel, message: str) -> None:
    """401, 403: the key is tried again now and then."""
    _hold(channel, Hold.PAUSED, PROBE, message)


def back_off(channel: Channel, message: str) -> None:
    """Trouble of the API or of the way to it: everything waits, longer each time."""
    row = OutboxWorkspace.objects.using(channel.using).named(channel.name)
    settings = channel.settings
    _hold(
        channel,
        Hold.BACKING_OFF,
        full_jitter(row.failures + 1, settings.backoff_base, settings.backoff_cap),
        message,
    )


def resume(channel: Channel) -> None:
    """The API has answered as it should: whatever held the workspace is over."""
    if OutboxWorkspace.objects.using(channel.using).resume(channel.name):
        logger.info("workspace %s is open again", channel.name)


def _hold(channel: Channel, state: Hold, seconds: float, reason: str) -> None:
    until = channel.clock.after(seconds)
    OutboxWorkspace.objects.using(channel.using).hold(channel.name, state, until, reason)
    logger.warning(
        "workspace %s is %s until %s: %s",
        channel.name,
        state.value,
        timezone.localtime(until).isoformat(),
        reason,
    )

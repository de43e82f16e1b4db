"""The loop around the arrows: what a Celery task or ``manage.py outbox_relay`` runs."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..evermuse.errors import ThrottleUnavailable
from .channel import Channel
from .crew import Crew, Shift
from .groups import has_work
from .send import Step, send_next
from .track import track_due


def relay(channel: Channel, seconds: float, shift: Shift | None = None) -> int:
    """Seals and sends until nothing is due, others do so already, or the time is up.

    Returns how many batches this sender sent. A batch under way when the time is up is finished first.
    ``shift`` is called for help where slots go unused while records wait.
    """
    started, waited = channel.clock.monotonic(), channel.client.seconds
    sent, now = 0, started
    while now < started + seconds and send_next(channel, new_first=sent % 2 == 1) is Step.SENT:
        sent, now = sent + 1, channel.clock.monotonic()
        if shift and now > started:
            shift.crew.sent(waiting=(channel.client.seconds - waited) / (now - started))
            if shift.has_room() and _slots_go_unused(channel):
                shift.call(math.ceil(channel.workspace.rate_limit * (now - started) / sent))
    return sent


def relay_with_crew(channel: Channel, seconds: float, hand_over: Callable[[], None] = lambda: None) -> int:
    """:func:`relay`, with as many senders side by side as are of use.

    Returns how many batches were sent by all of them; 0 where there is nothing to do, or enough do it already.
    ``hand_over`` is called when this one is done and its helpers may still wait for answers, so that others can go on.
    """
    crew = Crew.of(channel)
    if not has_work(channel) or not crew.admit(channel.settings.senders):
        return 0
    shift = Shift(channel, seconds, relay)
    try:
        shift.call(1 + crew.size)
        sent = _relay_and_leave(channel, seconds, shift)
        if sent:
            hand_over()
    finally:
        sent_by_others = shift.join()
    return sent + sent_by_others


def _relay_and_leave(channel: Channel, seconds: float, shift: Shift) -> int:
    try:
        return relay(channel, seconds, shift)
    finally:
        shift.crew.dismiss()


def track(channel: Channel, seconds: float) -> int:
    """Follows accepted batches until none is due or the time is up. Returns how many were asked about."""
    deadline = channel.clock.monotonic() + seconds
    asked = 0
    while channel.clock.monotonic() < deadline:
        due = track_due(channel)
        if not due:
            break
        asked += due
    return asked


def _slots_go_unused(channel: Channel) -> bool:
    try:
        return channel.throttle.wait() <= 0 and has_work(channel)
    except ThrottleUnavailable:
        return False

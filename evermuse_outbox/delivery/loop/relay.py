"""The loop around the arrows: what a Celery task or ``manage.py outbox_relay`` runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from ...evermuse.errors import ThrottleUnavailable
from ..context.context import Channel
from ..polling.poll import track_due
from ..scheduling.pending import has_work
from ..sending.send import Step, send_next
from .sender_pool import LOOK, Crew

PATIENCE = 2.0
"""Seconds without a slot after which a sender is one too many."""

KNOCK = 0.1
"""Seconds between two looks for a slot where enough senders wait for the next ones."""


def relay(channel: Channel, seconds: float, crew: Crew | None = None, *, patient: bool = False) -> int:
    """Seals and sends until nothing is due, others do so already, or the time is up.

    Returns how many batches this sender sent. A batch under way when the time is up is finished first.
    ``crew`` is called for help where slots go unused while records wait. Who is ``patient`` waits for a slot from the
    start, where others stand in line.
    """
    clock = channel.clock
    started, waited = clock.monotonic(), channel.client.seconds
    sent, last, now = 0, started, started
    if crew:
        crew.join(channel.client)
    while now < started + seconds:
        step = send_next(channel, new_first=sent % 2 == 1)
        now = clock.monotonic()
        if step is Step.SENT:
            sent, last = sent + 1, now
            if crew and now > started:
                crew.sent(waiting=(channel.client.seconds - waited) / (now - started))
                _call_for_help(channel, crew, (now - started) / sent)
        elif step is Step.CROWDED and (sent or patient) and now < last + PATIENCE:
            clock.sleep(KNOCK)
        else:
            break
    return sent


def relay_with_crew(channel: Channel, seconds: float, hand_over: Callable[[], None] = lambda: None) -> int:
    """:func:`relay`, with as many senders side by side as are of use.

    Returns how many batches were sent by all of them; 0 where there is nothing to do, or enough do it already.
    ``hand_over`` is called when this one is done and its helpers are still at work, so that another run can go on.
    """
    crew = Crew.of(channel)
    if not has_work(channel) or not crew.begin(seconds):
        return 0
    try:
        sent = _lead(channel, seconds, crew)
        if sent:
            hand_over()
    finally:
        sent_by_helpers = crew.end()
    return sent + sent_by_helpers


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


def _lead(channel: Channel, seconds: float, crew: Crew) -> int:
    try:
        goes_on = crew.is_at_work()
        crew.call(_help)
        with crew.look_out(_help, partial(_slots_go_unused, within=LOOK)):
            return relay(channel, seconds, crew, patient=goes_on)
    finally:
        crew.stop_leading()


def _help(channel: Channel, seconds: float, crew: Crew) -> int:
    return relay(channel, seconds, crew, patient=True)


def _call_for_help(channel: Channel, crew: Crew, cycle: float) -> None:
    """Where slots go unused: as many senders as the rate needs, if one takes ``cycle`` seconds for a batch."""
    if crew.has_room() and _slots_go_unused(channel):
        crew.call(_help, math.ceil(channel.workspace.rate_limit * cycle))


def _slots_go_unused(channel: Channel, within: float = 0.0) -> bool:
    """Whether nobody stands for the slot that comes ``within`` so many seconds, though something waits."""
    try:
        return channel.throttle.wait() <= within and has_work(channel)
    except ThrottleUnavailable:
        return False

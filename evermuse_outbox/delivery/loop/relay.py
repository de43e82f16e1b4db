"""The loop around the arrows: what a Celery task or ``manage.py outbox_relay`` runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from ...evermuse.errors import ThrottleUnavailable
from ..context.context import DeliveryContext
from ..polling.poll import poll_due_batch
from ..scheduling.pending import has_work
from ..sending.send import Step, send_next
from .sender_pool import LOOK, SenderPool

PATIENCE = 2.0
"""Seconds without a slot after which a sender is one too many."""

KNOCK = 0.1
"""Seconds between two looks for a slot where enough senders wait for the next ones."""


def relay(
    context: DeliveryContext, seconds: float, pool: SenderPool | None = None, *, patient: bool = False
) -> int:
    """Seals and sends until nothing is due, others do so already, or the time is up.

    Returns how many batches this sender sent. A batch under way when the time is up is finished first.
    ``crew`` is called for help where slots go unused while records wait. Who is ``patient`` waits for a slot from the
    start, where others stand in line.
    """
    clock = context.clock
    started, waited = clock.monotonic(), context.client.seconds
    sent, last, now = 0, started, started
    if pool:
        pool.join(context.client)
    while now < started + seconds:
        step = send_next(context, new_first=sent % 2 == 1)
        now = clock.monotonic()
        if step is Step.SENT:
            sent, last = sent + 1, now
            if pool and now > started:
                pool.sent(waiting=(context.client.seconds - waited) / (now - started))
                _call_for_help(context, pool, (now - started) / sent)
        elif step is Step.CROWDED and (sent or patient) and now < last + PATIENCE:
            clock.sleep(KNOCK)
        else:
            break
    return sent


def relay_with_pool(
    context: DeliveryContext, seconds: float, hand_over: Callable[[], None] = lambda: None
) -> int:
    """:func:`relay`, with as many senders side by side as are of use.

    Returns how many batches were sent by all of them; 0 where there is nothing to do, or enough do it already.
    ``hand_over`` is called when this one is done and its helpers are still at work, so that another run can go on.
    """
    pool = SenderPool.of(context)
    if not has_work(context) or not pool.begin(seconds):
        return 0
    try:
        sent = _lead(context, seconds, pool)
        if sent:
            hand_over()
    finally:
        sent_by_helpers = pool.end()
    return sent + sent_by_helpers


def track(context: DeliveryContext, seconds: float) -> int:
    """Follows accepted batches until none is due or the time is up. Returns how many were asked about."""
    deadline = context.clock.monotonic() + seconds
    asked = 0
    while context.clock.monotonic() < deadline:
        due = poll_due_batch(context)
        if not due:
            break
        asked += due
    return asked


def _lead(context: DeliveryContext, seconds: float, pool: SenderPool) -> int:
    try:
        goes_on = pool.is_at_work()
        pool.call(_help)
        with pool.look_out(_help, partial(_slots_go_unused, within=LOOK)):
            return relay(context, seconds, pool, patient=goes_on)
    finally:
        pool.stop_leading()


def _help(context: DeliveryContext, seconds: float, pool: SenderPool) -> int:
    return relay(context, seconds, pool, patient=True)


def _call_for_help(context: DeliveryContext, pool: SenderPool, cycle: float) -> None:
    """Where slots go unused: as many senders as the rate needs, if one takes ``cycle`` seconds for a batch."""
    if pool.has_room() and _slots_go_unused(context):
        pool.call(_help, math.ceil(context.workspace.rate_limit * cycle))


def _slots_go_unused(context: DeliveryContext, within: float = 0.0) -> bool:
    """Whether nobody stands for the slot that comes ``within`` so many seconds, though something waits."""
    try:
        return context.throttle.wait() <= within and has_work(context)
    except ThrottleUnavailable:
        return False

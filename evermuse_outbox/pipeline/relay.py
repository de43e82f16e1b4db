"""The loop around the arrows: what a Celery task or ``manage.py outbox_relay`` runs."""

from __future__ import annotations

from .channel import Channel
from .send import Step, send_next
from .track import track_due


def relay(channel: Channel, seconds: float) -> int:
    """Seals and sends until nothing is due, others do so already, or the time is up.

    Returns how many batches were sent. A batch under way when the time is up is finished first.
    """
    deadline = channel.clock.monotonic() + seconds
    sent = 0
    while channel.clock.monotonic() < deadline:
        if send_next(channel) is not Step.SENT:
            break
        sent += 1
    return sent


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

"""The loop around the arrows: what a Celery task or ``manage.py outbox_relay`` runs."""

from __future__ import annotations

import threading

from ..evermuse.errors import ThrottleUnavailable
from .channel import Channel, close_connections, open_channel
from .groups import has_work
from .send import Step, send_next
from .track import track_due


def relay(channel: Channel, seconds: float, crew: Crew | None = None) -> int:
    """Seals and sends until nothing is due, others do so already, or the time is up.

    Returns how many batches this sender sent. A batch under way when the time is up is finished first.
    ``crew`` is called for help where slots go unused while records wait.
    """
    deadline = channel.clock.monotonic() + seconds
    sent = 0
    while channel.clock.monotonic() < deadline:
        if crew and sent and _slots_go_unused(channel):
            crew.grow(deadline - channel.clock.monotonic())
        if send_next(channel) is not Step.SENT:
            break
        sent += 1
    return sent


def relay_with_crew(channel: Channel, seconds: float) -> int:
    """:func:`relay`, with as many senders side by side as slow answers need, up to ``SENDERS``."""
    crew = Crew(channel)
    try:
        return relay(channel, seconds, crew)
    finally:
        crew.join()


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


class Crew:
    """More senders for one channel, each a thread with connections of its own.

    An answer that takes L seconds needs rate × L senders to keep up with the rate.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._threads: list[threading.Thread] = []

    def grow(self, seconds: float) -> None:
        """One more sender, unless there are enough."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if len(self._threads) + 1 < self._channel.settings.senders:
            name = f"evermuse-outbox sender {len(self._threads) + 2}"
            thread = threading.Thread(target=self._send, args=(seconds,), name=name)
            thread.start()
            self._threads.append(thread)

    def join(self) -> None:
        """Waits for those whose batch is still under way."""
        for thread in self._threads:
            thread.join()

    def _send(self, seconds: float) -> None:
        try:
            relay(open_channel(self._channel.using, self._channel.name), seconds)
        finally:
            close_connections()


def _slots_go_unused(channel: Channel) -> bool:
    try:
        return channel.throttle.wait() <= 0 and has_work(channel)
    except ThrottleUnavailable:
        return False

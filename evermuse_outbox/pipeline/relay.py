"""The loop around the arrows: what a Celery task or ``manage.py outbox_relay`` runs."""

from __future__ import annotations

import logging
import threading
import time
from typing import ClassVar

from ..evermuse.errors import ThrottleUnavailable
from .channel import Channel, close_connections, one_of_many, open_channel
from .groups import has_work
from .send import Step, send_next
from .track import track_due

logger = logging.getLogger(__name__)


def relay(channel: Channel, seconds: float, crew: Crew | None = None) -> int:
    """Seals and sends until nothing is due, others do so already, or the time is up.

    Returns how many batches this sender sent. A batch under way when the time is up is finished first.
    ``crew`` is called for help where slots go unused while records wait.
    """
    deadline = channel.clock.monotonic() + seconds
    sent = 0
    while channel.clock.monotonic() < deadline:
        if crew and sent and _slots_go_unused(channel):
            crew.grow()
        if send_next(channel, new_first=sent % 2 == 1) is not Step.SENT:
            break
        sent += 1
    return sent


def relay_with_crew(channel: Channel, seconds: float) -> int:
    """:func:`relay`, with as many senders side by side as slow answers need, up to ``SENDERS``.

    Returns how many batches were sent by all of them.
    """
    crew = Crew(channel, seconds)
    try:
        sent = relay(channel, seconds, crew)
    finally:
        sent_by_crew = crew.join()
    return sent + sent_by_crew


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

    An answer that takes L seconds needs rate × L senders to keep up with the rate. The size that was of
    use is remembered in this process, so that the next run begins with it.
    """

    _sizes: ClassVar[dict[tuple[str, str], int]] = {}

    def __init__(self, channel: Channel, seconds: float) -> None:
        self._lane = (channel.using, channel.name)
        self._most = channel.settings.senders - 1
        self._deadline = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._sent: list[int] = []
        for _ in range(self._sizes.get(self._lane, 0)):
            self.grow()

    def grow(self) -> None:
        """One more sender, unless there are enough."""
        with self._lock:
            if sum(thread.is_alive() for thread in self._threads) < self._most:
                thread = threading.Thread(
                    target=self._send, name=f"evermuse-outbox sender {len(self._threads) + 2}"
                )
                thread.start()
                self._threads.append(thread)

    def join(self) -> int:
        """Waits for those whose batch is still under way; returns how many batches they all have sent."""
        for thread in self._threads:  # also those that join while we wait
            thread.join()
        self._sizes[self._lane] = sum(sent > 0 for sent in self._sent)
        return sum(self._sent)

    def _send(self) -> None:
        try:
            with one_of_many("/".join(self._lane)):
                channel = open_channel(*self._lane)
                self._sent.append(relay(channel, self._deadline - time.monotonic(), self))
        except Exception:
            logger.exception("a sender of %s/%s ended", *self._lane)
        finally:
            close_connections()


def _slots_go_unused(channel: Channel) -> bool:
    try:
        return channel.throttle.wait() <= 0 and has_work(channel)
    except ThrottleUnavailable:
        return False

"""How many send at the same time in one process: as many as are of use, up to ``SENDERS``.

An answer that takes L seconds needs rate × L senders to keep up with the rate. Where answers are quick or the database
is what everybody waits for, more senders only take each other's time: one seals at a time in a workspace, so that
with n senders another one is of use as long as they spend more than (n - 1) / n of their time waiting for answers.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import ClassVar

from .channel import Channel, close_connections, one_of_many, open_channel

logger = logging.getLogger(__name__)

STUCK = 1.0
"""Seconds without a batch sent after which another sender is let in whatever was learned before."""

Send = Callable[[Channel, float, "Shift"], int]
"""Sends on a channel for so many seconds, calling for help on the shift; returns how many batches it sent."""


class Crew:
    """All who send for one lane (a workspace on a database) in this process, and what was learned of their use."""

    _crews: ClassVar[dict[tuple[str, str], Crew]] = {}
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self) -> None:
        self.size = 0
        """Helpers of a run that sent something: the next run begins with so many."""
        self._senders = 0
        self._waiting = 0.0
        self._sent_at = 0.0

    @classmethod
    def of(cls, channel: Channel) -> Crew:
        """The crew of that lane."""
        with cls._lock:
            return cls._crews.setdefault((channel.using, channel.name), cls())

    def has_room(self, most: int) -> bool:
        """Whether another sender is of use, and there are fewer than ``most``."""
        return self._senders < most and self._is_another_of_use()

    def admit(self, most: int) -> bool:
        """Counts one more sender in, where there is room."""
        with self._lock:
            has_room = self.has_room(most)
            self._senders += has_room
            return has_room

    def dismiss(self) -> None:
        """Counts a sender out."""
        with self._lock:
            self._senders -= 1

    def sent(self, waiting: float) -> None:
        """A batch was sent by somebody who has waited for answers for that share of its time (0 to 1)."""
        self._waiting, self._sent_at = waiting, time.monotonic()

    def _is_another_of_use(self) -> bool:
        if not self._senders or time.monotonic() - self._sent_at > STUCK:
            return True
        return self._waiting > (self._senders - 1) / self._senders


class Shift:
    """Those who help one sender for a while: each a thread with connections of its own."""

    def __init__(self, channel: Channel, seconds: float, send: Send) -> None:
        self.crew = Crew.of(channel)
        self._lane = (channel.using, channel.name)
        self._most = channel.settings.senders
        self._deadline = time.monotonic() + seconds
        self._send = send
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._sent: list[int] = []

    def has_room(self) -> bool:
        """Whether another sender would be of use."""
        return self.crew.has_room(self._most)

    def call(self, wanted: int) -> None:
        """More senders, as long as they are of use and there are fewer than ``wanted``."""
        with self._lock:
            while self.crew.admit(min(wanted, self._most)):
                name = f"evermuse-outbox sender {len(self._threads) + 2}"
                self._threads.append(threading.Thread(target=self._run, name=name))
                self._threads[-1].start()

    def join(self) -> int:
        """Waits for those whose batch is still under way; returns how many batches they all have sent."""
        for thread in self._threads:  # also those that join while we wait
            thread.join()
        self.crew.size = sum(sent > 0 for sent in self._sent)
        return sum(self._sent)

    def _run(self) -> None:
        try:
            with one_of_many("/".join(self._lane)):
                channel = open_channel(*self._lane)
                self._sent.append(self._send(channel, self._deadline - time.monotonic(), self))
        except Exception:
            logger.exception("a sender of %s/%s ended", *self._lane)
        finally:
            self.crew.dismiss()
            close_connections()

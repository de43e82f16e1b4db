"""How many send at the same time in one process: as many as are of use, up to ``SENDERS``.

An answer that takes L seconds needs rate × L senders to keep up with the rate. Where answers are quick or the database
is what everybody waits for, more senders only take each other's time: :func:`is_another_of_use`.

A run (a Celery task, or a step of ``outbox_relay``) is one sender, and calls helpers: after a batch, by what answers
take; and while all are kept waiting for answers, one at each look, so that nobody needs to wait for the first answer to
learn that it is slow. Helpers go on a little longer than the run, so that the next run finds them at work.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

from ...evermuse.client import Client
from ..context.context import DeliveryContext, close_thread_connections, isolate_database_errors, open_context

logger = logging.getLogger(__name__)

STUCK = 2.0
"""Seconds without a batch sent after which another run is let in."""

OVERLAP = 2.0
"""Seconds that helpers go on after the run that called them. Where no other run began by then, they end."""

LOOK = 0.1
"""Seconds between two looks at the others: a slot of the published limit, so that none goes by unseen."""

REST = 1.0
"""Seconds without a look after a helper that found nothing to send (the key is held, or all is leased), or could not be
had."""

Help = Callable[[DeliveryContext, float, "SenderPool"], int]
"""Sends on a channel for so many seconds; returns how many batches it sent."""


def is_another_of_use(senders: int, share: float, waits: Sequence[float]) -> bool:
    """Whether one more than ``senders`` would send what they do not come to. Pure.

    One seals at a time in a workspace. So another one is of use as long as they spend more than (n - 1) / n of their
    time waiting for answers (``share``); and at this moment, whatever is known of that, where all of them wait for one
    (``waits``: since so many seconds) and somebody has for longer than a look, so that nobody is there to seal.
    """
    nobody_seals = len(waits) == senders and max(waits, default=0.0) > LOOK
    return nobody_seals or share * senders > senders - 1


class SenderPool:
    """All who send for one lane (a workspace on a database) in this process, and what was learned of their use."""

    _crews: ClassVar[dict[tuple[str, str], SenderPool]] = {}

    def __init__(self, lane: tuple[str, str], most: int) -> None:
        self._lane, self._most = lane, most
        self._lock = threading.Lock()
        self._senders = self._leading = self._runs = 0
        self._helpers: list[threading.Thread] = []
        self._until = 0.0
        self._waiting, self._sent_at = 0.0, 0.0
        self._useful: set[threading.Thread] = set()
        self._clients: dict[threading.Thread, Client] = {}
        self._in_vain_at = -math.inf
        self._sent = 0
        self._size = 0

    @classmethod
    def of(cls, context: DeliveryContext) -> SenderPool:
        """The crew of that lane."""
        lane = (context.using, context.workspace_name)
        pool = cls._crews.setdefault(lane, cls(lane, context.settings.senders))
        pool._most = context.settings.senders
        return pool

    # --- runs ---------------------------------------------------------------------------------------------

    def begin(self, seconds: float) -> bool:
        """Another run, for so many seconds; False where another leads already: it calls for help itself, and a run
        more would only keep a worker's slot from other tasks."""
        with self._lock:
            if self._leading and not self._is_stuck():
                return False
            self._sent_at = time.monotonic()
            self._senders += 1
            self._leading += 1
            self._runs += 1
            self._until = max(self._until, time.monotonic() + seconds + OVERLAP)
        return True

    def is_at_work(self) -> bool:
        """Whether there are helpers, of this run or of one before."""
        return any(helper.is_alive() for helper in self._helpers)

    def stop_leading(self) -> None:
        """The run's own sender is done; its helpers go on for a while."""
        with self._lock:
            self._leading -= 1
            self._leave()

    def end(self) -> int:
        """The run is over: waits for the helpers, unless another run goes on with them. Returns how many batches they
        sent."""
        with self._lock:
            self._runs -= 1
        # A run that begins meanwhile keeps them at work, and this one would wait as long as runs follow each other.
        while helper := self._left_behind():
            helper.join(LOOK)
        return self._settle_accounts()

    def _left_behind(self) -> threading.Thread | None:
        """A helper at work for whom no run waits but the one that asks."""
        with self._lock:
            return next((each for each in self._helpers if not self._runs and each.is_alive()), None)

    def _settle_accounts(self) -> int:
        with self._lock:
            if self._runs:
                return 0
            self._size = len(self._useful)
            self._helpers, self._useful = [], set()
            sent, self._sent = self._sent, 0
            return sent

    # --- senders ------------------------------------------------------------------------------------------

    def join(self, client: Client) -> None:
        """The caller's thread sends with that client."""
        self._clients[threading.current_thread()] = client

    def _leave(self) -> None:
        self._senders -= 1
        self._clients.pop(threading.current_thread(), None)

    def sent(self, waiting: float) -> None:
        """A batch was sent by somebody who has waited for answers for that share of its time (0 to 1)."""
        self._waiting, self._sent_at = waiting, time.monotonic()

    def has_room(self) -> bool:
        """Whether another sender would be of use."""
        return self._senders < self._most and is_another_of_use(self._senders, self._waiting, self._waits())

    def _waits(self) -> list[float]:
        """Since how many seconds those who wait for an answer do so."""
        now = time.monotonic()
        asked = [client.asked_at for client in list(self._clients.values())]
        return [now - at for at in asked if at is not None]

    def _is_stuck(self) -> bool:
        return time.monotonic() - self._sent_at > STUCK

    def call(self, help_out: Help, wanted: int | None = None) -> None:
        """Helpers, as long as they are of use and there are fewer senders than ``wanted``; by default as many as were
        of use when the crew last parted."""
        wanted = min(1 + self._size if wanted is None else wanted, self._most)
        # Counted beforehand: helpers that find nothing to do may be gone before the next one is called.
        for _ in range(wanted - self._senders):
            if not self._admit(wanted):
                break
            name = f"evermuse-outbox sender {self._senders}"
            helper = threading.Thread(target=self._help, args=(help_out,), name=name)
            if not self._start(helper):
                break

    def _start(self, helper: threading.Thread) -> bool:
        """False where the system gives no more threads: then those who are there do it alone."""
        with self._lock:
            if not self._begin_thread(helper):
                self._senders -= 1
                self._in_vain_at = time.monotonic()
                return False
            # Runs may overlap for days, so that the crew never parts.
            self._helpers = [each for each in self._helpers if each.is_alive()] + [helper]
            self._useful = {each for each in self._useful if each.is_alive()}
        return True

    def _begin_thread(self, thread: threading.Thread) -> bool:
        try:
            thread.start()
        except RuntimeError as error:
            logger.warning("no further thread for %s/%s: %s", *self._lane, error)
            return False
        return True

    def _admit(self, most: int) -> bool:
        with self._lock:
            has_room = self._senders < most and self.has_room()
            self._senders += has_room
            return has_room

    def _help(self, help_out: Help) -> None:
        try:
            with isolate_database_errors("/".join(self._lane)):
                while (left := self._until - time.monotonic()) > 0:
                    if not (sent := help_out(open_context(*self._lane), left, self)):
                        break
                    self._count(sent)
        except Exception:
            logger.exception("a sender of %s/%s ended", *self._lane)
        finally:
            with self._lock:
                self._leave()
                if threading.current_thread() not in self._useful:
                    self._in_vain_at = time.monotonic()
            close_thread_connections()

    def _count(self, sent: int) -> None:
        with self._lock:
            self._sent += sent
            self._useful.add(threading.current_thread())

    # --- the look-out -------------------------------------------------------------------------------------

    @contextmanager
    def look_out(self, help_out: Help, slots_go_unused: Callable[[DeliveryContext], bool]) -> Iterator[None]:
        """While the block lasts, somebody looks whether all are kept waiting for answers and slots go unused
        meanwhile, and calls one more helper each time."""
        over = threading.Event()
        looking = threading.Thread(
            target=self._look_out, args=(help_out, slots_go_unused, over), name="evermuse-outbox look-out"
        )
        try:  # a time limit may end the run at any line: nobody must be left looking
            self._begin_thread(looking)
            yield
        finally:
            over.set()
            if looking.ident is not None:
                looking.join()

    def _look_out(
        self, help_out: Help, slots_go_unused: Callable[[DeliveryContext], bool], over: threading.Event
    ) -> None:
        try:
            with isolate_database_errors("/".join(self._lane)):
                while not over.wait(LOOK):
                    if self._nobody_seals() and slots_go_unused(open_context(*self._lane)):
                        self.call(help_out, self._senders + 1)
        except Exception:
            logger.exception("the look-out of %s/%s ended", *self._lane)
        finally:
            close_thread_connections()

    def _nobody_seals(self) -> bool:
        """Whether a helper would find the turn free; where the last one found nothing to send, not for a while."""
        if not self._in_vain_at + REST < time.monotonic() < self._until or self._senders >= self._most:
            return False
        return is_another_of_use(self._senders, 0.0, self._waits())

"""The sender pool: how many threads of this process send for one queue at the same time.

Little's law: if an answer takes L seconds, rate × L senders keep up with the rate. If answers are quick, or if the
database is the bottleneck, more senders only wait for each other; see ``is_another_useful``.

A run is a Celery task, or one step of ``outbox_relay``. The first run *leads*: it is one sender and starts the others.
It does so after each batch, by the duration of the answers. In addition, a monitor thread starts one sender at each
check while all senders wait for answers. Without the monitor, a run would need a first slow answer to learn that
answers are slow; ``docs/benchmarks.md`` says what that costs. Senders go on for a little longer than the run, so that
the next run finds them at work.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

from ...evermuse.api import Client
from ...foreign_text import get_logger, log_ids
from ...ratelimit import ThrottleUnavailable
from ..connections import close_thread_connections, release_connections, share_connections
from ..context import (
    DeliveryContext,
    QueueKey,
    isolate_database_errors,
    open_context,
    statement_deadlines,
)
from ..gates import seconds_to_next_permit
from ..scheduling import has_work

logger = get_logger(__name__)

STUCK_SECONDS = 2.0
"""Seconds without a sent batch after which another run may lead, too."""

OVERLAP = 0.4
"""Share of a run's time for which senders go on after it. If no other run has started by then, they end."""

CHECK_INTERVAL = 0.1
"""Seconds between two checks of the monitor: the time of one request at the published rate limit."""

USELESS_PAUSE = 1.0
"""Seconds without a new sender after one found nothing to send or could not be started."""

RunSender = Callable[[DeliveryContext, float, "SenderPool"], int]
"""Send with a context for so many seconds, and return the number of batches."""


def is_another_useful(senders: int, waiting_share: float, waits: Sequence[float]) -> bool:
    """Return whether one more than ``senders`` would raise the throughput. Pure.

    Only one sender seals at a time in a workspace. So another one is useful if the senders spend more than (n - 1) / n
    of their time waiting for answers. It is also useful if all of them have been waiting for more than
    ``CHECK_INTERVAL``, because then none of them seals.

    Args:
        senders: how many there are.
        waiting_share: the share of their time that they wait for answers, 0 to 1.
        waits: for how many seconds each sender that waits for an answer has been waiting.
    """
    is_no_sender_sealing = len(waits) == senders and max(waits, default=0.0) > CHECK_INTERVAL
    return is_no_sender_sealing or waiting_share * senders > senders - 1


class SenderPool:
    """The senders of one queue in this process, and what is known about their use.

    Attributes:
        begins_with_new: whether the senders of the present run prefer new records for their first batch. Runs
            alternate, because a short run sends only one batch. Otherwise new records could delay a sealed batch
            as long as any arrive.
    """

    _pools: ClassVar[dict[QueueKey, SenderPool]] = {}

    def __init__(self, key: QueueKey, limit: int, run_sender: RunSender) -> None:
        self._key, self._limit, self._run_sender = key, limit, run_sender
        self._lock = threading.Lock()
        self._senders = self._leaders = self._runs = 0
        self._threads: list[threading.Thread] = []
        self._until = 0.0
        self._waiting_share, self._sent_at = 0.0, 0.0
        self._useful_threads: set[threading.Thread] = set()
        self._clients: dict[threading.Thread, Client] = {}
        self._useless_at = -math.inf
        self._sent = 0
        self.begins_with_new = False
        self._last_size = 0

    @classmethod
    def of(cls, context: DeliveryContext, run_sender: RunSender) -> SenderPool:
        """Return this process's pool for the context's queue."""
        key, limit = context.queue_key, context.settings.senders
        pool = cls._pools.setdefault(key, cls(key, limit, run_sender))
        pool._limit = limit
        return pool

    # --- runs ---------------------------------------------------------------------------------------------

    def start_run(self, seconds: float) -> bool:
        """Start a run of so many seconds, and return True.

        Return False if another run leads already. A second run would only take a worker's slot from other tasks.
        """
        with self._lock:
            if self._leaders and not self._is_stuck():
                return False
            self._sent_at = time.monotonic()
            self._senders += 1
            self._leaders += 1
            self._runs += 1
            self.begins_with_new = not self.begins_with_new
            self._until = max(self._until, time.monotonic() + seconds * (1 + OVERLAP))
        return True

    def has_senders_at_work(self) -> bool:
        """Return whether threads of this run or of an earlier one are sending."""
        return any(thread.is_alive() for thread in self._threads)

    def stop_leading(self) -> None:
        """End the run's own sender. The other senders go on for a while."""
        with self._lock:
            self._leaders -= 1
            self._remove_sender()

    def finish_run(self) -> int:
        """End the run and wait for the senders, unless another run goes on with them.

        Return how many batches the senders sent since the last time they were waited for.
        """
        with self._lock:
            self._runs -= 1
        release_connections()
        # A run that starts meanwhile keeps the senders at work. This one stops waiting then.
        while thread := self._thread_to_wait_for():
            thread.join(CHECK_INTERVAL)
        return self._collect_sent()

    def _thread_to_wait_for(self) -> threading.Thread | None:
        with self._lock:
            return next((thread for thread in self._threads if not self._runs and thread.is_alive()), None)

    def _collect_sent(self) -> int:
        with self._lock:
            if self._runs:
                return 0
            self._last_size = len(self._useful_threads)
            self._threads, self._useful_threads = [], set()
            sent, self._sent = self._sent, 0
            return sent

    # --- senders ------------------------------------------------------------------------------------------

    def add_client(self, client: Client) -> None:
        """Register the HTTP client of the calling thread, so that the pool sees when it waits for an answer."""
        self._clients[threading.current_thread()] = client

    def note_sent(self, waiting_share: float) -> None:
        """Note that the calling sender sent a batch, and the share of its time that it waits for answers."""
        self._waiting_share, self._sent_at = waiting_share, time.monotonic()

    def has_room(self) -> bool:
        """Return whether the pool is below its limit and another sender would be useful."""
        is_useful = is_another_useful(self._senders, self._waiting_share, self._waits())
        return self._senders < self._limit and is_useful

    def start_senders(self, target: int | None = None) -> None:
        """Start senders while they are useful and there are fewer than ``target``.

        The default target is the number of senders that were useful in the last run.
        """
        target = min(1 + self._last_size if target is None else target, self._limit)
        # The number is fixed beforehand: a sender that finds nothing may have ended before the next one starts.
        for _ in range(target - self._senders):
            if not self._reserve_sender(target):
                break
            name = f"evermuse-outbox sender {self._senders}"
            thread = threading.Thread(target=self._run_thread, name=name)
            if not self._start_sender(thread):
                break

    def grow_if_permits_are_unused(self, context: DeliveryContext, seconds_per_batch: float) -> None:
        """Start as many senders as the rate needs if permits are unused and one batch takes so long."""
        if self.has_room() and has_unused_permits(context):
            self.start_senders(math.ceil(context.request_rate * seconds_per_batch))

    def _start_sender(self, thread: threading.Thread) -> bool:
        """Start the thread of a reserved sender.

        Return False if the system cannot start a thread. Then the present senders go on alone.
        """
        with self._lock:
            if not self._start_thread(thread):
                self._senders -= 1
                self._useless_at = time.monotonic()
                return False
            # Runs may overlap for days. Without this, the ended threads would stay in memory.
            self._threads = [each for each in self._threads if each.is_alive()] + [thread]
            self._useful_threads = {each for each in self._useful_threads if each.is_alive()}
        return True

    def _start_thread(self, thread: threading.Thread) -> bool:
        try:
            thread.start()
        except RuntimeError as error:
            logger.warning("cannot start a thread for %s: %s", self._key, error, extra=self._log_ids())
            return False
        return True

    def _log_ids(self) -> dict[str, str]:
        return log_ids(database=self._key.using, workspace=self._key.workspace)

    def _reserve_sender(self, target: int) -> bool:
        with self._lock:
            has_room = self._senders < target and self.has_room()
            self._senders += has_room
            return has_room

    def _remove_sender(self) -> None:
        self._senders -= 1
        self._clients.pop(threading.current_thread(), None)

    def _run_thread(self) -> None:
        try:
            with isolate_database_errors(str(self._key)), statement_deadlines(), share_connections():
                while (seconds := self._until - time.monotonic()) > 0:
                    if not (sent := self._run_sender(open_context(*self._key), seconds, self)):
                        break
                    self._note_useful(sent)
        except Exception:
            logger.exception("a sender of %s ended with an error", self._key, extra=self._log_ids())
        finally:
            with self._lock:
                self._remove_sender()
                if threading.current_thread() not in self._useful_threads:
                    self._useless_at = time.monotonic()
            close_thread_connections()

    def _note_useful(self, sent: int) -> None:
        with self._lock:
            self._sent += sent
            self._useful_threads.add(threading.current_thread())

    def _waits(self) -> list[float]:
        """Return for how many seconds each sender that waits for an answer has been waiting."""
        now = time.monotonic()
        asked = [client.asked_at for client in list(self._clients.values())]
        return [now - at for at in asked if at is not None]

    def _is_stuck(self) -> bool:
        return time.monotonic() - self._sent_at > STUCK_SECONDS

    # --- the monitor --------------------------------------------------------------------------------------

    @contextmanager
    def monitor(self) -> Iterator[None]:
        """During the block, start one more sender at each check that finds all senders waiting and permits unused."""
        stop = threading.Event()
        thread = threading.Thread(target=self._run_monitor, args=(stop,), name="evermuse-outbox monitor")
        try:  # a time limit of Celery may end the run at any line, and the thread must end then, too
            self._start_thread(thread)
            yield
        finally:
            stop.set()
            if thread.ident is not None:
                thread.join()

    def _run_monitor(self, stop: threading.Event) -> None:
        try:
            with isolate_database_errors(str(self._key)), statement_deadlines(), share_connections():
                while not stop.wait(CHECK_INTERVAL):
                    if self._is_no_sender_sealing() and has_unused_permits(
                        open_context(*self._key), within=CHECK_INTERVAL
                    ):
                        self.start_senders(self._senders + 1)
                    release_connections()
        except Exception:
            logger.exception("the monitor of %s ended with an error", self._key, extra=self._log_ids())
        finally:
            close_thread_connections()

    def _is_no_sender_sealing(self) -> bool:
        """Return whether a new sender would find the sealing lock free. Pause after a sender that was useless."""
        is_pause_over = self._useless_at + USELESS_PAUSE < time.monotonic() < self._until
        if not is_pause_over or self._senders >= self._limit:
            return False
        return is_another_useful(self._senders, 0.0, self._waits())


def has_unused_permits(context: DeliveryContext, within: float = 0.0) -> bool:
    """Return whether records wait and a permit is free within ``within`` seconds.

    Return False if the throttle backend does not answer.
    """
    try:
        return seconds_to_next_permit(context) <= within and has_work(context)
    except ThrottleUnavailable:
        return False

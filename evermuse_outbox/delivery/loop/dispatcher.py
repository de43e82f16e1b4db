"""Deliver for all workspaces of a process with a bounded number of threads.

A *look* finds the workspaces with work, all of a database at once. Each gets a run in a thread of the pool: a relay or
a poll. The pool takes them in the order in which they came, so a busy workspace does not delay the others for long.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import NamedTuple

from django.db import Error as DatabaseError

from ...conf import get_settings
from ...foreign_text import get_logger, log_ids
from ..connections import close_thread_connections, share_connections
from ..context import Clock, QueueKey, log_database_error, open_context, statement_deadlines
from ..scanning import WaitingWork, find_due_work, find_waiting_work, is_any_pending
from ..scheduling import has_work
from .runs import poll, relay_run

logger = get_logger(__name__)

RUN_SECONDS = 5.0
"""Seconds after which a run starts nothing new. A stop waits for the runs and for the requests under way."""

SHARED_RUN_SECONDS = 1.0
"""The same while another run waits for a thread."""

LOOK_INTERVAL = 0.025
"""Minimum seconds between two looks at a database. A lone record waits for half of it on average."""

FULL_LOOK_INTERVAL = 0.2
"""Seconds after which a look also searches for batches that are due. Before that, it only searches for new records."""

LOOK_SHARE = 25
"""A pause between two looks is at least this many times as long as the look. So looks take at most 4 % of a core."""

REST_SECONDS = 0.2
"""Seconds until a workspace is looked at again after a run found nothing to do, or if its work is not due yet."""

ERROR_PAUSE = 1.0
"""Seconds until a workspace is tried again after an error."""


class Kind(Enum):
    """What a run does. A workspace may have one of each kind at the same time."""

    RELAY = "relay"
    POLL = "poll"


class Job(NamedTuple):
    """A run that is needed."""

    kind: Kind
    key: QueueKey

    def __str__(self) -> str:
        return f"{self.kind.value} of {self.key}"


class Dispatcher:
    """Looks for work and gives it to the threads.

    Args:
        threads: the number of runs at the same time.
        note_activity: called in each thread with a database alias and what it begins.
        monotonic: the clock of rests, in seconds.
    """

    def __init__(
        self,
        threads: int,
        note_activity: Callable[[str, str], object] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._note_activity, self._monotonic = note_activity, monotonic
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="evermuse-outbox run")
        self._lock = threading.Lock()
        self._active: set[Job] = set()
        """Jobs that wait for a thread or run."""
        self._unstarted = 0
        self._resting: dict[Job, float] = {}
        """Job → end of its rest."""
        self._full_look_at: dict[str, float] = {}
        """Database alias → when its next full look is due."""
        self._is_stopped = False

    def look(self, using: str) -> float:
        """Start the runs that are needed in a database. Return the seconds until the next look."""
        started = self._monotonic()
        is_full = started >= self._full_look_at.get(using, started)
        if is_full or is_any_pending(using):
            self._full_look_at[using] = started + FULL_LOOK_INTERVAL
            self._look_at_all(using)
        return max(LOOK_INTERVAL, LOOK_SHARE * (self._monotonic() - started))

    def _look_at_all(self, using: str) -> None:
        waiting = self._without_active(using, find_waiting_work(using))
        if any(waiting):
            due = find_due_work(using, waiting, Clock.of(using).now())
            self._start(using, Kind.RELAY, waiting.pending | waiting.unsent, due.send)
            self._start(using, Kind.POLL, waiting.polled, due.poll)

    def stop(self) -> None:
        """Start no further run, and wait for those under way."""
        with self._lock:
            self._is_stopped = True
        self._threads.shutdown(cancel_futures=True)

    # --- which runs are needed ----------------------------------------------------------------------------

    def _without_active(self, using: str, waiting: WaitingWork) -> WaitingWork:
        """Leave out workspaces that are unknown, that have a run already, or that rest."""
        with self._lock:
            now = self._monotonic()
            self._resting = {job: until for job, until in self._resting.items() if until > now}
            excluded = self._active.union(self._resting)
        relays = {job.key.workspace for job in excluded if job.kind is Kind.RELAY and job.key.using == using}
        polls = {job.key.workspace for job in excluded if job.kind is Kind.POLL and job.key.using == using}
        known = get_settings().workspaces.keys()
        return WaitingWork(
            (waiting.pending & known) - relays,
            (waiting.unsent & known) - relays,
            (waiting.polled & known) - polls,
        )

    def _start(self, using: str, kind: Kind, waiting: Collection[str], due: Collection[str]) -> None:
        for name in sorted(waiting):
            job = Job(kind, QueueKey(using, name))
            if name in due:
                self._submit(job)
            else:
                self._rest(job, REST_SECONDS)

    def _submit(self, job: Job) -> None:
        with self._lock:
            if self._is_stopped or job in self._active:
                return
            self._active.add(job)
            self._unstarted += 1
            self._threads.submit(self._run, job)

    def _rest(self, job: Job, seconds: float) -> None:
        with self._lock:
            self._resting[job] = self._monotonic() + seconds

    # --- a run --------------------------------------------------------------------------------------------

    def _run(self, job: Job) -> None:
        """Execute a job in a thread of the pool. After an error, the next run gets new database connections."""
        with self._lock:
            self._unstarted -= 1
            seconds = SHARED_RUN_SECONDS if self._unstarted else RUN_SECONDS
        is_ended = False

        def end(needs_another: bool) -> None:
            nonlocal is_ended
            with self._lock:
                self._active.discard(job)
            is_ended = True
            if needs_another:
                self._submit(job)

        try:
            handled = self._execute(job, seconds, end)
            if not handled:
                self._rest(job, REST_SECONDS)
        except DatabaseError as error:
            log_database_error(error, str(job.key))
            self._recover(job)
        except Exception:
            # If the error ended the process, the other workspaces would wait until it is started again.
            ids = log_ids(database=job.key.using, workspace=job.key.workspace)
            logger.exception("%s failed and will be tried again", job, extra=ids)
            self._recover(job)
        finally:
            if not is_ended:
                end(False)

    @statement_deadlines()
    @share_connections()
    def _execute(self, job: Job, seconds: float, end: Callable[[bool], None]) -> int:
        if self._note_activity:
            self._note_activity(job.key.using, f"{job.kind.value} of workspace {job.key.workspace}")
        if job.kind is Kind.RELAY:
            return _relay(job.key, seconds, end)
        return _poll(job.key, seconds)

    def _recover(self, job: Job) -> None:
        close_thread_connections()
        self._rest(job, ERROR_PAUSE)


def _relay(key: QueueKey, seconds: float, end: Callable[[bool], None]) -> int:
    """Send, and let another run of the workspace start while this one waits for its last answers.

    Without the other run, the workspace would send nothing during that time, and stay below its rate limit.
    """
    context = open_context(*key)
    with relay_run(context, seconds) as run:
        end(bool(run.sent) and has_work(context))
    return run.sent


def _poll(key: QueueKey, seconds: float) -> int:
    return poll(open_context(*key), seconds)

"""Deliver for all workspaces of a process with a bounded number of threads.

A *look* finds the workspaces with work, all of a database at once. Each gets a run in a thread of the pool: a relay or
a poll. The pool takes them in the order in which they came, so a busy workspace does not delay the others for long.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import NamedTuple

from django.db import Error as DatabaseError

from ...conf import get_settings
from ...foreign_text import get_logger, log_ids
from ..connections import close_thread_connections, release_connections, share_connections
from ..context import Clock, QueueKey, log_database_error, open_context, statement_deadlines
from ..deferral import apply_all_due
from ..scanning import WaitingWork, find_due_work, find_waiting_work, is_any_pending
from ..scheduling import has_work
from .pace import Look, Pace
from .runs import poll, relay_run

logger = get_logger(__name__)

RUN_SECONDS = 5.0
"""Seconds after which a run starts nothing new. A stop waits for the runs and for the requests under way."""

SHARED_RUN_SECONDS = 1.0
"""The same while another run waits for a thread."""

REST_SECONDS = 0.2
"""Seconds until a workspace is looked at again after a run found nothing to do, or if its work is not due yet."""

POLL_REST_SECONDS = 1.0
"""The same for polls. To ask whether a poll is due takes longer than to look for new records."""

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
        self._paces: defaultdict[str, Pace] = defaultdict(Pace)
        """Database alias → the pauses between the looks at it."""
        self._is_stopped = False

    def look(self, using: str) -> float:
        """Start the runs that are needed in a database. Return the seconds until the next look."""
        pace, started = self._paces[using], self._monotonic()
        look = Look.FULL if pace.is_full_look_due(started) else Look.QUICK
        if look is Look.QUICK and is_any_pending(using):
            look = Look.PENDING
        if look is not Look.QUICK:
            self._look_at_all(using)
        return pace.pause_after(look, started, self._monotonic())

    def _look_at_all(self, using: str) -> None:
        work = find_waiting_work(using)
        for name in work.deferred:  # also of a workspace that the settings do not have any more
            apply_all_due(using, name, Clock.of(using))  # the next look finds what is pending now
        waiting = self._without_active(using, work)
        if len(waiting.pending) == 1:
            waiting = self._start_only(using, waiting)
        if any(waiting):
            due = find_due_work(using, waiting, Clock.of(using).now())
            release_connections()  # the runs take this connection instead of a new one
            self._start(using, Kind.RELAY, waiting.pending | waiting.unsent, due.send)
            self._start(using, Kind.POLL, waiting.polled, due.poll)

    def _start_only(self, using: str, waiting: WaitingWork) -> WaitingWork:
        """Start the relay of the only workspace with pending records. Return the work of the others.

        A lone record arrives at most times, so it does not wait for the statement that says what is due. If the
        circuit breaker is open, the run ends at once.
        """
        release_connections()
        for name in waiting.pending:
            self._submit(Job(Kind.RELAY, QueueKey(using, name)))
        return waiting._replace(pending=frozenset(), unsent=waiting.unsent - waiting.pending)

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
                self._rest(job, REST_SECONDS if kind is Kind.RELAY else POLL_REST_SECONDS)

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
    with relay_run(context, seconds, is_needed=True) as run:
        end(bool(run.sent) and has_work(context))
    return run.sent


def _poll(key: QueueKey, seconds: float) -> int:
    return poll(open_context(*key), seconds)

"""``manage.py outbox_relay``: do the work of the Celery workers in one process, without Celery."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import Error as DatabaseError

from ...conf import get_settings
from ...delivery.connections import close_thread_connections, release_connections, share_connections
from ...delivery.context import log_database_error, statement_deadlines
from ...delivery.loop import Dispatcher
from ...foreign_text import get_logger
from ...jobs import run_operations
from ...monitoring import beat
from ...schedule import MAINTAIN
from ...upkeep import maintain_all
from .. import CommandWithExamples

logger = get_logger(__name__)

DEFAULT_CONCURRENCY = 16
"""Workspaces that are served at the same time. With quick answers, few of them use all cores of a machine."""

JOBS_PAUSE = 1.0
"""Seconds until a thread looks for a confirmed job again after it found none. A person waits for it, so not longer."""

ERROR_PAUSE = 1.0
"""Seconds until a thread tries again after an error."""

MAX_NAMES = 10
"""Workspaces that the first line of the output names."""

RUN_SECONDS = 5.0
"""Seconds after which a run of the jobs starts nothing new. After a signal, the command waits for it."""

SIGNAL_CHECK_INTERVAL = 0.1
"""Seconds between two checks whether a signal has arrived."""


class Command(CommandWithExamples):
    help = (
        "Deliver the records of all workspaces in one process, without Celery: make batches, send them, ask Evermuse "
        "for their states, and clean up. Several of these processes can run at once, also beside Celery workers: they "
        "share the rate limit, and no batch is sent by two of them. "
        "SIGINT (Ctrl-C) or SIGTERM stops it after the requests under way."
    )

    examples = (
        "examples:\n"
        "  manage.py outbox_relay                    run until a signal stops it, for instance under systemd\n"
        "  manage.py outbox_relay --concurrency 32   serve up to 32 workspaces at the same time\n"
        "  manage.py outbox_drain                    in another shell: wait until it has sent everything\n"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--concurrency",
            type=int,
            metavar="N",
            default=DEFAULT_CONCURRENCY,
            help="maximum number of workspaces that are served at the same time (default: %(default)s); with more "
            "of them, each gets its share of the time",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["concurrency"] < 1:
            raise CommandError("--concurrency must be at least 1.")
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        dispatcher = Dispatcher(options["concurrency"], note_activity=beat)
        threads = [
            threading.Thread(target=_repeat, args=(stop, step), name=name)
            for name, step in _steps(dispatcher)
        ]
        for thread in threads:
            thread.start()
        self.stdout.write(f"Relaying for {_describe_workspaces()}. Press Ctrl-C to stop.")
        self.stdout.flush()
        while not stop.is_set():
            # Not stop.wait(), because it takes a lock for a moment. The signal handler runs in this thread and takes
            # the same lock in stop.set(), so both could block forever.
            time.sleep(SIGNAL_CHECK_INTERVAL)
        for thread in threads:
            thread.join()
        dispatcher.stop()
        self.stdout.write("Stopped.")


def _steps(dispatcher: Dispatcher) -> Iterator[tuple[str, Callable[[], float]]]:
    """Yield the name and the function of each thread. The dispatcher has further threads for its runs."""
    yield "maintain", _maintain
    for using in get_settings().databases:
        yield f"jobs of {using}", partial(_operate, using)
        yield f"look at {using}", partial(_look, dispatcher, using)


def _look(dispatcher: Dispatcher, using: str) -> float:
    beat(using, "idle")
    return dispatcher.look(using)


def _operate(using: str) -> float:
    beat(using, "jobs")
    return 0.0 if run_operations(using, RUN_SECONDS) else JOBS_PAUSE


def _maintain() -> float:
    maintain_all()
    return MAINTAIN


def _describe_workspaces() -> str:
    names = list(get_settings().workspaces)
    others = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {others:,} more workspaces" if others > 0 else "")


@statement_deadlines()
@share_connections()
def _repeat(stop: threading.Event, step: Callable[[], float]) -> None:
    """Run ``step`` again and again until ``stop`` is set. After an error, continue with new database connections.

    Args:
        stop: Event that ends the loop.
        step: Function that does one run and returns the seconds until the next one.
    """
    while not stop.is_set():
        try:
            pause = step()
        except DatabaseError as error:
            log_database_error(error, threading.current_thread().name.rpartition(" ")[2])
            pause = _recover()
        except Exception:
            # If the error ended the thread, this step would not run again until the process is restarted.
            logger.exception("%s failed and will be tried again", threading.current_thread().name)
            pause = _recover()
        if pause:
            release_connections()
            stop.wait(pause)
    close_thread_connections()


def _recover() -> float:
    """Close the database connections of this thread. Return the seconds until the next try."""
    close_thread_connections()
    return ERROR_PAUSE

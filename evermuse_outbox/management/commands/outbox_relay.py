"""``manage.py outbox_relay``: do the work of the Celery workers in one process, without Celery."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from django.db import Error as DatabaseError

from ...conf import get_settings
from ...delivery.connections import close_thread_connections, release_connections, share_connections
from ...delivery.context import (
    DeliveryContext,
    log_database_error,
    open_context,
    queue_keys,
    statement_deadlines,
)
from ...delivery.loop import poll, relay_with_pool
from ...foreign_text import get_logger
from ...jobs import run_operations
from ...monitoring import beat
from ...schedule import MAINTAIN
from ...upkeep import maintain_all
from .. import CommandWithExamples

logger = get_logger(__name__)

IDLE_PAUSE = 0.2
"""Seconds until a thread looks for work again after it found none."""

JOBS_PAUSE = 1.0
"""Seconds until a thread looks for a confirmed job again after it found none. A person waits for it, so not longer."""

ERROR_PAUSE = 1.0
"""Seconds until a thread tries again after an error."""

RUN_SECONDS = 5.0
"""Seconds after which one run of a thread's function starts nothing new. After a signal, the command waits for these
runs and for the requests under way."""

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
        "  manage.py outbox_relay   run until a signal stops it, for instance under systemd\n"
        "  manage.py outbox_drain   in another shell: wait until it has sent everything\n"
    )

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        threads = [
            threading.Thread(target=_repeat, args=(stop, step, pause), name=name)
            for name, step, pause in self._steps()
        ]
        for thread in threads:
            thread.start()
        self.stdout.write(f"Relaying for {', '.join(get_settings().workspaces)}. Press Ctrl-C to stop.")
        self.stdout.flush()
        while not stop.is_set():
            # Not stop.wait(), because it takes a lock for a moment. The signal handler runs in this thread and takes
            # the same lock in stop.set(), so both could block forever.
            time.sleep(SIGNAL_CHECK_INTERVAL)
        for thread in threads:
            thread.join()
        self.stdout.write("Stopped.")

    def _steps(self) -> list[tuple[str, Callable[[], int], float]]:
        """Return the name, the function and the idle pause of each thread."""
        steps: list[tuple[str, Callable[[], int], float]] = [("maintain", _maintain, MAINTAIN)]
        for using in get_settings().databases:
            steps.append((f"jobs of {using}", partial(_operate, using), JOBS_PAUSE))
        for using, name in queue_keys():
            steps.append((f"poll {name}", partial(_run, poll, using, name), IDLE_PAUSE))
            # Two relays, because each waits for its last answers before it returns. The other one sends meanwhile.
            for number in (1, 2):
                relay = partial(_run, relay_with_pool, using, name)
                steps.append((f"relay {number} of {name}", relay, IDLE_PAUSE))
        return steps


def _run(step: Callable[[DeliveryContext, float], int], using: str, name: str) -> int:
    beat(using, f"workspace {name}")
    return step(open_context(using, name), RUN_SECONDS)


def _operate(using: str) -> int:
    beat(using, "jobs")
    return run_operations(using, RUN_SECONDS)


def _maintain() -> int:
    maintain_all()
    return 0  # so that the thread pauses after each run


@statement_deadlines()
@share_connections()
def _repeat(stop: threading.Event, step: Callable[[], int], pause: float) -> None:
    """Run ``step`` again and again until ``stop`` is set. After an error, continue with new database connections.

    Args:
        stop: Event that ends the loop.
        step: Function that does one run and returns the number of batches that it handled.
        pause: Seconds to wait after a run that handled none.
    """
    while not stop.is_set():
        try:
            count = step()
        except DatabaseError as error:
            log_database_error(error, threading.current_thread().name.rpartition(" ")[2])
            count = _recover(stop)
        except Exception:
            # If the error ended the thread, this step would not run again until the process is restarted.
            logger.exception("%s failed and will be tried again", threading.current_thread().name)
            count = _recover(stop)
        if not count:
            release_connections()
            stop.wait(pause)
    close_thread_connections()


def _recover(stop: threading.Event) -> int:
    """Close the database connections of this thread and pause. Return 0, the number of batches handled."""
    close_thread_connections()
    stop.wait(ERROR_PAUSE)
    return 0

"""``manage.py outbox_relay``: the whole pipeline in one process, for a host without Celery at hand."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand
from django.db import Error as DatabaseError

from ...conf import get_settings
from ...delivery.context import (
    Clock,
    DeliveryContext,
    close_thread_connections,
    open_context,
    queue_keys,
    summarise_error,
)
from ...delivery.loop import poll, relay_with_pool
from ...schedule import MAINTAIN
from ...upkeep.maintenance import maintain_all

logger = logging.getLogger(__name__)

IDLE = 0.2
"""Seconds between two looks where nothing was to do."""

TROUBLE = 1.0
"""Seconds to wait after trouble."""

RUN_SECONDS = 5.0
"""How long one step runs, and so how long a stop may take beside what is under way."""


class Command(BaseCommand):
    help = (
        "Seals, sends and follows in one process, without Celery: the same pipeline, the same leases and the "
        "same pace, so that it may run beside Celery workers and beside itself. Stops at SIGINT or SIGTERM after "
        "what is under way."
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
        self.stdout.write(f"Relaying for {', '.join(get_settings().workspaces)}; Ctrl-C stops.")
        self.stdout.flush()
        while not stop.is_set():
            # No stop.wait() here: it holds a lock that the signal handler, in this same thread, would need.
            time.sleep(0.1)
        for thread in threads:
            thread.join()
        self.stdout.write("Stopped.")

    def _steps(self) -> list[tuple[str, Callable[[], int], float]]:
        steps: list[tuple[str, Callable[[], int], float]] = [("maintain", _maintain, MAINTAIN)]
        for using, name in queue_keys():
            steps.append((f"poll {name}", partial(_run, poll, using, name), IDLE))
            for turn in ("even", "odd"):  # one goes on while the other waits for its last answers
                steps.append(
                    (f"send {name}, {turn} turns", partial(_run, relay_with_pool, using, name), IDLE)
                )
        return steps


def _run(step: Callable[[DeliveryContext, float], int], using: str, name: str) -> int:
    return step(open_context(using, name), RUN_SECONDS)


def _maintain() -> int:
    maintain_all(Clock())
    return 0


def _repeat(stop: threading.Event, step: Callable[[], int], pause: float) -> None:
    """Until told to stop; whatever goes wrong is told and tried again, with a new connection."""
    while not stop.is_set():
        try:
            done = step()
        except DatabaseError as error:
            logger.warning(
                "%s is left for later: %s", threading.current_thread().name, summarise_error(error)
            )
            close_thread_connections()
            stop.wait(TROUBLE)
            done = 0
        except Exception:
            # A thread that ended here would be missing until somebody starts the process anew.
            logger.exception("%s failed, and is tried again", threading.current_thread().name)
            close_thread_connections()
            stop.wait(TROUBLE)
            done = 0
        if not done:
            stop.wait(pause)
    close_thread_connections()

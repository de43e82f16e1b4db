"""``manage.py outbox_relay``: the whole pipeline in one process, for a host without Celery at hand."""

from __future__ import annotations

import logging
import signal
import threading
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

from django.core.management.base import BaseCommand
from django.db import Error as DatabaseError

from ...conf import get_settings
from ...pipeline import maintain
from ...pipeline.channel import Clock, channels, close_connections, open_channel
from ...pipeline.relay import relay, track
from ...schedule import MAINTAIN

logger = logging.getLogger(__name__)

IDLE = 0.2
"""Seconds between two looks where nothing was to do."""

RUN_SECONDS = 1.0


class Command(BaseCommand):
    help = (
        "Seals, sends and follows in one process, without Celery: the same pipeline, the same leases and the "
        "same pace, so that it may run beside Celery workers and beside itself. Stops at SIGINT or SIGTERM "
        "after what is under way."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--senders",
            type=int,
            default=4,
            help="threads that send for each workspace; 10 × the seconds of an answer are enough (default: %(default)s)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        threads = [
            threading.Thread(target=_repeat, args=(stop, step, pause), name=name)
            for name, step, pause in self._steps(options["senders"])
        ]
        for thread in threads:
            thread.start()
        self.stdout.write(f"Relaying for {', '.join(get_settings().workspaces)}; Ctrl-C stops.")
        stop.wait()
        for thread in threads:
            thread.join()
        self.stdout.write("Stopped.")

    def _steps(self, senders: int) -> list[tuple[str, Callable[[], int], float]]:
        steps: list[tuple[str, Callable[[], int], float]] = [("maintain", _maintain, MAINTAIN)]
        for using, name in channels():
            steps.append(
                (f"track {name}", lambda u=using, n=name: track(open_channel(u, n), RUN_SECONDS), IDLE)
            )
            steps += [
                (f"send {name}", lambda u=using, n=name: relay(open_channel(u, n), RUN_SECONDS), IDLE)
            ] * senders
        return steps


def _maintain() -> int:
    settings = get_settings()
    for using in settings.databases:
        maintain.rescue(using, Clock())
        maintain.purge(using, Clock(), settings.retention_days)
    return 0


def _repeat(stop: threading.Event, step: Callable[[], int], pause: float) -> None:
    """Until told to stop; trouble with the database is waited out with a new connection."""
    while not stop.is_set():
        try:
            done = step()
        except DatabaseError as error:
            logger.warning("database: %s", error)
            close_connections()
            done = 0
        if not done:
            stop.wait(pause)
    close_connections()

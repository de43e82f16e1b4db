"""How far a process has purged each kind of rows, and when the next run may begin."""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ..delivery.context import Clock

REST_SHARE = 0.5
"""Pause before the next run, as a share of the duration of the last one."""

MAX_RESCANNED = 500
"""Number of skipped rows that every run may examine again, because so few cost nearly nothing."""

RESCAN_INTERVAL = timedelta(hours=1)
"""Time after which the skipped rows are examined again if there are more than ``MAX_RESCANNED``."""


@dataclass(slots=True)
class PurgeCursor:
    """Position of the purge in the old rows of one kind, and the number of rows that it skipped.

    ``after`` is the sort key of the last row that was examined, None at the beginning.
    """

    after: Any = None
    skipped: int = 0
    is_at_end: bool = False
    started_at: datetime | None = None

    def start(self, now: datetime) -> None:
        """Restart from the beginning if the last pass is finished, unless it skipped many rows a short time ago."""
        is_recent = self.started_at is not None and timedelta(0) <= now - self.started_at < RESCAN_INTERVAL
        keeps_position = is_recent and self.skipped > MAX_RESCANNED
        if self.started_at is None or (self.is_at_end and not keeps_position):
            self.after, self.skipped, self.started_at = None, 0, now
        self.is_at_end = False

    def advance(self, after: Any, skipped: int) -> None:
        """Note that all rows up to ``after`` were examined, and ``skipped`` of them stay."""
        self.after = after
        self.skipped += skipped


@dataclass(slots=True)
class PurgeProgress:
    """The cursors of one database, and the time of the last run. Consecutive runs of a process share it.

    It is memory of the process only. If it is lost, the next run examines the skipped rows once more.
    """

    cursors: defaultdict[str, PurgeCursor] = field(default_factory=lambda: defaultdict(PurgeCursor))
    is_running: bool = False
    last_run: tuple[float, float] = (0.0, 0.0)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def try_start_run(self, now: float) -> bool:
        """Start a run. Return False if one is running in this process, or the pause after the last one is not over."""
        started, ended = self.last_run
        with self.lock:
            if self.is_running or ended <= now < ended + REST_SHARE * (ended - started):
                return False
            self.is_running = True
            return True

    def end_run(self, started: float, ended: float) -> None:
        """End the run."""
        self.last_run, self.is_running = (started, ended), False

    def start_cursor(self, name: str, clock: Clock) -> PurgeCursor:
        """Return the cursor of a kind of rows, ready to continue."""
        cursor = self.cursors[name]
        cursor.start(clock.now())
        return cursor

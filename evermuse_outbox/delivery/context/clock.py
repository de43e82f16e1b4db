"""The clock of a delivery run, passed in so that tests do not have to wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from ...database_clock import clock_error, database_now


@dataclass(frozen=True, slots=True)
class Clock:
    """The database's time, monotonic time and sleep.

    ``now`` returns a datetime that is aware if the project sets ``USE_TZ``. ``monotonic`` and ``sleep`` use seconds.
    ``error`` returns by how many seconds ``now`` may be wrong.
    """

    now: Callable[[], datetime]
    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic
    error: Callable[[], float] = lambda: 0.0

    @classmethod
    def of(cls, using: str) -> Clock:
        """Return the clock of a database alias."""
        return cls(partial(database_now, using), error=partial(clock_error, using))

    def stopped(self) -> Clock:
        """Return a clock whose ``now`` stays at the present time."""
        at = self.now()
        return replace(self, now=lambda: at)

    def surely_passed(self) -> datetime:
        """Return the latest time that is over for certain, however wrong ``now`` may be."""
        return self.now() - timedelta(seconds=self.error())

    def after(self, seconds: float) -> datetime:
        """Return the time ``seconds`` from now."""
        return self.now() + timedelta(seconds=seconds)

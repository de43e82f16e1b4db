"""The clock of a delivery run, passed in so that tests do not have to wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from ...database_clock import database_now


@dataclass(frozen=True, slots=True)
class Clock:
    """The database's time, monotonic time and sleep.

    ``now`` returns a datetime that is aware if the project sets ``USE_TZ``. ``monotonic`` and ``sleep`` use seconds.
    """

    now: Callable[[], datetime]
    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic

    @classmethod
    def of(cls, using: str) -> Clock:
        """Return the clock of a database alias."""
        return cls(partial(database_now, using))

    def after(self, seconds: float) -> datetime:
        """Return the time ``seconds`` from now."""
        return self.now() + timedelta(seconds=seconds)

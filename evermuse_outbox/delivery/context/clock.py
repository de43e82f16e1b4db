"""The clock of a delivery run, passed in so that tests do not have to wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone


@dataclass(frozen=True, slots=True)
class Clock:
    """Wall time, monotonic time and sleep.

    ``now`` returns a datetime that is aware if the project sets ``USE_TZ``. ``monotonic`` and ``sleep`` use seconds.
    """

    now: Callable[[], datetime] = timezone.now
    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic

    def after(self, seconds: float) -> datetime:
        """Return the wall time ``seconds`` from now."""
        return self.now() + timedelta(seconds=seconds)

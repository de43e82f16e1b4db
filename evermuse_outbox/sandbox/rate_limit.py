"""Rate limit of an API key: a sliding window for the API, and a count for tests of the highest rate that occurred."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable


class SlidingWindow:
    """Admit at most ``limit`` requests in any ``seconds``. The API admits 10 in 1 second for each key.

    Only admitted requests count. If refused requests counted, a client that sends too many would never be admitted
    again, and ``retryAfter`` would be wrong.
    """

    def __init__(self, limit: int, seconds: float) -> None:
        self.limit = limit
        self.seconds = seconds
        self._admitted_at: deque[float] = deque()

    def acquire(self, now: float) -> float:
        """Admit a request at the time ``now``, or return how long it must wait.

        Args:
            now: Time in seconds. It must not be earlier than in the previous call.

        Returns:
            0 if the request is admitted. Otherwise the seconds until it would be, rounded up to a millisecond.
        """
        self._remove_expired(now)
        if len(self._admitted_at) < self.limit:
            self._admitted_at.append(now)
            return 0.0
        if not self._admitted_at:  # the limit is 0
            return self.seconds
        remaining = self._admitted_at[0] + self.seconds - now
        return max(0.001, math.ceil(remaining * 1_000) / 1_000)

    def _remove_expired(self, now: float) -> None:
        while self._admitted_at and self._admitted_at[0] + self.seconds <= now:
            self._admitted_at.popleft()


def max_count_in_window(times: Iterable[float], seconds: float) -> int:
    """Return the highest number of ``times`` in any window of ``seconds``. The end of a window is not part of it."""
    window: deque[float] = deque()
    highest = 0
    for time in sorted(times):
        while window and window[0] + seconds <= time:
            window.popleft()
        window.append(time)
        highest = max(highest, len(window))
    return highest

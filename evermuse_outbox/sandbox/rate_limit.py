"""How often a key may ask: a sliding window, and the count that a test holds a client to."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable


class SlidingWindow:
    """Grants at most `limit` requests in any `seconds` (API limits: 10 a second for each key).

    Only granted requests take a place. Were refused ones counted, a client that asks too often would
    never get out, and `retryAfter` would not be the truth.
    """

    def __init__(self, limit: int, seconds: float) -> None:
        self.limit = limit
        self.seconds = seconds
        self._granted: deque[float] = deque()

    def wait(self, now: float) -> float:
        """0 where the request of this moment is granted, else the seconds until a place is free."""
        self._forget(now)
        if len(self._granted) < self.limit:
            self._granted.append(now)
            return 0.0
        if not self._granted:  # a limit of 0 grants nothing
            return self.seconds
        left = self._granted[0] + self.seconds - now
        return max(0.001, math.ceil(left * 1_000) / 1_000)

    def _forget(self, now: float) -> None:
        while self._granted and self._granted[0] + self.seconds <= now:
            self._granted.popleft()


def worst_count(times: Iterable[float], seconds: float) -> int:
    """The most of `times` that fall into any window of `seconds` (its end not included)."""
    window: deque[float] = deque()
    worst = 0
    for time in sorted(times):
        while window and window[0] + seconds <= time:
            window.popleft()
        window.append(time)
        worst = max(worst, len(window))
    return worst

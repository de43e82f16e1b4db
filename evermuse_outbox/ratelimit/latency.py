"""What the rate limit learns about latency: a value that a further request is very unlikely to undercut. Pure.

The lowest latency of a few samples is not the lowest that is possible. How far below the next one can be follows from
the samples themselves. Sort them: ``x[1] <= x[2] <= …``. If they are independent and evenly spread near their minimum,
all gaps between neighbours have the same distribution, the unknown gap below ``x[1]`` too. Then, for every ``m``::

    P(gap below x[1] > c × (x[m] - x[1])) = (1 + c) ** -(m - 1)

The formula contains neither the spread of the network nor its latency. Ten samples within a millisecond therefore prove
much, and ten samples within 0.2 seconds prove nothing. ``docs/explanation/rate-limit.md`` has the proof.
"""

from __future__ import annotations

from typing import NamedTuple

SAMPLES = 50
"""Number of sends in one bucket: 5 seconds at the published limit. The last two buckets count."""

MAX_AGE = 30.0
"""Seconds after which a bucket ends, however few samples it has. The way to the API may have changed since."""

LOWEST = 20
"""Maximum of ``m``. Only that many of the lowest latencies are stored, so a few slow answers change nothing."""

FEWEST = 6
"""Minimum of ``m``. With fewer samples the formula allows nearly any gap."""

RISK = 1e-5
"""Accepted probability that the gap is larger than the formula says, for each ``m``."""

DROP = 0.01
"""Seconds. A latency that is further below the floor comes from another distribution: the way or the API became faster.
"""

RESOLUTION = 0.001
"""Seconds. Two latencies that are equal on the clock of the backend may differ by this."""

FACTORS = {m: RISK ** (-1 / (m - 1)) - 1 for m in range(FEWEST, LOWEST + 1)}
"""The factor ``c`` for each ``m``, which gives the formula the value :data:`RISK`."""


class LatencySamples(NamedTuple):
    """The lowest latencies of the recent sends, in seconds, in two buckets.

    Attributes:
        since: start of the current bucket, on the backend's clock.
        size: number of sends in the current bucket.
        current: the lowest latencies of the current bucket, sorted.
        previous: those of the bucket before.
    """

    since: float = 0.0
    size: int = 0
    current: tuple[float, ...] = ()
    previous: tuple[float, ...] = ()

    def add(self, now: float, latency: float) -> LatencySamples:
        """Return the samples with one more. Begin a new bucket if the current one is full or old.

        A latency far below the floor discards all others, because they prove nothing about its distribution.
        """
        samples = LatencySamples(since=now) if latency < self.floor() - DROP else self._rotate(now)
        lowest = tuple(sorted((*samples.current, latency))[:LOWEST])
        return samples._replace(size=samples.size + 1, current=lowest)

    def floor(self) -> float:
        """Return the latency that the next request is very unlikely to undercut; 0.0 if there are too few samples."""
        lowest = sorted((*self.current, *self.previous))[:LOWEST]
        gaps = [
            factor * (lowest[m - 1] - lowest[0] + RESOLUTION)
            for m, factor in FACTORS.items()
            if m <= len(lowest)
        ]
        return max(lowest[0] - min(gaps), 0.0) if gaps else 0.0

    def _rotate(self, now: float) -> LatencySamples:
        age = now - self.since
        if not 0 <= age < 2 * MAX_AGE:
            return LatencySamples(since=now)
        if self.size >= SAMPLES or age >= MAX_AGE:
            return LatencySamples(since=now, previous=self.current)
        return self

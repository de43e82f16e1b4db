"""The arithmetic of the rate limit for one API key. Pure: the time is an argument, the state is a value.

Evermuse allows 10 requests in any sliding second for a key, reads included, and counts them on arrival. The time
between sending and arrival is unknown and differs for each request. One fact is certain: a request arrives after
it was sent and before its answer is here.

So each request holds a *permit* with the latest time at which it may have arrived. A new permit is given only if
fewer than the limit may have arrived within the last second:

* Until its answer is here, a request may arrive up to :data:`ARRIVAL_UNCERTAINTY` seconds after it was sent.
* After its answer, it arrived at most as late as the answer exceeded the windowed minimum latency. This is the
  min-RTT filter of BBR congestion control. A slow API therefore costs no throughput; an unsteady network does.

Before they acquire a permit, senders reserve evenly spaced *slots*. Requests then leave one by one, not in bursts.
All times come from one clock: that of the backend (Redis or the database).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

WINDOW = 1.0
"""Seconds over which the published limit counts. Source: API reference, API Limits."""

MARGIN = 0.02
"""Seconds added to the window, because the clocks on both sides have limited precision."""

ARRIVAL_UNCERTAINTY = 0.25
"""Maximum seconds by which the travel time of one request may exceed that of another."""

MAX_BLOCK = 86_400.0
"""Maximum seconds for which a ``retryAfter`` blocks the key: one day, whatever number the answer contains."""

CLOCK_JUMP = 3_600.0
"""Seconds. A stored time that is further away can only come from a clock that was set back since."""

LATENCY_WINDOW = 40
"""Number of sends after which the minimum latency is measured anew."""

LATENCY_DROP = 0.01
"""Seconds. An answer that beats the minimum latency by more shows that the API became faster, so the old
minimum is discarded."""

RETRY_INTERVAL = 0.02
"""Maximum seconds between two attempts to acquire. An answer may free a permit earlier than its expiry."""


class Reservation(NamedTuple):
    """The answer to a reservation: the next slot is ``wait`` seconds away; ``taken`` if it was reserved."""

    wait: float
    taken: bool


class Admission(NamedTuple):
    """The answer to an acquisition: the id of the ``permit``, or None and ``wait`` in seconds before a new attempt."""

    wait: float
    permit: str | None


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``count`` requests in any ``window`` of seconds."""

    count: int
    window: float

    @property
    def spacing(self) -> float:
        """Seconds between two slots."""
        return self.window / self.count

    @classmethod
    def from_rate(cls, rate: float) -> Limit:
        """Return the limit for a rate in requests per second.

        The count is at least 1, so a rate below 1 gives a longer window: 0.5 means one request in 2 seconds.
        """
        count = max(math.floor(rate), 1)
        return cls(count, count / rate * WINDOW + MARGIN)


class Permit(NamedTuple):
    """One admitted request: when it was admitted, and the latest time at which it may have arrived."""

    id: str
    sent_at: float
    latest_arrival: float


class RateLimitState(NamedTuple):
    """The state of one key, in seconds on the backend's clock.

    Every method takes the current time and returns the new state; none of them changes the value it is called on.
    ``latency_samples`` counts the sends of the current latency window, ``min_latency_candidate`` is their minimum.
    """

    next_slot_at: float = 0.0
    blocked_until: float = 0.0
    min_latency: float | None = None
    min_latency_candidate: float | None = None
    latency_samples: int = 0
    permits: tuple[Permit, ...] = ()

    def wait(self, now: float) -> float:
        """Return the seconds until the next slot."""
        next_slot_at = self.next_slot_at if self.next_slot_at - now < CLOCK_JUMP else now
        return max(next_slot_at, self.blocked_until, now) - now

    def reserve(self, now: float, limit: Limit, patience: float) -> tuple[Reservation, RateLimitState]:
        """Reserve the next slot if it is at most ``patience`` seconds away."""
        wait = self.wait(now)
        if wait > patience:
            return Reservation(wait, taken=False), self
        return Reservation(wait, taken=True), self._replace(next_slot_at=now + wait + limit.spacing)

    def acquire(self, now: float, limit: Limit, permit_id: str) -> tuple[Admission, RateLimitState]:
        """Admit a request now under ``permit_id``, or say how long to wait before a new attempt."""
        if self.blocked_until > now:
            return Admission(self.blocked_until - now, None), self
        recent = tuple(p for p in self.permits if now - limit.window < p.latest_arrival < now + CLOCK_JUMP)
        if len(recent) >= limit.count:
            expires_first = sorted(permit.latest_arrival for permit in recent)[len(recent) - limit.count]
            wait = min(expires_first + limit.window - now, RETRY_INTERVAL)
            return Admission(wait, None), self._replace(permits=recent)
        permit = Permit(permit_id, now, now + ARRIVAL_UNCERTAINTY)
        return Admission(0.0, permit_id), self._replace(permits=(*recent, permit))

    def release(self, now: float, permit_id: str, *, is_send: bool) -> RateLimitState:
        """Record that the answer is here, which bounds the time of arrival.

        Only sends (POST) contribute to the minimum latency. A read is answered faster than a batch, so its latency
        would make every batch look late. Before the first latency window is full, the whole latency counts.
        An unknown permit changes nothing.
        """
        permit = next((p for p in self.permits if p.id == permit_id), None)
        if permit is None:
            return self
        latency = max(now - permit.sent_at, 0.0)
        state = self._with_latency(latency) if is_send else self
        excess = latency
        if is_send and state.min_latency is not None:
            excess = max(latency - state.min_latency, 0.0)
        latest_arrival = permit.sent_at + min(excess, ARRIVAL_UNCERTAINTY)
        permits = (p._replace(latest_arrival=latest_arrival) if p is permit else p for p in self.permits)
        return state._replace(permits=tuple(permits))

    def block(self, now: float, seconds: float) -> RateLimitState:
        """Give no slot and no permit for ``seconds``. A longer block that is in force remains."""
        return self._replace(blocked_until=max(self.blocked_until, now + min(seconds, MAX_BLOCK)))

    def _with_latency(self, latency: float) -> RateLimitState:
        if self.min_latency is not None and latency < self.min_latency - LATENCY_DROP:
            return self._replace(min_latency=None, min_latency_candidate=latency, latency_samples=1)
        candidate = self.min_latency_candidate
        candidate = latency if candidate is None else min(latency, candidate)
        if self.latency_samples + 1 < LATENCY_WINDOW:
            return self._replace(min_latency_candidate=candidate, latency_samples=self.latency_samples + 1)
        return self._replace(min_latency=candidate, min_latency_candidate=None, latency_samples=0)

"""The arithmetic of the rate limit for one API key. Pure: the time is an argument, the state is a value.

Evermuse allows 10 requests in any sliding second for a key, reads included, and counts them on arrival. To count them
when they are sent is not enough: requests that were sent in different seconds can arrive in the same second. The time
between sending and arrival is unknown and differs for each request. Only two limits are certain: a request arrives
after it was sent, and before its answer comes back.

So each request gets a *permit*: an entry in the state with the latest time at which the request may have arrived. A new
permit is given only if fewer requests than the limit may have arrived within the last second:

* Before its answer, a request may arrive up to :data:`ARRIVAL_UNCERTAINTY` seconds after it was sent.
* After its answer, the latency of the request is known. It is compared with the *floor*: a latency that hardly any
  request undercuts (:mod:`.latency`). The request arrived at most that difference after it was sent. A slow API
  therefore costs no throughput, but a network with varying latency does.

The floor changes with each answer, and all permits are then evaluated again. So the first answers of a key also bound
the arrivals of the requests before them. A lower latency raises the bounds of requests that were thought to be early.

Before they acquire a permit, senders reserve evenly spaced *slots*. Requests then leave one by one, not in bursts.
All times come from one clock: that of the backend (Redis or the database).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from .latency import LatencySamples

WINDOW = 1.0
"""Seconds over which the published limit counts. Source: API reference, API Limits."""

MARGIN = 0.01
"""Seconds added to the window, because the clocks on both sides have limited precision, and the floor may be too high
by this."""

ARRIVAL_UNCERTAINTY = 0.25
"""Seconds by which the travel time of one request may exceed that of another.

This is an assumption about the network. If a request is delayed by more, the rate limit can be exceeded.
"""

MAX_BLOCK = 3_600.0
"""Maximum seconds for which a ``retryAfter`` blocks the key: one hour, whatever number the answer contains.
The number may be wrong, or in milliseconds. After an hour, one request finds out."""

BLOCK_PRECISION = 1.0
"""Seconds by which a stored block may exceed :data:`MAX_BLOCK`: times are rounded when they are stored. A longer block
was stored before the clock was set back, or by a version with a longer maximum. It is ignored."""

CLOCK_JUMP = 3_600.0
"""Seconds. A stored time that is further in the future shows that the clock was set back, so it is ignored."""

RETRY_INTERVAL = 0.02
"""Maximum seconds between two attempts to acquire a permit. An answer can free a permit before it expires."""


class Reservation(NamedTuple):
    """The result of a reservation: the next slot is ``wait`` seconds away, and ``taken`` is True if it is reserved."""

    wait: float
    taken: bool


class Admission(NamedTuple):
    """The result of an acquisition: the id of the ``permit``, or None and the seconds to ``wait`` before a retry."""

    wait: float
    permit: str | None


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``count`` requests in any ``window`` seconds."""

    count: int
    window: float

    @property
    def spacing(self) -> float:
        """Seconds between two slots."""
        return self.window / self.count

    @classmethod
    def from_rate(cls, rate: float) -> Limit:
        """Return the limit for a rate in requests per second; its window includes :data:`MARGIN`.

        The count is at least 1, so a rate below 1 gives a longer window: 0.5 means one request in 2 seconds.
        """
        count = max(math.floor(rate), 1)
        return cls(count, count / rate * WINDOW + MARGIN)


class Permit(NamedTuple):
    """One admitted request: when it was admitted, and the latest time at which it may have arrived.

    ``latency`` is None before the answer, and for a request whose latency cannot be compared with that of others.
    """

    id: str
    sent_at: float
    latest_arrival: float
    latency: float | None = None

    def answered(self, latency: float) -> Permit:
        """Return the permit after an answer that cannot be compared: the request arrived before it."""
        return self._replace(latest_arrival=self.sent_at + min(latency, ARRIVAL_UNCERTAINTY))

    def compared(self, floor: float) -> Permit:
        """Return the permit if no latency is lower than ``floor``: the request was late by the difference at most."""
        if self.latency is None:
            return self
        return self.answered(max(self.latency - floor, 0.0))


class RateLimitState(NamedTuple):
    """The state of one key, in seconds on the backend's clock.

    Every method takes the current time as ``now``. Methods that change the state return the new state; the value itself
    never changes.
    """

    next_slot_at: float = 0.0
    blocked_until: float = 0.0
    permits: tuple[Permit, ...] = ()
    samples: LatencySamples = LatencySamples()

    def wait(self, now: float) -> float:
        """Return the seconds until the next slot."""
        next_slot_at = self.next_slot_at if self.next_slot_at - now < CLOCK_JUMP else now
        return max(next_slot_at, self._block_end(now), now) - now

    def reserve(self, now: float, limit: Limit, patience: float) -> tuple[Reservation, RateLimitState]:
        """Reserve the next slot if it is at most ``patience`` seconds away."""
        wait = self.wait(now)
        if wait > patience:
            return Reservation(wait, taken=False), self
        return Reservation(wait, taken=True), self._replace(next_slot_at=now + wait + limit.spacing)

    def acquire(self, now: float, limit: Limit, permit_id: str) -> tuple[Admission, RateLimitState]:
        """Give a permit with the id ``permit_id``, or return the seconds to wait before a new attempt.

        A permit is kept for :data:`ARRIVAL_UNCERTAINTY` seconds longer than it counts. If the floor falls, it may count
        again.
        """
        if self._block_end(now) > now:
            return Admission(self.blocked_until - now, None), self
        start = now - limit.window
        kept = tuple(
            p for p in self.permits if start - ARRIVAL_UNCERTAINTY < p.latest_arrival < now + CLOCK_JUMP
        )
        counted = sorted(p.latest_arrival for p in kept if p.latest_arrival > start)
        if len(counted) >= limit.count:
            expires_first = counted[len(counted) - limit.count]
            wait = min(expires_first + limit.window - now, RETRY_INTERVAL)
            return Admission(wait, None), self._replace(permits=kept)
        permit = Permit(permit_id, now, now + ARRIVAL_UNCERTAINTY)
        return Admission(0.0, permit_id), self._replace(permits=(*kept, permit))

    def release(self, now: float, permit_id: str, *, is_comparable: bool) -> RateLimitState:
        """Record the answer to a request, after which its latest time of arrival is known better.

        Only a POST on a connection that was open before is comparable. A GET is answered faster than a batch, so its
        latency would make every batch look late. The first request of a connection is slow for a reason of its own. A
        request that is not comparable may have arrived at any time before its answer. A permit that is no longer in the
        state changes nothing.

        Args:
            now: Time of the answer.
            permit_id: The id that was given to :meth:`acquire`.
            is_comparable: Whether the latency may be compared with that of other requests.
        """
        permit = next((p for p in self.permits if p.id == permit_id), None)
        if permit is None or permit.latency is not None:
            return self
        latency = round(max(now - permit.sent_at, 0.0), 6)
        samples = self.samples
        if is_comparable:
            samples = samples.add(now, latency)
            released = permit._replace(latency=latency)
        else:
            released = permit.answered(latency)
        floor = samples.floor()
        permits = (released if p is permit else p for p in self.permits)
        return self._replace(permits=tuple(p.compared(floor) for p in permits), samples=samples)

    def block(self, now: float, seconds: float) -> RateLimitState:
        """Give no slot and no permit for ``seconds``. A longer block that is in force remains."""
        return self._replace(blocked_until=max(self._block_end(now), now + min(seconds, MAX_BLOCK)))

    def unblock(self) -> RateLimitState:
        """End a block before its time. Slots and permits stay, so the rate limit is kept."""
        return self._replace(blocked_until=0.0)

    def _block_end(self, now: float) -> float:
        """Return the end of the block; ``now`` if it is further away than any block may be."""
        return self.blocked_until if self.blocked_until - now <= MAX_BLOCK + BLOCK_PRECISION else now

"""Who may send when, for one API key, over all processes and hosts.

Evermuse allows 10 requests in any sliding second for a key, reads included, and counts them where they
arrive. Between our clock and its door lies an unknown time, different for each request, so the moment of
sending alone proves nothing. What is known: a request arrives after it was sent and before it was answered.
So each request is kept as a *visit*, with the latest moment at which it may have arrived, and another one
enters only while fewer than the limit may have arrived within the last second:

* until it is answered, a visit may arrive up to :data:`GRACE` after it was sent;
* once it is answered, only as much later as its answer took longer than the quickest of late. A slow API is
  thus no reason to slow down, an unsteady way to it is.

Before they enter, senders queue for evenly spaced *slots*, so that they come one by one and not in bursts.
Everything is on one clock, that of the keeper (Redis or the database).
"""

from __future__ import annotations

import hashlib
import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any, NamedTuple, Protocol

from ..evermuse.errors import ThrottleUnavailable

WINDOW = 1.0
"""Seconds. The published limit counts over any one second."""

MARGIN = 0.02
"""Seconds added to the window, for the precision of clocks on both sides."""

GRACE = 0.25
"""Seconds by which one request may arrive later than another, relative to when each was sent."""

LATE = GRACE / 2
"""Seconds. Where the keeper takes longer to let somebody in, the request would arrive later than the keeper
believes."""

MAX_HOLD = 86_400.0
"""Seconds. The longest that a ``retryAfter`` holds everyone back, whatever number it says."""

CLOCK_JUMP = 3_600.0
"""Seconds. A next slot further away than this can only come from a clock that was set back."""

EPOCH = 40
"""Sends after which the shortest answering time is looked for anew."""

DROP = 0.01
"""Seconds. An answer this much quicker than the quickest says that the API has become quicker: what was
known is forgotten."""

KNOCK = 0.02
"""Seconds between two tries at the door: an answer may free a place sooner than the visit itself would."""


class Reservation(NamedTuple):
    """An answer to a reservation: the slot is ``wait`` seconds away, and is ours if ``taken``."""

    wait: float
    taken: bool


class Entry(NamedTuple):
    """An answer at the door: ``visit`` when we may send now, else None and how long to wait."""

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
    def of(cls, rate: float) -> Limit:
        """For a rate in requests per sliding second; one below 1 stands for one request in a longer time."""
        count = max(math.floor(rate), 1)
        return cls(count, count / rate * WINDOW + MARGIN)


class Permit(NamedTuple):
    """One request: when it was let in, and the latest moment at which it may have arrived."""

    name: str
    sent: float
    latest: float


class RateLimitState(NamedTuple):
    """The state of one key on the keeper's clock, and what becomes of it. Pure."""

    next_slot_at: float = 0.0
    blocked_until: float = 0.0
    min_latency: float | None = None
    min_latency_candidate: float | None = None
    sends: int = 0
    permits: tuple[Permit, ...] = ()

    def wait(self, now: float) -> float:
        """Seconds until the next slot."""
        next_slot_at = self.next_slot_at if self.next_slot_at - now < CLOCK_JUMP else now
        return max(next_slot_at, self.blocked_until, now) - now

    def reserve(self, now: float, limit: Limit, patience: float) -> tuple[Reservation, RateLimitState]:
        """The next slot, taken only when it is at most ``patience`` seconds away."""
        wait = self.wait(now)
        if wait > patience:
            return Reservation(wait, taken=False), self
        return Reservation(wait, taken=True), self._replace(next_slot_at=now + wait + limit.spacing)

    def enter(self, now: float, limit: Limit, name: str) -> tuple[Entry, RateLimitState]:
        """Lets a request go now, or says how long to wait."""
        if self.blocked_until > now:
            return Entry(self.blocked_until - now, None), self
        near = tuple(v for v in self.permits if now - limit.window < v.latest < now + CLOCK_JUMP)
        if len(near) >= limit.count:
            free = sorted(permit.latest for permit in near)[len(near) - limit.count]
            return Entry(min(free + limit.window - now, KNOCK), None), self._replace(permits=near)
        return Entry(0.0, name), self._replace(permits=(*near, Permit(name, now, now + GRACE)))

    def leave(self, now: float, name: str, *, is_send: bool) -> RateLimitState:
        """The request was answered: it has arrived, no later than its answer lets us know.

        Only sends tell what is quick: a read is answered sooner than a batch, and would make every batch
        look late. Until one epoch of them is known, the whole time until the answer counts.
        """
        permit = next((v for v in self.permits if v.name == name), None)
        if permit is None:
            return self
        took = max(now - permit.sent, 0.0)
        pace = self._learn(took) if is_send else self
        late = max(took - pace.min_latency, 0.0) if is_send and pace.min_latency is not None else took
        arrived = permit.sent + min(late, GRACE)
        return pace._replace(
            permits=tuple(v._replace(latest=arrived) if v is permit else v for v in self.permits)
        )

    def _learn(self, took: float) -> RateLimitState:
        if self.min_latency is not None and took < self.min_latency - DROP:
            return self._replace(min_latency=None, min_latency_candidate=took, sends=1)
        min_latency_candidate = (
            took if self.min_latency_candidate is None else min(took, self.min_latency_candidate)
        )
        if self.sends + 1 < EPOCH:
            return self._replace(min_latency_candidate=min_latency_candidate, sends=self.sends + 1)
        return self._replace(min_latency=min_latency_candidate, min_latency_candidate=None, sends=0)

    def hold(self, now: float, seconds: float) -> RateLimitState:
        """No slot for that many seconds; a longer hold that stands is kept."""
        return self._replace(blocked_until=max(self.blocked_until, now + min(seconds, MAX_HOLD)))


class Throttle(Protocol):
    """Keeps the pace of one key. All times are seconds.

    The order is: :meth:`reserve`, wait for the slot, :meth:`enter`, send, :meth:`leave`.
    """

    def wait(self) -> float:
        """Until the next slot, without taking it."""

    def reserve(self, patience: float) -> Reservation:
        """The next slot, taken if it is at most that far away."""

    def enter(self) -> Entry:
        """At the slot: whether a request may be sent at this moment."""

    def leave(self, permit: str, *, is_send: bool) -> None:
        """The request of that visit has been answered; ``is_send`` for a POST."""

    def hold(self, seconds: float) -> None:
        """Nobody sends for that long: Evermuse has asked for it."""


def let_in(knock: Callable[[], tuple[Entry, float]]) -> Entry:
    """What ``knock`` is told at the door: an entry, and the seconds from its moment until it was told.

    Who was told late knocks once more; the place of the first visit stays taken until it has passed. Not more
    often: where the keeper is slow at all times, all requests are as late, and none too late beside the others.
    """
    entry, took = knock()
    return knock()[0] if entry.permit and took > LATE else entry


def new_permit_id() -> str:
    """A name for a visit."""
    return uuid.uuid4().hex[:16]


def scope_of(api_url: str, api_key: str) -> str:
    """A one-way name of a key, so that all who use that key share one pace and nobody reads it back."""
    digest = hashlib.blake2b(
        api_url.encode() + b"\0" + api_key.encode(), digest_size=12, person=b"evermuse-outbox"
    )
    return digest.hexdigest()


# The same arithmetic as Pace, where the keeper is Redis: one call each, on the clock of Redis.
_NOW = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local function read(field) return tonumber(redis.call('HGET', KEYS[1], field) or 0) end
local function write(field, value)
    redis.call('HSET', KEYS[1], field, string.format('%.6f', value))
    redis.call('EXPIRE', KEYS[1], 172800)
end
local function forgotten() return redis.call('HEXISTS', KEYS[1], 'next_slot_at') == 0 end
"""
_RESERVE = (
    _NOW
    + """
local spacing, patience, jump = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
if forgotten() then write('next_slot_at', now + tonumber(ARGV[4])) end
local free = read('next_slot_at')
if free - now >= jump then free = now end
local wait = math.max(free, read('blocked_until'), now) - now
if wait > patience then return {0, tostring(wait)} end
write('next_slot_at', now + wait + spacing)
return {1, tostring(wait)}
"""
)
_ENTER = (
    _NOW
    + """
local count, window, grace = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local jump, knock, window_and_grace = tonumber(ARGV[4]), tonumber(ARGV[6]), tonumber(ARGV[7])
if forgotten() then
    write('next_slot_at', now + window_and_grace)
    return {0, tostring(window_and_grace)}
end
local hold = read('blocked_until')
if hold > now then return {0, tostring(hold - now)} end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - window)
redis.call('ZREMRANGEBYSCORE', KEYS[2], now + jump, '+inf')
local near = redis.call('ZCARD', KEYS[2])
if near >= count then
    local first = redis.call('ZRANGE', KEYS[2], near - count, near - count, 'WITHSCORES')
    return {0, tostring(math.min(tonumber(first[2]) + window - now, knock))}
end
local visit = ARGV[5] .. ':' .. string.format('%.6f', now)
redis.call('ZADD', KEYS[2], string.format('%.6f', now + grace), visit)
redis.call('EXPIRE', KEYS[2], 3600)
return {1, visit}
"""
)
_LEAVE = (
    _NOW
    + """
local grace, epoch, sent = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(string.match(ARGV[3], ':(.*)$'))
local took = math.max(now - sent, 0)
local late = took
if ARGV[4] == '1' then
    local quickest = tonumber(redis.call('HGET', KEYS[1], 'min_latency') or '-1')
    if quickest >= 0 and took < quickest - tonumber(ARGV[5]) then
        redis.call('HDEL', KEYS[1], 'min_latency', 'min_latency_candidate', 'sends')
        quickest = -1
    end
    local candidate = math.min(took, tonumber(redis.call('HGET', KEYS[1], 'min_latency_candidate') or '1e9'))
    if redis.call('HINCRBY', KEYS[1], 'sends', 1) < epoch then
        write('min_latency_candidate', candidate)
    else
        quickest = candidate
        write('min_latency', quickest)
        redis.call('HDEL', KEYS[1], 'min_latency_candidate', 'sends')
    end
    if quickest >= 0 then late = math.max(took - quickest, 0) end
end
redis.call('ZADD', KEYS[2], 'XX', string.format('%.6f', sent + math.min(late, grace)), ARGV[3])
return 1
"""
)
_HOLD = (
    _NOW
    + """
write('blocked_until', math.max(read('blocked_until'), now + tonumber(ARGV[1])))
return 1
"""
)


class RedisThrottle:
    """The pace of one key in Redis; raises :class:`ThrottleUnavailable` when Redis does not answer."""

    def __init__(self, client: Any, scope: str, limit: Limit) -> None:
        # In braces, so that both stand on one node of a cluster.
        self.keys = [f"evermuse_outbox:{{{scope}}}:pace", f"evermuse_outbox:{{{scope}}}:visits"]
        self._limit = limit
        # A keeper that knows nothing may have forgotten what was sent just now: that long until it has passed.
        self._forgotten = limit.window + GRACE
        self._reserve = client.register_script(_RESERVE)
        self._enter = client.register_script(_ENTER)
        self._leave = client.register_script(_LEAVE)
        self._hold = client.register_script(_HOLD)

    def wait(self) -> float:
        return float(self._ask(patience=-1)[1])

    def reserve(self, patience: float) -> Reservation:
        taken, wait = self._ask(patience)
        return Reservation(float(wait), bool(taken))

    def enter(self) -> Entry:
        return let_in(self._knock)

    def _knock(self) -> tuple[Entry, float]:
        limit, asked = self._limit, monotonic()
        taken, told = self._run(
            self._enter, limit.count, limit.window, GRACE, CLOCK_JUMP, new_permit_id(), KNOCK, self._forgotten
        )
        return Entry(0.0, _text(told)) if taken else Entry(float(told), None), monotonic() - asked

    def leave(self, permit: str, *, is_send: bool) -> None:
        self._run(self._leave, GRACE, EPOCH, permit, int(is_send), DROP)

    def hold(self, seconds: float) -> None:
        self._run(self._hold, min(seconds, MAX_HOLD))

    def _ask(self, patience: float) -> Any:
        return self._run(self._reserve, self._limit.spacing, patience, CLOCK_JUMP, self._forgotten)

    def _run(self, script: Any, *arguments: float | str) -> Any:
        import redis

        try:
            return script(keys=self.keys, args=arguments)
        except redis.RedisError as error:
            raise ThrottleUnavailable(
                f"Redis keeps the pace and does not answer: {type(error).__name__}"
            ) from error


def _text(told: bytes | str) -> str:
    return told.decode() if isinstance(told, bytes) else told

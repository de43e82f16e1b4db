"""Who may send when, for one API key, over all processes and hosts.

Evermuse allows 10 requests in any sliding second for a key, reads included. Slots are handed out evenly
spaced on one clock, the server's that keeps them, so that every process reads the same time. Even spacing
at a little under the limit keeps a window's worth of requests apart even when some arrive late:
eleven slots span 10 spacings, at :data:`SHARE` 0.95 that is 1.053 s, so that one request may be 50 ms
later than another relative to its slot before eleven could fall into one second.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple, Protocol

from .errors import ThrottleUnavailable

SHARE = 0.95
"""The part of the published limit that is handed out; the rest is room for jitter."""

MAX_HOLD = 86_400.0
"""Seconds. The longest that a ``retryAfter`` holds everyone back, whatever number it says."""

CLOCK_JUMP = 3_600.0
"""Seconds. A next slot further away than this can only come from a clock that was set back."""


class Grant(NamedTuple):
    """An answer to a reservation: the slot is ``wait`` seconds away, and is ours if ``taken``."""

    wait: float
    taken: bool


class Pace(NamedTuple):
    """The state of one key: the next free slot and the end of a hold, on the keeper's clock."""

    free_at: float = 0.0
    hold_until: float = 0.0

    def wait(self, now: float) -> float:
        """Seconds until the next slot."""
        free_at = self.free_at if self.free_at - now < CLOCK_JUMP else now
        return max(free_at, self.hold_until, now) - now

    def held(self, now: float) -> float:
        """Seconds until the end of the hold; 0 where there is none."""
        return max(self.hold_until - now, 0.0)

    def reserve(self, now: float, spacing: float, patience: float) -> tuple[Grant, Pace]:
        """The next slot, taken only when it is at most ``patience`` seconds away."""
        wait = self.wait(now)
        if wait > patience:
            return Grant(wait, taken=False), self
        return Grant(wait, taken=True), self._replace(free_at=now + wait + spacing)

    def hold(self, now: float, seconds: float) -> Pace:
        """No slot for that many seconds; a longer hold that stands is kept."""
        return self._replace(hold_until=max(self.hold_until, now + min(seconds, MAX_HOLD)))


class Throttle(Protocol):
    """Keeps the pace of one key. All times are seconds."""

    def wait(self) -> float:
        """Until the next slot, without taking it."""

    def held(self) -> float:
        """Until the end of a hold; 0 where there is none."""

    def reserve(self, patience: float) -> Grant:
        """The next slot, taken if it is at most that far away."""

    def hold(self, seconds: float) -> None:
        """Nobody sends for that long: Evermuse has asked for it."""


def spacing_for(rate_limit: float) -> float:
    """Seconds between two slots, for a limit in requests per sliding second."""
    return 1 / (rate_limit * SHARE)


def scope_of(api_url: str, api_key: str) -> str:
    """A one-way name of a key, so that all who use that key share one pace and nobody reads it back."""
    digest = hashlib.blake2b(
        api_url.encode() + b"\0" + api_key.encode(), digest_size=12, person=b"evermuse-outbox"
    )
    return digest.hexdigest()


# The same arithmetic as Pace, where the keeper is Redis: one call, on the clock of Redis.
_RESERVE = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local free = tonumber(redis.call('HGET', KEYS[1], 'free_at') or 0)
local hold = tonumber(redis.call('HGET', KEYS[1], 'hold_until') or 0)
if free - now >= tonumber(ARGV[3]) then free = now end
local wait = math.max(free, hold, now) - now
local held = math.max(hold - now, 0)
if wait > tonumber(ARGV[2]) then return {0, tostring(wait), tostring(held)} end
redis.call('HSET', KEYS[1], 'free_at', string.format('%.6f', now + wait + tonumber(ARGV[1])))
redis.call('EXPIRE', KEYS[1], 172800)
return {1, tostring(wait), tostring(held)}
"""
_HOLD = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local hold = tonumber(redis.call('HGET', KEYS[1], 'hold_until') or 0)
redis.call('HSET', KEYS[1], 'hold_until', string.format('%.6f', math.max(hold, now + tonumber(ARGV[1]))))
redis.call('EXPIRE', KEYS[1], 172800)
return 1
"""


class RedisThrottle:
    """The pace of one key in Redis; raises :class:`ThrottleUnavailable` when Redis does not answer."""

    def __init__(self, client: Any, scope: str, spacing: float) -> None:
        self._client = client
        self._key = f"evermuse_outbox:throttle:{scope}"
        self._spacing = spacing
        self._reserve = client.register_script(_RESERVE)
        self._hold = client.register_script(_HOLD)

    def wait(self) -> float:
        return self._ask(patience=-1.0)[1]

    def held(self) -> float:
        return self._ask(patience=-1.0)[2]

    def reserve(self, patience: float) -> Grant:
        taken, wait, _ = self._ask(patience)
        return Grant(wait, bool(taken))

    def hold(self, seconds: float) -> None:
        self._run(self._hold, [min(seconds, MAX_HOLD)])

    def _ask(self, patience: float) -> tuple[int, float, float]:
        taken, wait, held = self._run(self._reserve, [self._spacing, patience, CLOCK_JUMP])
        return int(taken), float(wait), float(held)

    def _run(self, script: Any, arguments: list[float]) -> Any:
        import redis

        try:
            return script(keys=[self._key], args=arguments)
        except redis.RedisError as error:
            raise ThrottleUnavailable(
                f"Redis keeps the pace and does not answer: {type(error).__name__}"
            ) from error

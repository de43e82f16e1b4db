"""The throttle in Redis: the arithmetic of :mod:`.algorithm` as Lua scripts, so that each call is one atomic step.

With single Redis commands, two processes could both take the last free permit and exceed the limit. The scripts
are in ``lua/``. ``tests/ratelimit/test_backends.py`` tests them and the algorithm with the same table of cases.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from time import monotonic
from typing import Any

from .algorithm import (
    ARRIVAL_UNCERTAINTY,
    BLOCK_PRECISION,
    CLOCK_JUMP,
    MAX_BLOCK,
    RETRY_INTERVAL,
    Admission,
    Limit,
    Reservation,
)
from .latency import DROP, FACTORS, LOWEST, MAX_AGE, RESOLUTION, SAMPLES
from .throttle import ThrottleUnavailable, acquire_again_if_slow, new_permit_id

LONGEST_BLOCK = MAX_BLOCK + BLOCK_PRECISION
"""Seconds. A stored block that ends later is ignored."""


LUA_FACTORS = " ".join(f"{m}:{factor!r}" for m, factor in FACTORS.items())
"""The factors as the argument of the Lua script."""


class RedisThrottle:
    """A :class:`~.throttle.Throttle` for one API key on the clock of Redis.

    Args:
        client: a ``redis.Redis`` client.
        fingerprint: the :func:`~.throttle.key_fingerprint` of the API key.
        limit: the rate limit of the key.
    """

    def __init__(self, client: Any, fingerprint: str, limit: Limit) -> None:
        # The braces are a hash tag: both keys must be on one node of a cluster.
        self.keys = [
            f"evermuse_outbox:{{{fingerprint}}}:rate_limit",
            f"evermuse_outbox:{{{fingerprint}}}:permits",
        ]
        self._limit = limit
        # If Redis has no state, it may have lost it just now. After this time, no lost request counts any more.
        self._wait_without_state = limit.window + ARRIVAL_UNCERTAINTY
        self._scripts = {
            name: client.register_script(_script(name))
            for name in ("reserve", "acquire", "release", "block", "unblock")
        }

    def wait(self) -> float:
        """Return the seconds until the next slot, without reserving it."""
        return self._reserve(patience=-1).wait

    def reserve(self, patience: float) -> Reservation:
        """Reserve the next slot if it is at most ``patience`` seconds away."""
        return self._reserve(patience)

    def acquire(self) -> Admission:
        """Acquire a permit to send a request now, or return the seconds to wait before a new attempt."""
        return acquire_again_if_slow(self._acquire)

    def release(self, permit: str, *, is_comparable: bool) -> None:
        """Record that the request of ``permit`` was answered or failed, so that the permit can expire earlier.

        ``is_comparable`` is True for a POST on a connection that was open before.
        """
        self._run(
            "release",
            permit=permit,
            is_comparable=int(is_comparable),
            arrival_uncertainty=ARRIVAL_UNCERTAINTY,
            samples=SAMPLES,
            max_age=MAX_AGE,
            lowest=LOWEST,
            drop=DROP,
            resolution=RESOLUTION,
            factors=LUA_FACTORS,
        )

    def block(self, seconds: float) -> None:
        """Give no slot and no permit for ``seconds``. A longer block that is in force remains."""
        self._run("block", seconds=min(seconds, MAX_BLOCK), max_block=LONGEST_BLOCK)

    def unblock(self) -> None:
        """End a block before its time. Slots and permits stay as they are."""
        self._run("unblock")

    def _reserve(self, patience: float) -> Reservation:
        taken, wait = self._run(
            "reserve",
            patience=patience,
            spacing=self._limit.spacing,
            clock_jump=CLOCK_JUMP,
            max_block=LONGEST_BLOCK,
            wait_without_state=self._wait_without_state,
        )
        return Reservation(float(wait), bool(taken))

    def _acquire(self) -> tuple[Admission, float]:
        started = monotonic()
        granted, answer = self._run(
            "acquire",
            permit_id=new_permit_id(),
            count=self._limit.count,
            window=self._limit.window,
            arrival_uncertainty=ARRIVAL_UNCERTAINTY,
            retry_interval=RETRY_INTERVAL,
            clock_jump=CLOCK_JUMP,
            max_block=LONGEST_BLOCK,
            wait_without_state=self._wait_without_state,
        )
        admission = Admission(0.0, _as_text(answer)) if granted else Admission(float(answer), None)
        return admission, monotonic() - started

    def _run(self, name: str, **arguments: float | str) -> Any:
        import redis

        named = [part for pair in arguments.items() for part in pair]
        try:
            return self._scripts[name](keys=self.keys, args=named)
        except redis.RedisError as error:
            raise ThrottleUnavailable(
                f"Redis holds the rate limit and does not answer: {type(error).__name__}"
            ) from error


@cache
def _script(name: str) -> str:
    folder = files(__package__) / "lua"
    return "\n".join((folder / f"{part}.lua").read_text(encoding="utf-8") for part in ("common", name))


def _as_text(answer: bytes | str) -> str:
    return answer.decode() if isinstance(answer, bytes) else answer

"""Admit requests for one API key within its rate limit, across all processes and hosts.

Without a shared state, each process would count only its requests, and Evermuse would refuse the surplus with 429.
The package must not use Django's database or settings, send requests to Evermuse, or sleep: it returns how long to
wait. Its interface is the protocol :class:`Throttle`, the pure :class:`RateLimitState` behind it, and the backend
:class:`RedisThrottle`.
"""

from .algorithm import (
    ARRIVAL_UNCERTAINTY,
    MAX_BLOCK,
    Admission,
    Limit,
    Permit,
    RateLimitState,
    Reservation,
)
from .latency import LatencySamples
from .redis_backend import RedisThrottle
from .throttle import (
    SLOW_BACKEND,
    Throttle,
    ThrottleUnavailable,
    acquire_again_if_slow,
    key_fingerprint,
    new_permit_id,
)

__all__ = [
    "ARRIVAL_UNCERTAINTY",
    "MAX_BLOCK",
    "SLOW_BACKEND",
    "Admission",
    "LatencySamples",
    "Limit",
    "Permit",
    "RateLimitState",
    "RedisThrottle",
    "Reservation",
    "Throttle",
    "ThrottleUnavailable",
    "acquire_again_if_slow",
    "key_fingerprint",
    "new_permit_id",
]

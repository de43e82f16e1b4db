"""Admit requests for one API key within its rate limit, across all processes and hosts.

The package must not import Django, send requests to Evermuse, or sleep: it answers "now" or "in that many seconds".
Its interface is the :class:`Throttle` protocol, the pure :class:`RateLimitState` behind it, and the Redis backend.
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

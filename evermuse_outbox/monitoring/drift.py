"""Measure how far the clocks of this process, the database and Redis are apart.

No decision depends on it: all times are the database's. But a wrong clock makes logs hard to compare, and it may be the
sign of a machine with other problems.
"""

from __future__ import annotations

import socket
import time
from typing import Any

from ..conf import get_settings
from ..database_clock import database_now, seconds_ahead
from ..delivery.context import open_redis
from ..foreign_text import get_logger, log_ids

logger = get_logger(__name__)

MAX_DRIFT = 3.0
"""Seconds between two clocks that need no attention. A round trip is shorter, and NTP keeps clocks far closer."""

REPORT_INTERVAL = 600.0
"""Seconds between two measurements of a worker, and so between two warnings."""

_reported_at: dict[str, float] = {}
"""Database alias → when this process last measured, on the monotonic clock."""


def measure_drift(using: str) -> dict[str, float | None]:
    """Return by how many seconds the clocks of this process and of Redis are ahead of the database's.

    A clock that is behind has a negative number. ``redis`` is None without ``REDIS_URL``, or if Redis does not answer.
    """
    return {"process": round(seconds_ahead(using), 3), "redis": _redis_ahead(using)}


def drifting_clocks(using: str) -> dict[str, float]:
    """Return the clocks that are more than ``MAX_DRIFT`` from the database's, by host or name; measure it rarely.

    Each of them is logged as a warning.
    """
    now = time.monotonic()
    if now - _reported_at.get(using, float("-inf")) < REPORT_INTERVAL:
        return {}
    _reported_at[using] = now
    drifting = {name: seconds for name, seconds in measure_drift(using).items() if is_drifting(seconds)}
    for name, seconds in drifting.items():
        drift = describe_drift(using, seconds or 0.0)
        logger.warning("the clock of this %s is %s", NAMES[name], drift, extra=log_ids(database=using))
    hosts = {"process": socket.gethostname(), "redis": "Redis"}
    return {hosts[name]: seconds or 0.0 for name, seconds in drifting.items()}


NAMES = {"process": "machine", "redis": "project's Redis"}
"""Key of :func:`measure_drift` → what has the clock."""


def is_drifting(seconds: float | None) -> bool:
    """Return whether a clock needs attention."""
    return seconds is not None and abs(seconds) > MAX_DRIFT


def describe_drift(using: str, seconds: float) -> str:
    """Return the difference in words."""
    direction = "ahead of" if seconds > 0 else "behind"
    return f"{abs(seconds):,.1f} s {direction} the clock of the database {using}; nothing is decided by it"


def _redis_ahead(using: str) -> float | None:
    redis: Any = open_redis(get_settings())
    if redis is None:
        return None
    try:
        started = time.monotonic()
        seconds, micros = redis.time()
        passed = time.monotonic() - started
    except Exception:  # the throttle reports a Redis that does not answer
        return None
    at = database_now(using).timestamp() - passed / 2
    ahead: float = round(seconds + micros / 1e6 - at, 3)
    return ahead

"""Compute pauses after failures and between polls. Pure: an argument provides the randomness."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import random

MAX_POLL_DELAY = 300.0
"""Seconds between two polls of a batch at the most, before the random variation."""

POLL_AGE_SHARE = 0.1
"""A batch is polled again after this share of its age, so that an old batch costs few requests."""


def full_jitter(failures: int, base: float, cap: float, rng: Callable[[], float] = random) -> float:
    """Return the seconds to wait after the ``failures``-th failure in a row, counted from 1.

    The result is uniform between 0 and a limit. The limit is ``base`` seconds, doubles with each failure and ends at
    ``cap`` seconds. So clients that failed together do not come back together.
    """
    limit = min(cap, base * 2.0 ** min(max(failures - 1, 0), 60))
    return limit * rng()


def equal_jitter(failures: int, base: float, cap: float, rng: Callable[[], float] = random) -> float:
    """Return the seconds to wait after the ``failures``-th failure in a row, at least half of the limit.

    The limit is that of :func:`full_jitter`. So a batch that failed is never the first one to be sent again.
    """
    limit = full_jitter(failures, base, cap, lambda: 1.0)
    return limit * (0.5 + 0.5 * rng())


def poll_delay(age: float, first: float, rng: Callable[[], float] = random) -> float:
    """Return the seconds until a batch of ``age`` seconds is polled again.

    It is a tenth of the age, but at least ``first`` seconds and at most five minutes. Then it varies by ±10 %, so that
    batches that were sealed together are not polled together forever.
    """
    return min(max(first, age * POLL_AGE_SHARE), MAX_POLL_DELAY) * (0.9 + 0.2 * rng())


def typical_completion_time(
    previous: float, complete_ages: Sequence[float], open_ages: Sequence[float], others_are_complete: bool
) -> float:
    """Estimate from one listing page how many seconds Evermuse needs for a batch.

    Args:
        previous: the estimate so far, 0 if there is none.
        complete_ages: ages in seconds of the polled batches that the page shows as complete.
        open_ages: ages in seconds of the polled batches that are still open.
        others_are_complete: whether the page shows complete batches that are no longer polled.

    Return:
        The age of the youngest complete batch if others are still open: that is close to the true time. If none is
        open, that age is only an upper limit, so the estimate may fall but not rise. If nothing on the page is
        complete, the time is at least the age of the oldest batch. In all other cases, ``previous``.
    """
    if complete_ages:
        return min(complete_ages) if open_ages else min(previous, *complete_ages)
    return previous if others_are_complete else max([previous, *open_ages])

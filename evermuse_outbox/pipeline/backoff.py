"""How long to wait after trouble, and how often to ask. Pure but for the dice, which are handed in."""

from __future__ import annotations

from collections.abc import Callable
from random import random


def full_jitter(failures: int, base: float, cap: float, dice: Callable[[], float] = random) -> float:
    """Seconds to wait after the ``failures``-th failure in a row (from 1).

    Anything between nothing and ``base`` doubled at each failure, at most ``cap``: clients that failed
    together do not come back together.
    """
    ceiling = min(cap, base * 2.0 ** min(max(failures - 1, 0), 60))
    return ceiling * dice()


def poll_after(age: float, first: float, dice: Callable[[], float] = random) -> float:
    """Seconds until a batch of that age (in seconds) is asked about again.

    A tenth of its age, at least ``first`` and at most five minutes, spread by a fifth so that batches
    sealed together are not asked about together for ever.
    """
    return min(max(first, age * 0.1), 300.0) * (0.9 + 0.2 * dice())

"""How long to wait after trouble, and how often to ask. Pure but for the dice, which are handed in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import random


def full_jitter(failures: int, base: float, cap: float, rng: Callable[[], float] = random) -> float:
    """Seconds to wait after the ``failures``-th failure in a row (from 1).

    Anything between nothing and ``base`` doubled at each failure, at most ``cap``: clients that failed
    together do not come back together.
    """
    ceiling = min(cap, base * 2.0 ** min(max(failures - 1, 0), 60))
    return ceiling * rng()


def poll_delay(age: float, first: float, rng: Callable[[], float] = random) -> float:
    """Seconds until a batch of that age (in seconds) is asked about again.

    A tenth of its age, at least ``first`` and at most five minutes, spread by a fifth so that batches
    sealed together are not asked about together for ever.
    """
    return min(max(first, age * 0.1), 300.0) * (0.9 + 0.2 * rng())


def typical_completion_time(
    usual: float, done: Sequence[float], under_way: Sequence[float], others_are_done: bool
) -> float:
    """Seconds that Evermuse takes for a batch, from what one page has shown; ``usual`` is what was known before, 0
    for nothing.

    ``done`` and ``under_way`` are the ages of the followed batches that it told of. The youngest that is done
    says at most how long it takes; where others are still under way, how long quite exactly. Where nothing on the page
    is done (``others_are_done`` tells of those that are not followed any more), it takes longer than the oldest's age.
    """
    if done:
        return min(done) if under_way else min(usual, *done)
    return usual if others_are_done else max([usual, *under_way])

"""Decide which groups are sealed next, and in which order. Pure: no database, no clock, no randomness.

The limit of the API is on requests, so throughput is highest if every request is full. A group that never fills a
request must still be sent within a bound, ``max_wait``. From that follows the order:

1. **due**: groups that do not fill a request, but must be sealed now so that none of them exceeds the bound. The
   earliest deadline goes first. While full requests wait, due groups get at most ``DUE_SHARE`` of the slots.
2. **full**: groups that fill a request, in turn.
3. **spare**: the longest waiting of all others. So nothing waits while the rate limit has room.

A lone record is ready at once. A group *lingers* only for a while after a request of it that was not full. So a stream
of records uses few requests, and its first record does not wait.

The bound holds if at most ``max_wait × DUE_SHARE × rate`` groups do not fill a request. With more of them, it becomes
(number of groups) / (``DUE_SHARE`` × rate) seconds: each group is sent once in that time.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from itertools import chain, islice
from typing import NamedTuple

DUE_SHARE = 0.5
"""Maximum share of the slots for groups that do not fill a request, while other groups fill one."""

COUNTED_GROUPS = 64
"""Groups that a scan counts. Up to half of them are likely to be full, and a quarter wait longest. The rest is
a rotating sample, from which the arrival rate of every group is learned.

Without learned rates, the simulated throughput with a hot group or with many uneven groups falls to 19–60 % of the best
(``python -m benchmarks scheduler``)."""

LIKELY_FULL = 1.0
"""A group that is expected to have so many full requests or more is counted first. The count then gives the truth."""

Group = tuple[str, str]
"""``_type`` and ``_product_id``."""


class Reason(Enum):
    """Why a group is in the run queue. The values are stored."""

    DUE = "due"
    FULL = "full"
    SPARE = "spare"


class WaitingGroup(NamedTuple):
    """What is known about a group with pending records."""

    group: Group
    age: float
    """Age of its oldest pending record in seconds. It is negative if the clock of the enqueueing host is ahead. Then
    its absolute value counts, so that the record does not wait until that time."""
    full_requests: int = 0
    """How many full requests are known to be waiting, at most the slots of a run queue; 0 if it was not counted."""
    last_full_at: int = 0
    """The seal count at which it last filled a request; 0 if that is long ago or never was."""
    expected_requests: float = 0.0
    """How many requests its records fill if they arrived at the known rate; 0 if no rate is known."""
    sealed_ago: float = math.inf
    """Seconds since a batch of it was sealed that did not fill a request; infinite if that is long ago or never was."""


class Terms(NamedTuple):
    """What the order depends on besides the groups."""

    rate: float
    """Requests per second."""
    linger: float
    """Seconds that a group waits for more records after a request that was not full, unless it fills one."""
    max_wait: float
    """The bound in seconds."""
    max_entries: int
    """Maximum length of the run queue."""
    lifetime: float = 1.0
    """Seconds until the run queue is replaced."""

    def is_ready(self, waiting: WaitingGroup) -> bool:
        """Return whether the group may be sealed."""
        if waiting.full_requests:
            return True
        return seconds_to_linger(self.linger, age=waiting.age, sealed_ago=waiting.sealed_ago) <= 0


class Entry(NamedTuple):
    """One slot of the run queue."""

    group: Group
    reason: Reason


def seconds_to_linger(linger: float, *, age: float, sealed_ago: float) -> float:
    """Return how many seconds a group that fills no request still waits for more records; 0 or less if it need not.

    It waits until ``linger`` seconds have passed since its last request that was not full, or since its oldest record
    was enqueued if that is earlier. A time in the future comes from a wrong clock, so it delays nothing.

    Args:
        linger: the setting ``LINGER`` in seconds.
        age: the age of the oldest pending record of the group in seconds.
        sealed_ago: seconds since a batch of the group was sealed that did not fill a request; infinite without one.
    """
    if age < 0 or sealed_ago < 0:
        return 0.0
    return linger - max(age, sealed_ago)


def order_groups(groups: Iterable[WaitingGroup], terms: Terms, *, last_was_due: bool = False) -> list[Entry]:
    """Return the groups to seal next, in order, at most ``terms.max_entries``.

    A group is in the list as often as it fills requests. Due and full slots alternate, so ``DUE_SHARE`` holds wherever
    the list is cut off. ``last_was_due`` says that the slot before the list was a due one; then a full one comes first.
    """
    ready = sorted(filter(terms.is_ready, groups), key=_by_age)
    small = [waiting for waiting in ready if not waiting.full_requests]
    due_count = count_due_slots([abs(waiting.age) for waiting in small], terms)
    due = (Entry(waiting.group, Reason.DUE) for waiting in small[:due_count])
    full = (Entry(group, Reason.FULL) for group in _full_in_turn(ready))
    spare = (Entry(waiting.group, Reason.SPARE) for waiting in small[due_count:])
    first, second = (full, due) if last_was_due else (due, full)
    return list(islice(chain(_alternate(first, second), spare), terms.max_entries))


def count_due_slots(ages: Sequence[float], terms: Terms) -> int:
    """Return how many of the longest waiting groups must be sealed in this run queue to keep the bound.

    ``ages`` are seconds in descending order. Later run queues serve at least ``DUE_SHARE`` × rate small groups per
    second. Groups that are too many for that before their deadline must be in this run queue.
    """
    certain_rate, needed = DUE_SHARE * terms.rate, 0.0
    latest = terms.max_wait - _seconds_to_next_queue(terms)
    for position, age in enumerate(ages, 1):
        needed = max(needed, position - certain_rate * max(0.0, latest - age))
    return math.ceil(needed)


def groups_to_count(
    groups: Sequence[WaitingGroup], *, start: int, limit: int = COUNTED_GROUPS
) -> list[Group]:
    """Return the groups for which it is useful to know whether they fill a request, at most ``limit``.

    ``start`` is the position in ``groups`` where the rotating sample begins. With ``limit`` groups or fewer, return
    all of them.
    """
    likely = sorted(
        (waiting for waiting in groups if waiting.expected_requests >= LIKELY_FULL), key=_by_likelihood
    )
    oldest = heapq.nsmallest(limit, groups, key=_by_age)
    sample = [groups[(start + step) % len(groups)] for step in range(min(limit, len(groups)))]
    wanted = [*likely[: limit // 2], *oldest[: limit // 4], *sample[: limit // 4], *sample, *oldest]
    return list(islice(dict.fromkeys(waiting.group for waiting in wanted), limit))


def _by_age(waiting: WaitingGroup) -> float:
    return -abs(waiting.age)


def _by_last_full(waiting: WaitingGroup) -> tuple[int, float]:
    return (waiting.last_full_at, -abs(waiting.age))


def _by_likelihood(waiting: WaitingGroup) -> tuple[int, float]:
    return (waiting.last_full_at, -waiting.expected_requests)


def _seconds_to_next_queue(terms: Terms) -> float:
    """Return the seconds until the next run queue takes effect: this one's lifetime and the slot under way."""
    return terms.lifetime + 1 / terms.rate


def _full_in_turn(ready: Iterable[WaitingGroup]) -> Iterator[Group]:
    """Yield the full groups in rounds, the one that was full longest ago first, each once in a round."""
    full = sorted((waiting for waiting in ready if waiting.full_requests), key=_by_last_full)
    rounds = max((waiting.full_requests for waiting in full), default=0)
    for completed in range(rounds):
        yield from (waiting.group for waiting in full if waiting.full_requests > completed)


def _alternate(first: Iterator[Entry], second: Iterator[Entry]) -> Iterator[Entry]:
    """Yield one of each in turn, then the rest of the longer one."""
    while (entry := next(first, None)) is not None:
        yield entry
        first, second = second, first
    yield from second

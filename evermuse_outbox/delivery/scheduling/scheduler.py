"""Which groups are sealed next, and in which order. Pure: no database, no clock, no chance.

The limit is on requests, so the flow is greatest where every request is full. A group that never fills one must go
all the same, so nothing else may keep it beyond a bound, ``max_wait``. The order follows from that:

1. **due**: groups that fill no request, but must go now lest some group passes the bound, the earliest deadline
   first. While there are full requests to send, they get at most :data:`SHARE` of the slots.
2. **full**: groups that fill a request, in turn.
3. **spare**: slots that nobody above needs go to the longest waiting, so that nothing waits while the quota has room.

The bound can be held where the groups that fill no request are at most ``max_wait × SHARE × rate``. Where they are
more, it stretches to (number of groups) / (:data:`SHARE` × rate): then each of them is served once in that time.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from itertools import islice
from typing import NamedTuple

SHARE = 0.5
"""Of the slots, what groups that fill no request get at most while others do."""

PROBES = 64
"""Of how many groups a census finds out whether they fill a request. Half of them, at most, are likely to; a quarter
wait longest; the others are a sample in turn, from which the flow of each group is learned."""

LIKELY = 1.0
"""How many requests are expected where it is worth to look whether there is one. What is found then corrects the
expectation."""

Group = tuple[str, str]
"""``_type`` and ``_product_id``."""


class Reason(Enum):
    """Why a group is on the agenda; the values are stored."""

    DUE = "due"
    FULL = "full"
    SPARE = "spare"


class Seen(NamedTuple):
    """What is known of a group with pending records."""

    group: Group
    age: float
    """Of its oldest pending record, in seconds. Below zero where a host's clock is ahead: that says nothing of how
    long it waits, and must not put it off, so it is the distance that counts."""
    requests: int = 0
    """How many full requests wait, as far as was looked; 0 also where nobody has looked."""
    served: int = 0
    """The turn in which it last filled a request; 0 where that is long ago or never was."""
    expected: float = 0.0
    """How many requests its records fill by what was its flow until now; 0 where that is not known."""


class Terms(NamedTuple):
    """What the order depends on beside the groups."""

    rate: float
    """Requests a second."""
    linger: float
    """Seconds that a group waits for company unless it fills a request."""
    max_wait: float
    """Seconds: the bound."""
    slots: int
    """The most that the agenda may hold."""
    lasts: float = 1.0
    """Seconds after which there will be another agenda."""

    def is_ready(self, seen: Seen) -> bool:
        """Whether the group may be sealed. A record from the future needs no company."""
        return seen.requests > 0 or not 0 <= seen.age < self.linger


class Entry(NamedTuple):
    """A slot on the agenda."""

    group: Group
    reason: Reason


def agenda(seen: Iterable[Seen], terms: Terms, *, due_was_last: bool = False) -> list[Entry]:
    """The groups to seal next, in order, a group as often as it fills requests.

    Any beginning of the list keeps to the share, so that it may be given up for a newer one at any time.
    ``due_was_last`` says that the slot before was a due one, which a full request follows.
    """
    ready = sorted(filter(terms.is_ready, seen), key=_longest_waiting)
    small = [one for one in ready if not one.requests]
    needed = slots_needed([abs(one.age) for one in small], terms)
    due = (Entry(one.group, Reason.DUE) for one in islice(small, needed))
    full = (Entry(group, Reason.FULL) for group in _in_turn(ready))
    spare = (Entry(one.group, Reason.SPARE) for one in islice(small, needed, None))
    first, second = (full, due) if due_was_last else (due, full)
    return list(islice(_chained(_alternating(first, second), spare), terms.slots))


def slots_needed(waits: Sequence[float], terms: Terms) -> int:
    """How many of the longest waiting must be served while the agenda lasts, if all are to be within the bound.

    ``waits`` in descending order. From then on :data:`SHARE` of the slots is certain for them; whoever could not
    be served in time with these alone, must be served before.
    """
    certain, needed = SHARE * terms.rate, 0.0
    latest = terms.max_wait - _horizon(terms)
    for number, waited in enumerate(waits, 1):
        if (must := number - certain * max(0.0, latest - waited)) > needed:
            needed = must
    return math.ceil(needed)


def to_probe(seen: Sequence[Seen], *, start: int, most: int = PROBES) -> list[Group]:
    """The groups of which it is worth to know whether they fill a request, ``most`` of them.

    ``start`` is where in ``seen`` the sample in turn begins. Where there are no more than ``most`` groups, it is all
    of them.
    """
    likely = sorted((one for one in seen if one.expected >= LIKELY), key=_most_likely)
    oldest = heapq.nsmallest(most, seen, key=_longest_waiting)
    turned = [seen[(start + step) % len(seen)] for step in range(min(most, len(seen)))]
    wanted = [*likely[: most // 2], *oldest[: most // 4], *turned[: most // 4], *turned, *oldest]
    return list(islice(dict.fromkeys(one.group for one in wanted), most))


def requests_worth_knowing(full: int, terms: Terms) -> int:
    """How many requests deep to look into each of so many groups that fill one: together an agenda and no more."""
    return math.ceil(terms.slots / max(1, full))


def _longest_waiting(seen: Seen) -> float:
    return -abs(seen.age)


def _served_longest_ago(seen: Seen) -> tuple[int, float]:
    return (seen.served, -abs(seen.age))


def _most_likely(seen: Seen) -> tuple[int, float]:
    return (seen.served, -seen.expected)


def _horizon(terms: Terms) -> float:
    """Seconds until the next agenda takes effect: this one's life, and the slot that is under way."""
    return terms.lasts + 1 / terms.rate


def _in_turn(ready: Iterable[Seen]) -> Iterator[Group]:
    """The groups that fill requests, who was served longest ago first, each once a round."""
    left = sorted((one for one in ready if one.requests), key=_served_longest_ago)
    deepest = max((one.requests for one in left), default=0)
    for taken in range(deepest):
        yield from (one.group for one in left if one.requests > taken)


def _alternating(first: Iterator[Entry], second: Iterator[Entry]) -> Iterator[Entry]:
    """One of each in turn, and the rest of the one that is longer."""
    while (entry := next(first, None)) is not None:
        yield entry
        first, second = second, first
    yield from second


def _chained(*parts: Iterator[Entry]) -> Iterator[Entry]:
    for part in parts:
        yield from part

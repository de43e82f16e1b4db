"""Portions: how many records of a request come from which share, and from which end of it. Pure.

There is no state between two requests. Numbers of records are whole, so a request cannot give a share a third of a
record. The *phase* of a request decides which shares get one more. It is a multiple of an irrational number, modulo 1:
so over many requests each share gets what is due to it, and no share waits long for its next record.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

T = TypeVar("T")

SHARE_STEP, END_STEP = (math.sqrt(5) - 1) / 2, math.sqrt(2) - 1
"""The steps of the two phases. With a common step, a share that gets few records would get all from the same end."""

EPSILON = 1e-6
"""Records by which a sum of shares may be wrong, because floating point numbers are rounded."""


class Phase(NamedTuple):
    """How a request rounds: between shares, and between the two ends of a share. Both are from 0 to 1, without 1."""

    shares: float
    ends: float


class Share(NamedTuple):
    """A part of the pending records of a group: its weight, and how many records it has at most."""

    weight: float
    limit: float = math.inf


class Ends(NamedTuple):
    """The number of records from each end of a share."""

    oldest: int
    newest: int


def phase_of(number: int) -> Phase:
    """Return the phase of the request with this number."""
    return Phase(number * SHARE_STEP % 1.0, number * END_STEP % 1.0)


def divide(count: int, shares: Sequence[Share], phase: float = 0.0) -> list[int]:
    """Divide ``count`` records among the shares in proportion to their weights; return the number of each.

    What a share does not need goes to the others. The sum is smaller than ``count`` only if all shares have fewer.
    """
    numbers, total, rounded = [], 0.0, 0
    phase = min(phase, 1 - 2 * EPSILON)
    for exact, share in zip(_exact_numbers(count, shares), shares, strict=True):
        total += exact
        until = math.floor(total + phase + EPSILON)
        numbers.append(min(until - rounded, math.ceil(min(share.limit, count))))
        rounded = until
    return numbers


def split(count: int, backlog_share: float, phase: float = 0.0) -> Ends:
    """Divide ``count`` records of a share between its oldest end, which gets ``backlog_share``, and its newest."""
    oldest = min(count, math.floor(count * backlog_share + phase + EPSILON))
    return Ends(oldest, count - oldest)


def interleave(portions: Sequence[Sequence[T]]) -> list[T]:
    """Return the records of all portions in an order of which each beginning has about the same proportions.

    If large records fill a request early, it holds the beginning only.
    """
    ranked = [
        ((position + 0.5) / len(portion), number, record)
        for number, portion in enumerate(portions)
        for position, record in enumerate(portion)
    ]
    return [record for _, _, record in sorted(ranked, key=lambda rank: rank[:2])]


def _exact_numbers(count: int, shares: Sequence[Share]) -> list[float]:
    """Return the number of each share before rounding: its weight × one level for all, or its limit if that is less."""
    order = sorted(range(len(shares)), key=lambda number: shares[number].limit / shares[number].weight)
    exact, left = [0.0] * len(shares), float(count)
    weight_left = math.fsum(share.weight for share in shares)
    for number in order:  # those with the least records for their weight first
        share = shares[number]
        exact[number] = min(share.limit, left * share.weight / weight_left) if weight_left > 0 else 0.0
        left -= exact[number]
        weight_left -= share.weight
    return exact

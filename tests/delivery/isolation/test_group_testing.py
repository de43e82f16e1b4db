"""Where a refusal names nobody: every bad record is found, no good one is blamed, within a stated number of tries."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evermuse_outbox.delivery.isolation.group_testing import Search


def play(bad, records, samples=()):
    """Tries ``records`` until none is left. Returns the bad ones that were found, and the number of requests.

    ``samples`` are the numbers of the requests in which the last record is tried out of turn.
    """
    left, search, found, requests = list(range(records)), Search(), set(), 0
    while left:
        if requests in samples and len(left) > 1:
            search = search.with_sample()
        size = search.next_size(len(left))
        assert 1 <= size <= len(left)
        tried, rest = (left[-1:], left[:-1]) if search.sample else (left[:size], left[size:])
        requests += 1
        if not bad & set(tried):
            search, left = search.after_good(size, len(rest)), rest
            continue
        search = search.after_bad(size, len(rest))
        if size == 1:
            found |= set(tried)
            left = rest
    return found, requests


def bits(records, bad):
    return math.log2(math.comb(records, bad))


def bound(records, bad):
    """What the docs promise."""
    return 1.1 * bits(records, bad) + bad + 10


@pytest.mark.parametrize("bad", [0, 1, 2, 5, 20, 50, 100, 200, 500, 800, 999, 1_000])
def test_a_thousand_records_need_no_more_requests_than_promised(bad):
    rng = random.Random(bad)
    scattered = [set(rng.sample(range(1_000), bad)) for _ in range(15)]
    together = [set(range(start, start + bad)) for start in {0, (1_000 - bad) // 2, 1_000 - bad}]
    for spoiled in scattered + together:
        found, requests = play(spoiled, 1_000)
        assert found == spoiled
        assert requests <= bound(1_000, bad)


@given(
    st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1)))),
    st.sets(st.integers(0, 40)),
)
def test_exactly_the_bad_ones_are_found_also_with_samples_between(case, samples):
    records, bad = case
    found, requests = play(bad, records, samples)
    assert found == bad
    assert requests <= bound(records, len(bad)) + 2 * len(samples)


def test_good_records_alone_need_one_request():
    assert play(set(), 1_000) == (set(), 1)


def test_who_is_named_leaves_the_others_to_be_tried_together():
    search = Search(suspects=8).after_bad(4, 4).after_names(2)
    assert search.next_size(6) == 6

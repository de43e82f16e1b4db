"""Group testing finds every bad record and no good one, in no more requests than documented."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evermuse_outbox.delivery.isolation.group_testing import IsolationTest


def isolate(bad, records, samples=()):
    """Test ``records`` until none is left. Return the isolated records and the number of requests.

    ``samples`` are the numbers of the requests in which the last record is tried out of order.
    """
    remaining, test, isolated, requests = list(range(records)), IsolationTest(), set(), 0
    while remaining:
        if requests in samples and len(remaining) > 1:
            test = test.with_sample()
        size = test.next_size(len(remaining))
        assert 1 <= size <= len(remaining)
        tested, rest = (
            (remaining[-1:], remaining[:-1]) if test.is_sample else (remaining[:size], remaining[size:])
        )
        requests += 1
        if not bad & set(tested):
            test, remaining = test.after_good(size, len(rest)), rest
            continue
        test = test.after_bad(size, len(rest))
        if size == 1:
            isolated |= set(tested)
            remaining = rest
    return isolated, requests


def bits(records, bad):
    """Return the bits that say which records are bad. A request gives one bit at most."""
    return math.log2(math.comb(records, bad))


def bound(records, bad):
    """Return the documented maximum of requests."""
    return 1.1 * bits(records, bad) + bad + 10


@pytest.mark.parametrize("bad", [0, 1, 2, 5, 20, 50, 100, 200, 500, 800, 999, 1_000])
def test_a_thousand_records_need_no_more_requests_than_documented(bad):
    rng = random.Random(bad)
    scattered = [set(rng.sample(range(1_000), bad)) for _ in range(15)]
    together = [set(range(start, start + bad)) for start in {0, (1_000 - bad) // 2, 1_000 - bad}]
    for positions in scattered + together:
        isolated, requests = isolate(positions, 1_000)
        assert isolated == positions
        assert requests <= bound(1_000, bad)


@given(
    st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1)))),
    st.sets(st.integers(0, 40)),
)
def test_exactly_the_bad_records_are_isolated_even_with_samples(case, samples):
    records, bad = case
    isolated, requests = isolate(bad, records, samples)
    assert isolated == bad
    assert requests <= bound(records, len(bad)) + 2 * len(samples)


def test_good_records_alone_need_one_request():
    assert isolate(set(), 1_000) == (set(), 1)


def test_the_other_records_are_tried_together_after_an_answer_named_some():
    test = IsolationTest(suspects=8).after_bad(4, 4).after_named(2)
    assert test.next_size(6) == 6


def test_the_state_survives_storage_and_unknown_keys_are_ignored():
    test = IsolationTest(suspects=8).after_bad(4, 4).with_sample()
    assert IsolationTest.from_json(test.to_json()) == test
    assert IsolationTest.from_json({"stride": 3, "bad": 2}) == IsolationTest(bad=2)
    assert IsolationTest.from_json(None) == IsolationTest()


def test_after_a_good_sample_there_are_no_more_suspects_than_records():
    test = IsolationTest(suspects=4).with_sample().after_good(1, 3)
    assert (test.suspects, test.next_size(3)) == (3, 1)

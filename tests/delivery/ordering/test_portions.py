"""The numbers of records of each share and each end: full requests, limits, and what is due over many requests."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from evermuse_outbox.delivery.ordering.portions import Share, divide, interleave, phase_of, split

SHARES = st.lists(
    st.builds(
        Share,
        st.sampled_from([0.01, 0.1, 1.0, 1.0, 3.0, 7.5, 1_000.0]),
        st.one_of(st.just(math.inf), st.integers(0, 50)),
    ),
    min_size=1,
    max_size=300,
)
PHASES = st.floats(0, 0.999_999, allow_nan=False)


@given(count=st.integers(1, 1_000), shares=SHARES, phase=PHASES)
def test_a_request_is_full_and_no_share_gets_more_than_it_has(count, shares, phase):
    numbers = divide(count, shares, phase)
    assert all(0 <= number <= share.limit for number, share in zip(numbers, shares, strict=True))
    assert sum(numbers) == min(count, sum(share.limit for share in shares))


@given(
    count=st.integers(1, 1_000),
    weights=st.lists(st.floats(0.01, 1_000), min_size=1, max_size=50),
    phase=PHASES,
)
def test_a_number_is_what_is_due_rounded_up_or_down(count, weights, phase):
    numbers = divide(count, [Share(weight) for weight in weights], phase)
    for number, weight in zip(numbers, weights, strict=True):
        assert abs(number - count * weight / sum(weights)) < 1.001


def test_what_a_share_does_not_need_goes_to_the_others_by_weight():
    assert divide(100, [Share(1, 10), Share(1), Share(2)]) == [10, 30, 60]


def test_over_many_requests_each_share_gets_what_is_due():
    shares = [Share(0.3), Share(1), Share(5.5), *[Share(1)] * 40]  # 10 records for 43 shares
    totals = [0] * len(shares)
    for number in range(1_000):
        for share, count in enumerate(divide(10, shares, phase_of(number).shares)):
            totals[share] += count
    weights = sum(share.weight for share in shares)
    for total, share in zip(totals, shares, strict=True):
        assert abs(total - 10_000 * share.weight / weights) <= 3


def test_no_share_waits_long_for_its_next_record():
    shares, last, longest = [Share(1)] * 300, [0] * 300, 0  # each gets a record in every third request
    for number in range(1, 2_000):
        for share, count in enumerate(divide(100, shares, phase_of(number).shares)):
            if count:
                longest, last[share] = max(longest, number - last[share]), number
    assert longest <= 8


@given(count=st.integers(0, 1_000), backlog_share=st.floats(0.01, 0.99), phase=PHASES)
def test_both_ends_have_all_records_together(count, backlog_share, phase):
    oldest, newest = split(count, backlog_share, phase)
    assert oldest + newest == count
    assert abs(oldest - count * backlog_share) < 1.001


def test_a_share_with_one_record_in_a_few_requests_gets_it_from_both_ends():
    shares, ends = [Share(1)] * 300, [0, 0]
    for number in range(3_000):
        phase = phase_of(number)
        oldest, newest = split(divide(100, shares, phase.shares)[7], 0.2, phase.ends)
        ends = [ends[0] + oldest, ends[1] + newest]
    assert abs(sum(ends) - 1_000) <= 3
    assert 0.15 < ends[0] / sum(ends) < 0.25


def test_each_beginning_of_the_order_has_the_same_proportions():
    order = interleave(["a" * 80, "b" * 20])
    assert len(order) == 100
    for end in range(5, 101):
        assert abs(order[:end].count("b") - end / 5) <= 1

"""Waiting times: bounds, growth, and no overflow however long the trouble lasts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evermuse_outbox.delivery.context import full_jitter, poll_delay, typical_completion_time


@given(st.integers(0, 10**9), st.floats(0, 1))
def test_full_jitter_is_between_nothing_and_the_ceiling(failures, rng):
    assert 0 <= full_jitter(failures, 1.0, 300.0, lambda: rng) <= 300


def test_full_jitter_doubles_up_to_its_cap():
    assert [full_jitter(n, 1.0, 10.0, lambda: 1.0) for n in (1, 2, 3, 4, 5, 6)] == [1, 2, 4, 8, 10, 10]


def test_polls_grow_rarer_with_age():
    ages = [0, 5, 60, 600, 6_000, 60_000]
    waits = [poll_delay(age, 1.0, lambda: 0.5) for age in ages]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (1, 300)


@pytest.mark.parametrize(
    ("usual", "done", "under_way", "others_are_done", "learnt"),
    [
        (0, [5, 9], [], False, 0),
        (60, [5, 9], [], True, 5),
        (60, [62, 70], [], True, 60),
        (2, [62, 70], [50, 58], True, 62),
        (60, [5], [600], True, 5),
        (2, [], [1, 40], False, 40),
        (60, [], [1, 40], False, 60),
        (2, [], [600], True, 2),
        (2, [], [], False, 2),
    ],
    ids=[
        "nobody knows when those were done",
        "sooner than was known",
        "at most that long",
        "later than was known",
        "one is stuck",
        "none is done yet",
        "none is done yet, as expected",
        "only the one that is stuck is followed",
        "nothing is shown",
    ],
)
def test_how_long_evermuse_usually_takes_is_learnt_from_a_page(
    usual, done, under_way, others_are_done, learnt
):
    assert typical_completion_time(usual, done, under_way, others_are_done) == learnt

"""Waiting times: their bounds and growth, without an overflow after any number of failures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evermuse_outbox.delivery.context import full_jitter, poll_delay, typical_completion_time


@given(st.integers(0, 10**9), st.floats(0, 1))
def test_full_jitter_is_between_zero_and_its_cap(failures, random):
    assert 0 <= full_jitter(failures, 1.0, 300.0, lambda: random) <= 300


def test_full_jitter_doubles_up_to_its_cap():
    assert [full_jitter(n, 1.0, 10.0, lambda: 1.0) for n in (1, 2, 3, 4, 5, 6)] == [1, 2, 4, 8, 10, 10]


def test_the_delay_between_polls_grows_with_the_age_of_a_batch():
    ages = [0, 5, 60, 600, 6_000, 60_000]
    waits = [poll_delay(age, 1.0, lambda: 0.5) for age in ages]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (1, 300)


@pytest.mark.parametrize(
    ("previous", "complete_ages", "open_ages", "others_are_complete", "expected"),
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
        "others were complete earlier",
        "shorter than known",
        "as long as known at most",
        "longer than known",
        "a batch is stuck",
        "no batch is complete yet",
        "no batch is complete yet, as expected",
        "only a stuck batch is polled",
        "the page is empty",
    ],
)
def test_the_typical_completion_time_is_learned_from_a_page(
    previous, complete_ages, open_ages, others_are_complete, expected
):
    estimate = typical_completion_time(previous, complete_ages, open_ages, others_are_complete)
    assert estimate == expected

"""The arithmetic of the rate limit: no sliding second exceeds the limit, and little capacity is lost."""

from __future__ import annotations

import bisect
import heapq
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evermuse_outbox.ratelimit import ARRIVAL_UNCERTAINTY, MAX_BLOCK, Limit, RateLimitState
from evermuse_outbox.ratelimit.algorithm import CLOCK_JUMP, MARGIN

TEN = Limit.from_rate(10)


def simulate(requests, limit=TEN):
    """Send each request from a sender of its own; return the sorted times of arrival.

    A request is (start, seconds until it arrives, seconds from its arrival to its answer).
    """
    state, arrivals, events = RateLimitState(), [], []
    for number, (start, travel, answer) in enumerate(requests):
        heapq.heappush(events, (start, number, "reserve", travel, answer))
    while events:
        now, number, step, travel, answer = heapq.heappop(events)
        permit_id = str(number)
        if step == "reserve":
            reservation, state = state.reserve(now, limit, patience=math.inf)
            heapq.heappush(events, (now + reservation.wait, number, "acquire", travel, answer))
        elif step == "release":
            state = state.release(now, permit_id, is_comparable=True)
        else:
            admission, state = state.acquire(now, limit, permit_id)
            if admission.permit is None:
                heapq.heappush(events, (now + admission.wait, number, "acquire", travel, answer))
            else:
                arrivals.append(now + travel)
                heapq.heappush(events, (now + travel + answer, number, "release", travel, answer))
    return sorted(arrivals)


def busiest_second(arrivals):
    """Return the maximum number of arrivals in any sliding second."""
    return max((bisect.bisect_left(arrivals, at + 1.0) - i for i, at in enumerate(arrivals)), default=0)


UNSTEADY = st.tuples(st.floats(1e9, 1e9 + 8), st.floats(0, ARRIVAL_UNCERTAINTY), st.floats(0, 0))


@settings(max_examples=200, deadline=None)
@given(st.lists(UNSTEADY, max_size=80))
def test_no_sliding_second_holds_more_than_ten_with_any_travel_times(requests):
    # The answer follows at once, so the latency is the travel time.
    assert busiest_second(simulate(requests)) <= 10


@pytest.mark.parametrize("travel", [0.0, 0.06, 0.12, 0.25])
@pytest.mark.parametrize("answer", [0.005, 0.3, 1.0])
def test_the_limit_holds_under_a_backlog_with_jitter_and_slow_answers(travel, answer):
    rng = random.Random(7)
    requests = [(1e9, rng.uniform(0, travel), answer) for _ in range(400)]
    assert busiest_second(simulate(requests)) <= 10


@pytest.mark.parametrize("travel", [0.06, 0.12, 0.2])
@pytest.mark.parametrize("slow", [0.3, 1.0])
def test_the_limit_holds_when_answers_become_faster(travel, slow):
    for seed in range(4):
        rng = random.Random(seed)
        for_good = [slow] * 120 + [0.005] * 180
        now_and_then = [0.005 if n % 40 == 39 else slow for n in range(300)]
        for answers in (for_good, now_and_then):
            requests = [(1e9 + n / 1000, rng.uniform(0, travel), answer) for n, answer in enumerate(answers)]
            assert busiest_second(simulate(requests)) <= 10


@pytest.mark.parametrize("answer", [0.005, 0.3, 1.0])
def test_a_steady_network_allows_95_percent_of_the_limit_however_slow_the_answers(answer):
    rng = random.Random(7)
    arrivals = simulate([(1e9, 0.001, answer * rng.uniform(1, 1.02)) for _ in range(400)])
    assert 399 / (arrivals[-1] - arrivals[0]) >= 9.5


def test_an_idle_key_has_a_slot_at_once():
    assert RateLimitState(next_slot_at=5).reserve(100, TEN, 0)[0] == (0, True)


def test_a_slot_beyond_the_patience_is_not_reserved():
    state = RateLimitState(next_slot_at=102)
    reservation, after = state.reserve(100, TEN, patience=1)
    assert (reservation.taken, reservation.wait, after) == (False, 2, state)


def test_a_block_delays_slots_and_permits():
    state = RateLimitState(next_slot_at=100.1).block(100, 30)
    assert state.reserve(100, TEN, 60)[0] == (30, True)
    assert state.acquire(100, TEN, "x")[0] == (30, None)
    assert state.block(100, 5) == state


def test_a_permit_that_is_never_released_expires():
    state = RateLimitState()
    for number in range(10):
        admission, state = state.acquire(100, TEN, str(number))
        assert admission.permit
    expires_at = 100 + ARRIVAL_UNCERTAINTY + TEN.window
    assert state.acquire(expires_at - 0.01, TEN, "early")[0].permit is None
    assert state.acquire(expires_at + 0.01, TEN, "late")[0].permit


@pytest.mark.parametrize(
    ("rate", "count", "window"), [(10, 10, 1.0), (2.5, 2, 0.8), (0.5, 1, 2.0), (1e5, 100_000, 1)]
)
def test_a_rate_becomes_a_count_in_a_window(rate, count, window):
    limit = Limit.from_rate(rate)
    assert (limit.count, limit.window - MARGIN) == (count, pytest.approx(window))


def test_a_slot_from_before_the_clock_was_set_back_is_ignored():
    assert RateLimitState(next_slot_at=1_000_000 + CLOCK_JUMP).wait(1_000) == 0


def test_a_block_lasts_one_hour_at_most():
    assert RateLimitState().block(0, 1e9).blocked_until == MAX_BLOCK == 3_600


def test_a_longer_block_is_from_another_clock_and_is_ignored():
    assert RateLimitState(blocked_until=86_400.0).wait(0) == 0
    assert RateLimitState(blocked_until=86_400.0).acquire(0, TEN, "a")[0].permit == "a"
    assert RateLimitState(blocked_until=86_400.0).block(0, 30).blocked_until == 30


def test_an_answer_ends_the_arrival_uncertainty_early():
    state = RateLimitState()
    for number in range(10):
        state = state.acquire(100, TEN, str(number))[1]
    answered = state.release(100.01, "0", is_comparable=True)
    expires_at = 100.01 + TEN.window
    assert state.acquire(expires_at, TEN, "x")[0].permit is None
    assert answered.acquire(expires_at, TEN, "x")[0].permit

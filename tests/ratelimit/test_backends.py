"""One table of cases for the algorithm and its backends: the same calls at the same times give the same answers.

The time of each call is fixed: the scripts take it as their argument ``now``, and the database query is replaced.
"""

from __future__ import annotations

import itertools
import random
import uuid

import pytest
from django.db.models import FloatField, Value

from evermuse_outbox.ratelimit import (
    ARRIVAL_UNCERTAINTY,
    MAX_BLOCK,
    Limit,
    RateLimitState,
    RedisThrottle,
)
from evermuse_outbox.ratelimit.algorithm import CLOCK_JUMP, RETRY_INTERVAL
from evermuse_outbox.ratelimit.latency import FACTORS, FEWEST, LOWEST, MAX_AGE, RESOLUTION, SAMPLES
from tests.ratelimit.conftest import TEN, set_initial_state

START = 1_700_000_000.0  # any time since the epoch
TOLERANCE = 1e-4  # seconds: Redis stores microseconds, and the largest factor is 9
ONE = Limit(1, 1.0)
THREE = Limit(3, 0.9)


class AlgorithmThrottle:
    """The algorithm behind the interface of a throttle; ``now`` is the time of the next call."""

    def __init__(self, limit):
        self.now, self._limit, self._state, self._ids = 0.0, limit, RateLimitState(), itertools.count()

    def wait(self):
        return self._state.wait(self.now)

    def reserve(self, patience):
        reservation, self._state = self._state.reserve(self.now, self._limit, patience)
        return reservation

    def acquire(self):
        admission, self._state = self._state.acquire(self.now, self._limit, f"permit-{next(self._ids)}")
        return admission

    def release(self, permit, *, is_comparable):
        self._state = self._state.release(self.now, permit, is_comparable=is_comparable)

    def block(self, seconds):
        self._state = self._state.block(self.now, seconds)

    def unblock(self):
        self._state = self._state.unblock()


class TimedRedisThrottle(RedisThrottle):
    """The Redis backend with ``now`` instead of the clock of Redis."""

    now = 0.0

    def _run(self, name, **arguments):
        return super()._run(name, now=repr(self.now), **arguments)


@pytest.fixture
def algorithm_throttle():
    return AlgorithmThrottle


@pytest.fixture
def timed_redis_throttle(redis_client):
    opened = []

    def open_throttle(limit):
        throttle = TimedRedisThrottle(redis_client, uuid.uuid4().hex, limit)
        set_initial_state(redis_client, throttle)
        opened.append(throttle)
        return throttle

    yield open_throttle
    for throttle in opened:
        redis_client.delete(*throttle.keys)


@pytest.fixture
def timed_database_throttle(alias, monkeypatch):
    from evermuse_outbox.delivery.context import DatabaseThrottle

    def open_throttle(limit):
        throttle = DatabaseThrottle(alias, uuid.uuid4().hex[:24], limit)
        throttle.now = 0.0
        now_in_query = lambda: Value(throttle.now, output_field=FloatField())  # noqa: E731
        monkeypatch.setattr("evermuse_outbox.models.throttle.EpochNow", now_in_query)
        return throttle

    return open_throttle


# Each step is (seconds since the start, call, arguments, expected answer). A permit has a letter for a name.


def wait(at, seconds):
    return at, "wait", (), seconds


def reserve(at, patience, seconds, *, taken=True):
    return at, "reserve", (patience,), (seconds, taken)


def acquire(at, name):
    return at, "acquire", (name,), (0, True)


def refused(at, seconds):
    return at, "acquire", ("refused",), (seconds, False)


def release(at, name, *, is_comparable=True):
    return at, "release", (name, is_comparable), None


def block(at, seconds):
    return at, "block", (seconds,), None


def unblock(at):
    return at, "unblock", (), None


def set_limit(at, limit):
    return at, "set_limit", (limit,), None


def sends(first, count, latency, every=1.4):
    """Return ``count`` sends from ``first`` on, each with an answer after ``latency`` seconds."""
    steps = []
    for number in range(count):
        at = first + every * number
        steps += [acquire(at, f"send-{at}"), release(at + latency, f"send-{at}")]
    return sorted(steps, key=lambda step: step[0])


LEARNED = 1.4 * LOWEST  # seconds that the sends of ``sends(0, LOWEST, …)`` take
EQUAL = FACTORS[LOWEST] * RESOLUTION  # seconds by which the floor is below so many equal latencies

CASES = {
    "slots are evenly spaced": (
        THREE,
        [
            wait(0, 0),
            reserve(0, 0, 0),
            wait(0, 0.3),
            reserve(0, 1, 0.3),
            reserve(0.1, 1, 0.5),
            reserve(5, 0, 0),
        ],
    ),
    "a slot beyond the patience is not reserved": (
        THREE,
        [
            reserve(0, 0, 0),
            reserve(0, 0.2, 0.3, taken=False),
            reserve(0, 0.4, 0.3),
        ],
    ),
    "a permit that is not released expires after the window and the uncertainty": (
        ONE,
        [
            acquire(0, "a"),
            refused(0, RETRY_INTERVAL),
            refused(1 + ARRIVAL_UNCERTAINTY - 0.01, 0.01),
            acquire(1 + ARRIVAL_UNCERTAINTY + 0.01, "b"),
        ],
    ),
    "the limit counts all permits": (
        THREE,
        [
            acquire(0, "a"),
            acquire(0.1, "b"),
            acquire(0.2, "c"),
            refused(0.3, RETRY_INTERVAL),
            refused(0.9 + ARRIVAL_UNCERTAINTY - 0.005, 0.005),
            acquire(0.9 + ARRIVAL_UNCERTAINTY + 0.005, "d"),
            refused(0.9 + ARRIVAL_UNCERTAINTY + 0.006, RETRY_INTERVAL),
        ],
    ),
    "an early answer bounds the arrival": (
        ONE,
        [
            acquire(0, "a"),
            release(0.05, "a"),
            refused(1.04, 0.01),
            acquire(1.06, "b"),
        ],
    ),
    "a late answer leaves the uncertainty": (
        ONE,
        [
            acquire(0, "a"),
            release(0.8, "a"),
            refused(1.24, 0.01),
            acquire(1.26, "b"),
        ],
    ),
    "an answer of a read bounds the arrival": (
        ONE,
        [
            acquire(0, "a"),
            release(0.05, "a", is_comparable=False),
            refused(1.04, 0.01),
            acquire(1.06, "b"),
        ],
    ),
    "a clock that is set back during a request gives no negative latency": (
        ONE,
        [
            acquire(10, "a"),
            release(9, "a"),
            refused(10.99, 0.01),
            acquire(11.01, "b"),
        ],
    ),
    "an unknown permit changes nothing": (
        ONE,
        [
            acquire(0, "a"),
            release(0.01, "unknown"),
            refused(1.24, 0.01),
        ],
    ),
    "an unknown permit takes no place": (
        THREE,
        [acquire(0, "a"), release(0.01, "unknown"), acquire(0.02, "b"), acquire(0.03, "c")],
    ),
    "a lowered limit waits for the permits of the higher one": (
        THREE,
        [
            acquire(0, "a"),
            acquire(0.1, "b"),
            acquire(0.2, "c"),
            set_limit(0.3, Limit(1, 0.9)),
            refused(0.9 + ARRIVAL_UNCERTAINTY - 0.005, RETRY_INTERVAL),
            refused(1.1 + ARRIVAL_UNCERTAINTY - 0.005, 0.005),
            acquire(1.1 + ARRIVAL_UNCERTAINTY + 0.005, "d"),
        ],
    ),
    "a block delays slots and permits": (
        THREE,
        [
            block(0, 30),
            wait(0, 30),
            refused(0, 30),
            reserve(0, 10, 30, taken=False),
            reserve(0, 60, 30),
            reserve(0, 60, 30.3),
            refused(29, 1),
            acquire(30.01, "a"),
        ],
    ),
    "the longest block remains": (
        THREE,
        [block(0, 30), block(1, 5), wait(1, 29), block(1, 60), wait(1, 60)],
    ),
    "a block ends after an hour": (
        THREE,
        [
            block(0, 1e9),
            wait(0, MAX_BLOCK),
            refused(0, MAX_BLOCK),
            wait(MAX_BLOCK + 0.01, 0),
            acquire(MAX_BLOCK + 0.01, "a"),
        ],
    ),
    "a block from before the clock was set back is ignored": (
        THREE,
        [
            block(2 * CLOCK_JUMP, MAX_BLOCK),
            wait(0, 0),
            acquire(0, "a"),
            reserve(0, 0, 0),
            block(0, 30),
            refused(0, 30),
        ],
    ),
    "a person ends a block": (
        ONE,
        [
            acquire(0, "a"),
            block(0.01, 1e9),
            refused(0.02, MAX_BLOCK - 0.01),
            unblock(0.03),
            refused(0.04, RETRY_INTERVAL),
            wait(2, 0),
            acquire(2, "b"),
            unblock(2),
            refused(2.5, RETRY_INTERVAL),
        ],
    ),
    "a slot from before the clock was set back is ignored": (
        THREE,
        [
            reserve(CLOCK_JUMP + 1, 0, 0),
            wait(0, 0),
            reserve(0, 0, 0),
            wait(0, 0.3),
        ],
    ),
    "permits from before the clock was set back are ignored": (
        ONE,
        [acquire(CLOCK_JUMP + 1, "a"), acquire(0, "b"), refused(0.1, RETRY_INTERVAL)],
    ),
    "only the excess over the floor counts": (
        ONE,
        [
            *sends(0, LOWEST, 0.3),
            acquire(LEARNED, "steady"),
            release(LEARNED + 0.3, "steady"),
            refused(LEARNED + EQUAL + 0.99, 0.01),
            acquire(LEARNED + EQUAL + 1.01, "late"),
            release(LEARNED + EQUAL + 1.01 + 0.4, "late"),
            refused(LEARNED + 2 * EQUAL + 2.1, 0.01),
            acquire(LEARNED + 2 * EQUAL + 2.12, "next"),
        ],
    ),
    "after few answers the whole latency counts": (
        ONE,
        [
            *sends(0, FEWEST - 2, 0.2),
            acquire(LEARNED, "a"),
            release(LEARNED + 0.2, "a"),
            refused(LEARNED + 1.19, 0.01),
            acquire(LEARNED + 1.21, "b"),
        ],
    ),
    "answers bound the arrivals of earlier requests": (
        Limit(FEWEST, 1.0),
        [
            *sends(0, FEWEST, 0.4, every=0.1),
            refused(1 + FACTORS[FEWEST] * RESOLUTION - 0.001, 0.001),
            acquire(1 + FACTORS[FEWEST] * RESOLUTION + 0.001, "next"),
        ],
    ),
    "a lower latency raises the bounds of earlier requests": (
        Limit(2, 1.0),
        [
            *sends(0, LOWEST, 0.3),
            acquire(LEARNED, "steady"),
            acquire(LEARNED + 0.2, "fast"),
            release(LEARNED + 0.3, "steady"),
            release(LEARNED + 0.3, "fast"),
            refused(LEARNED + 1.2, RETRY_INTERVAL),
            refused(LEARNED + 1.24, 0.01),
            acquire(LEARNED + 1.26, "next"),
        ],
    ),
    "a permit counts again if a lower latency shows that it was late": (
        ONE,
        [
            *sends(0, LOWEST, 0.3),
            acquire(LEARNED, "steady"),
            release(LEARNED + 0.3, "steady"),
            acquire(LEARNED + 1.1, "fast"),
            set_limit(LEARNED + 1.1, Limit(2, 1.0)),
            release(LEARNED + 1.12, "fast"),
            refused(LEARNED + 1.13, RETRY_INTERVAL),
            refused(LEARNED + 1.24, 0.01),
            acquire(LEARNED + 1.26, "next"),
        ],
    ),
    "after a much lower latency the others prove nothing": (
        ONE,
        [
            *sends(0, LOWEST, 0.3),
            *sends(LEARNED, 1, 0.2),
            acquire(LEARNED + 1.4, "a"),
            release(LEARNED + 1.4 + 0.2, "a"),
            refused(LEARNED + 1.4 + 1.19, 0.01),
            acquire(LEARNED + 1.4 + 1.21, "b"),
        ],
    ),
    "the latency of a read teaches nothing": (
        ONE,
        [
            *sends(0, LOWEST, 0.3),
            acquire(LEARNED, "read"),
            release(LEARNED + 0.01, "read", is_comparable=False),
            acquire(LEARNED + 2, "send"),
            release(LEARNED + 2.3, "send"),
            refused(LEARNED + EQUAL + 2.99, 0.01),
            acquire(LEARNED + EQUAL + 3.01, "next"),
        ],
    ),
    "the whole latency of a read counts": (
        ONE,
        [
            *sends(0, LOWEST, 0.1),
            acquire(LEARNED, "read"),
            release(LEARNED + 0.2, "read", is_comparable=False),
            refused(LEARNED + 1.19, 0.01),
            acquire(LEARNED + 1.21, "next"),
        ],
    ),
    "one slow answer among many teaches nothing": (
        ONE,
        [
            *sends(0, LOWEST, 0.1),
            *sends(LEARNED, 1, 0.9, every=2),
            acquire(LEARNED + 2, "a"),
            release(LEARNED + 2.1, "a"),
            refused(LEARNED + EQUAL + 2.99, 0.01),
            acquire(LEARNED + EQUAL + 3.01, "next"),
        ],
    ),
    "the lowest latency is remembered for more than one bucket": (
        Limit(100, 1.0),
        [
            *sends(0, SAMPLES, 0.1, every=0.02),
            *sends(2, SAMPLES - 1, 0.2, every=0.02),
            set_limit(5, ONE),
            acquire(5, "a"),
            release(5.2, "a"),
            refused(5 + 0.1 + EQUAL + 0.99, 0.01),
            acquire(5 + 0.1 + EQUAL + 1.01, "b"),
        ],
    ),
    "the lowest latency is forgotten after two buckets": (
        Limit(100, 1.0),
        [
            *sends(0, SAMPLES, 0.1, every=0.02),
            *sends(2, 2 * SAMPLES, 0.2, every=0.02),
            set_limit(7, ONE),
            acquire(7, "a"),
            release(7.2, "a"),
            refused(7 + EQUAL + 0.99, 0.01),
            acquire(7 + EQUAL + 1.01, "b"),
        ],
    ),
    "what was learned long ago is forgotten": (
        Limit(100, 1.0),
        [
            *sends(0, SAMPLES, 0.2, every=0.02),
            set_limit(5, ONE),
            acquire(2 * MAX_AGE, "a"),
            release(2 * MAX_AGE + 0.2, "a"),
            refused(2 * MAX_AGE + 1.19, 0.01),
            acquire(2 * MAX_AGE + 1.21, "b"),
        ],
    ),
}


def play(throttle, steps):
    """Make the calls; return the answers, each permit replaced by whether there is one."""
    permits, answers = {"unknown": f"unknown:{START}"}, []
    for at, call, arguments, _ in steps:
        throttle.now = START + at
        if call == "acquire":
            admission = throttle.acquire()
            permits[arguments[0]] = admission.permit
            answers.append((admission.wait, admission.permit is not None))
        elif call == "set_limit":
            throttle._limit = arguments[0]
            answers.append(None)
        elif call == "release":
            name, is_comparable = arguments
            if permits[name]:  # a refused request sends nothing
                throttle.release(permits[name], is_comparable=is_comparable)
            answers.append(None)
        else:
            answer = getattr(throttle, call)(*arguments)
            answers.append(tuple(answer) if isinstance(answer, tuple) else answer)
    return answers


def check(open_throttle, limit, steps):
    for step, answer in zip(steps, play(open_throttle(limit), steps), strict=True):
        expected = step[3]
        if isinstance(expected, tuple):
            assert (pytest.approx(answer[0], abs=TOLERANCE), answer[1]) == expected, step
        elif expected is None:
            assert answer is None, step
        else:
            assert answer == pytest.approx(expected, abs=TOLERANCE), step


every_case = pytest.mark.parametrize(("limit", "steps"), CASES.values(), ids=CASES.keys())


@every_case
def test_the_algorithm(algorithm_throttle, limit, steps):
    check(algorithm_throttle, limit, steps)


@every_case
def test_the_redis_backend(timed_redis_throttle, limit, steps):
    check(timed_redis_throttle, limit, steps)


@every_case
def test_the_database_backend(timed_database_throttle, limit, steps):
    check(timed_database_throttle, limit, steps)


def random_steps(seed, count):
    """Return that many steps of senders with random travel times, reads and blocks; the answers are left open."""
    rng, at, open_permits, steps = random.Random(seed), 0.0, [], []
    for number in range(count):
        at += rng.choice([0, rng.uniform(0, 0.05), rng.uniform(0, 0.3)])
        kind = rng.random()
        if kind < 0.5:
            steps.append(acquire(at, f"permit-{number}"))
            open_permits.append((at, f"permit-{number}"))
        elif kind < 0.85 and open_permits:
            _, name = open_permits.pop(rng.randrange(len(open_permits)))
            steps.append(release(at, name, is_comparable=rng.random() < 0.8))
        elif kind < 0.98:
            steps.append(reserve(at, rng.uniform(0, 1), 0))
        else:
            steps.append(block(at, rng.uniform(0, 1)))
        # An answer comes within a second here: an expired permit would no longer teach the algorithm its latency.
        open_permits = [(sent, name) for sent, name in open_permits if at - sent < 0.7]
    return steps


@pytest.fixture(params=[1, 2, 3])
def many_steps(request):
    return random_steps(request.param, 600)


def check_against_algorithm(throttle, steps):
    expected = play(AlgorithmThrottle(TEN), steps)
    assert sum(answer == (0, True) for answer in expected) > 100
    for step, answer, wanted in zip(steps, play(throttle, steps), expected, strict=True):
        if isinstance(wanted, tuple):
            assert (pytest.approx(answer[0], abs=TOLERANCE), answer[1]) == wanted, step
        else:
            assert answer == wanted, step


def test_redis_follows_the_algorithm_through_random_calls(timed_redis_throttle, many_steps):
    check_against_algorithm(timed_redis_throttle(TEN), many_steps)


def test_the_database_follows_the_algorithm_through_random_calls(timed_database_throttle, many_steps):
    check_against_algorithm(timed_database_throttle(TEN), many_steps)


# --- on the clock of the backend ---------------------------------------------------------------------


def check_backend(throttle):
    assert throttle.wait() == 0
    assert throttle.reserve(0) == (0, True)
    waits = [throttle.reserve(60).wait for _ in range(20)]
    # Each slot is one spacing behind the last, less the time that passed between the two calls.
    assert all(0 < b - a <= TEN.spacing + 1e-3 for a, b in itertools.pairwise(waits))
    refusal = throttle.reserve(0.1)
    assert not refusal.taken
    assert refusal.wait > 1

    permits = [throttle.acquire().permit for _ in range(10)]
    assert len(set(permits) - {None}) == 10
    wait, permit = throttle.acquire()
    assert permit is None
    assert 0 < wait <= RETRY_INTERVAL
    throttle.release(permits[0], is_comparable=True)
    throttle.release("unknown:1.0", is_comparable=False)

    throttle.block(100)
    assert 99 < throttle.wait() <= 100
    assert 99 < throttle.acquire().wait <= 100
    throttle.block(5)
    assert throttle.wait() > 90


def test_redis_keeps_the_limit(redis_throttle):
    check_backend(redis_throttle)


def test_the_database_keeps_the_limit(database_throttle):
    check_backend(database_throttle)

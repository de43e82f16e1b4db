"""The pace of a key: the arithmetic, and its two keepers, hammered by several processes."""

from __future__ import annotations

import bisect
import heapq
import itertools
import math
import random
import subprocess
import sys
import uuid

import pytest
from django.conf import settings as project
from hypothesis import given, settings
from hypothesis import strategies as st

from evermuse_outbox.ratelimit import (
    ARRIVAL_UNCERTAINTY,
    SLOW_BACKEND,
    Limit,
    RateLimitState,
    RedisThrottle,
    ThrottleUnavailable,
    key_fingerprint,
)
from evermuse_outbox.ratelimit.algorithm import CLOCK_JUMP, LATENCY_WINDOW, MARGIN, RETRY_INTERVAL
from tests.services import HOW, REDIS_URL

TEN = Limit.from_rate(10)


def drive(requests, limit=TEN):
    """Plays requests (asked at, seconds to arrive, seconds to be answered) through one pace, each by a sender
    of its own, in the order of time; returns when each arrived."""
    pace, arrivals, events = RateLimitState(), [], []
    for number, (asked, travel, answer) in enumerate(requests):
        heapq.heappush(events, (asked, number, "reserve", travel, answer))
    while events:
        now, number, step, travel, answer = heapq.heappop(events)
        name = str(number)
        if step == "reserve":
            grant, pace = pace.reserve(now, limit, patience=math.inf)
            heapq.heappush(events, (now + grant.wait, number, "acquire", travel, answer))
        elif step == "release":
            pace = pace.release(now, name, is_send=True)
        else:
            entry, pace = pace.acquire(now, limit, name)
            if entry.permit is None:
                heapq.heappush(events, (now + entry.wait, number, "acquire", travel, answer))
            else:
                arrivals.append(now + travel)
                heapq.heappush(events, (now + travel + answer, number, "release", travel, answer))
    return sorted(arrivals)


def worst_second(arrivals):
    return max((bisect.bisect_left(arrivals, at + 1.0) - i for i, at in enumerate(arrivals)), default=0)


STEADY = st.tuples(st.floats(1e9, 1e9 + 8), st.floats(0, ARRIVAL_UNCERTAINTY), st.floats(0, 0))


@settings(max_examples=200, deadline=None)
@given(st.lists(STEADY, max_size=80))
def test_no_sliding_second_holds_more_than_ten_however_unsteady_the_way_there(requests):
    # The answer comes back at once, so that its time tells all about the way there.
    assert worst_second(drive(requests)) <= 10


@pytest.mark.parametrize("travel", [0.0, 0.06, 0.12, 0.25])
@pytest.mark.parametrize("answer", [0.005, 0.3, 1.0])
def test_nor_under_a_backlog_with_jitter_and_slow_answers(travel, answer):
    rng = random.Random(7)
    requests = [(1e9, rng.uniform(0, travel), answer) for _ in range(400)]
    assert worst_second(drive(requests)) <= 10


@pytest.mark.parametrize("travel", [0.06, 0.12, 0.2])
@pytest.mark.parametrize("slow", [0.3, 1.0])
def test_nor_when_answers_become_quicker(travel, slow):
    for seed in range(4):
        rng = random.Random(seed)
        once = [slow] * 120 + [0.005] * 180
        now_and_then = [0.005 if n % 40 == 39 else slow for n in range(300)]
        for answers in (once, now_and_then):
            requests = [(1e9 + n / 1000, rng.uniform(0, travel), answer) for n, answer in enumerate(answers)]
            assert worst_second(drive(requests)) <= 10


@pytest.mark.parametrize("answer", [0.005, 0.3, 1.0])
def test_a_steady_way_is_used_to_95_percent_of_the_limit_however_slow_the_answers(answer):
    rng = random.Random(7)
    arrivals = drive([(1e9, 0.001, answer * rng.uniform(1, 1.02)) for _ in range(400)])
    assert 399 / (arrivals[-1] - arrivals[0]) >= 9.5


def test_a_key_that_was_idle_waits_for_nothing():
    assert RateLimitState(next_slot_at=5).reserve(100, TEN, 0)[0] == (0, True)


def test_who_is_not_patient_enough_takes_nothing():
    pace = RateLimitState(next_slot_at=102)
    grant, after = pace.reserve(100, TEN, patience=1)
    assert (grant.taken, grant.wait, after) == (False, 2, pace)


def test_a_hold_moves_every_slot_behind_it_and_shuts_the_door():
    pace = RateLimitState(next_slot_at=100.1).block(100, 30)
    assert pace.reserve(100, TEN, 60)[0] == (30, True)
    assert pace.acquire(100, TEN, "x")[0] == (30, None)
    assert pace.block(100, 5) == pace


def test_a_sender_that_dies_inside_costs_one_place_for_a_moment():
    pace = RateLimitState()
    for number in range(10):
        entry, pace = pace.acquire(100, TEN, str(number))
        assert entry.permit
    free_again = 100 + ARRIVAL_UNCERTAINTY + TEN.window
    assert pace.acquire(free_again - 0.01, TEN, "early")[0].permit is None
    assert pace.acquire(free_again + 0.01, TEN, "late")[0].permit


@pytest.mark.parametrize(
    ("rate", "count", "window"), [(10, 10, 1.0), (2.5, 2, 0.8), (0.5, 1, 2.0), (1e5, 100_000, 1)]
)
def test_any_rate_is_a_count_in_a_window(rate, count, window):
    limit = Limit.from_rate(rate)
    assert (limit.count, limit.window - MARGIN) == (count, pytest.approx(window))


def test_a_clock_that_was_set_back_does_not_stop_everything():
    assert RateLimitState(next_slot_at=1_000_000 + CLOCK_JUMP).wait(1_000) == 0


def test_a_hold_is_capped_at_a_day():
    assert RateLimitState().block(0, 1e9).blocked_until == 86_400


def test_the_scope_does_not_show_the_key():
    assert "em_sk" not in key_fingerprint("https://api.evermuse.com", "em_sk_secret")
    assert key_fingerprint("https://a", "k") != key_fingerprint("https://b", "k")


# --- the keepers --------------------------------------------------------------------------------------


@pytest.fixture
def redis_client():
    if not REDIS_URL:
        pytest.skip(f"no redis: {HOW['redis']}")
    import redis

    with redis.Redis.from_url(REDIS_URL) as client:
        yield client


def remember(redis_client, throttle):
    """A keeper that has not just forgotten everything."""
    redis_client.hset(throttle.keys[0], "next_slot_at", 1)


@pytest.fixture
def redis_throttle(redis_client):
    throttle = RedisThrottle(redis_client, uuid.uuid4().hex, TEN)
    remember(redis_client, throttle)
    yield throttle
    redis_client.delete(*throttle.keys)


@pytest.fixture
def database_throttle(alias):
    from evermuse_outbox.delivery.context import DatabaseThrottle

    return DatabaseThrottle(alias, uuid.uuid4().hex[:24], TEN)


@pytest.fixture(autouse=True)
def watch(monkeypatch):
    """The clock that keepers are timed by; it stands still unless given moments."""
    moments = []

    def monotonic():
        return moments.pop(0) if moments else 0.0

    monkeypatch.setattr("evermuse_outbox.ratelimit.redis_backend.monotonic", monotonic)
    monkeypatch.setattr("evermuse_outbox.models.throttle.monotonic", monotonic)
    return moments


def check_keeper(throttle):
    assert throttle.wait() == 0
    assert throttle.reserve(0) == (0, True)
    waits = [throttle.reserve(60).wait for _ in range(20)]
    # Each slot is one spacing behind the last, less the time that passed between the two asks.
    assert all(0 < b - a <= TEN.spacing + 1e-3 for a, b in itertools.pairwise(waits))
    refused = throttle.reserve(0.1)
    assert not refused.taken
    assert refused.wait > 1

    permits = [throttle.acquire().permit for _ in range(10)]
    assert len(set(permits) - {None}) == 10
    wait, permit = throttle.acquire()
    assert permit is None
    assert 0 < wait <= RETRY_INTERVAL
    throttle.release(permits[0], is_send=True)
    throttle.release("unknown:1.0", is_send=False)

    throttle.block(100)
    assert 99 < throttle.wait() <= 100
    assert 99 < throttle.acquire().wait <= 100
    throttle.block(5)
    assert throttle.wait() > 90


def test_redis_keeps_the_pace(redis_throttle):
    check_keeper(redis_throttle)


def test_the_database_keeps_the_pace(database_throttle):
    check_keeper(database_throttle)


def check_late(throttle, watch):
    """Let in twice where it was told late: eight places are left of ten."""
    watch += [0, 2 * SLOW_BACKEND, 0, 0]
    assert throttle.acquire().permit
    assert watch == []
    assert sum(throttle.acquire().permit is not None for _ in range(10)) == 8


def test_who_was_let_in_by_redis_too_late_to_arrive_in_time_knocks_again(redis_throttle, watch):
    check_late(redis_throttle, watch)


def test_who_was_let_in_by_the_database_too_late_to_arrive_in_time_knocks_again(database_throttle, watch):
    check_late(database_throttle, watch)


def test_where_the_keeper_is_always_slow_nobody_is_kept_out(redis_throttle, watch):
    watch += [0, 2 * SLOW_BACKEND, 0, 2 * SLOW_BACKEND]
    assert redis_throttle.acquire().permit


def test_both_keepers_learn_how_quick_answers_are(redis_client, alias):
    from evermuse_outbox.delivery.context import DatabaseThrottle
    from evermuse_outbox.models import OutboxThrottle

    wide = Limit.from_rate(1_000)
    in_redis = RedisThrottle(redis_client, uuid.uuid4().hex, wide)
    remember(redis_client, in_redis)
    in_database = DatabaseThrottle(alias, "scope", wide)

    def learnt():
        row = OutboxThrottle.objects.using(alias).get(pk="scope")
        told = redis_client.hget(in_redis.keys[0], "min_latency")
        return row.min_latency, told if told is None else float(told)

    for throttle in (in_redis, in_database):
        for _ in range(LATENCY_WINDOW + 5):
            throttle.release(throttle.acquire().permit, is_send=False)
        for _ in range(LATENCY_WINDOW - 1):
            throttle.release(throttle.acquire().permit, is_send=True)
    assert learnt() == (None, None)
    for throttle in (in_redis, in_database):
        throttle.release(throttle.acquire().permit, is_send=True)
    assert all(0 <= min_latency < 5 for min_latency in learnt())
    redis_client.delete(*in_redis.keys)


def test_an_answer_frees_a_place_before_its_grace_is_over():
    pace = RateLimitState()
    for number in range(10):
        pace = pace.acquire(100, TEN, str(number))[1]
    answered = pace.release(100.01, "0", is_send=True)
    moment = 100.01 + TEN.window
    assert pace.acquire(moment, TEN, "x")[0].permit is None
    assert answered.acquire(moment, TEN, "x")[0].permit


@pytest.mark.parametrize("meanwhile", ["nothing", "an answer", "a hold that is over"])
def test_a_redis_that_has_forgotten_everything_waits_a_window_first(redis_throttle, redis_client, meanwhile):
    permit = redis_throttle.acquire().permit
    redis_client.delete(*redis_throttle.keys)
    if meanwhile == "an answer":
        redis_throttle.release(permit, is_send=True)
    if meanwhile == "a hold that is over":
        redis_throttle.block(0)
    # One who had a slot before is stopped at the door, and so is who comes for a new one.
    wait, permit = redis_throttle.acquire()
    assert (permit, wait) == (None, pytest.approx(TEN.window + ARRIVAL_UNCERTAINTY))
    assert not redis_throttle.reserve(1).taken
    assert 1 < redis_throttle.reserve(5).wait <= TEN.window + ARRIVAL_UNCERTAINTY


def test_a_database_that_does_not_answer_gives_no_slot(alias, monkeypatch):
    from django.db import OperationalError

    from evermuse_outbox.delivery.context import DatabaseThrottle
    from evermuse_outbox.models import OutboxThrottle

    def gone(*_):
        raise OperationalError("server has gone away")

    throttle = DatabaseThrottle(alias, "scope", TEN)
    monkeypatch.setattr(type(OutboxThrottle.objects.all()), "_lock_state", gone)
    with pytest.raises(ThrottleUnavailable, match="database holds the rate limit"):
        throttle.release("visit", is_send=True)


@pytest.mark.django_db(databases=["mariadb", "default"])
@pytest.mark.skipif("mariadb" not in project.DATABASES, reason=f"no mariadb: {HOW['mariadb']}")
def test_the_time_zone_of_a_session_does_not_move_the_clock():
    from django.db import connections

    from evermuse_outbox.models import OutboxThrottle

    rows = OutboxThrottle.objects.using("mariadb")
    rows.create(pk="scope")
    before = rows.read_state("scope")[1]
    with connections["mariadb"].cursor() as cursor:
        cursor.execute("SET SESSION time_zone = '-05:00'")
        assert abs(rows.read_state("scope")[1] - before) < 60
        cursor.execute("SET SESSION time_zone = SYSTEM")


def test_without_redis_there_is_no_slot():
    import redis

    client = redis.Redis.from_url("redis://127.0.0.1:1/0", socket_connect_timeout=1)
    with pytest.raises(ThrottleUnavailable):
        RedisThrottle(client, "scope", TEN).reserve(1)


HAMMER = """
import sys, redis
from evermuse_outbox.ratelimit import Limit, RedisThrottle
url, scope, count = sys.argv[1:]
throttle = RedisThrottle(redis.Redis.from_url(url), scope, Limit(10, 1.0))
assert all(throttle.reserve(1e6).taken for _ in range(int(count)))
print(*(v.split(':')[1] for v in (throttle.acquire().permit for _ in range(int(count))) if v))
"""


def test_processes_never_share_a_slot_nor_a_place(redis_client):
    throttle = RedisThrottle(redis_client, uuid.uuid4().hex, TEN)
    remember(redis_client, throttle)
    scope = throttle.keys[0].split("{")[1].split("}")[0]
    seconds, micros = redis_client.time()
    command = [sys.executable, "-c", HAMMER, REDIS_URL, scope, "200"]
    hammers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(4)]
    entered = sorted(float(t) for hammer in hammers for t in hammer.communicate(timeout=60)[0].split())
    assert [hammer.returncode for hammer in hammers] == [0] * 4
    assert len(entered) >= 10
    assert worst_second(entered) <= 10
    next_slot_at = float(redis_client.hget(throttle.keys[0], "next_slot_at"))
    assert next_slot_at - (seconds + micros / 1e6) >= 800 * 0.1 - 1e-3
    redis_client.delete(*throttle.keys)


@pytest.mark.commits
def test_threads_never_share_a_slot_nor_a_place_of_the_database(alias):
    from concurrent.futures import ThreadPoolExecutor

    from django.db import connections

    from evermuse_outbox.delivery.context import DatabaseThrottle
    from evermuse_outbox.models import OutboxThrottle

    scope = uuid.uuid4().hex[:24]
    limit = Limit(10, 600.0)

    def hammer(_):
        try:
            throttle = DatabaseThrottle(alias, scope, limit)
            assert all(throttle.reserve(1e9).taken for _ in range(10))
            return sum(throttle.acquire().permit is not None for _ in range(10))
        finally:
            connections.close_all()

    DatabaseThrottle(alias, scope, limit).reserve(0)
    before = OutboxThrottle.objects.using(alias).get(pk=scope).next_slot_at
    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(hammer, range(4))) == 10
    after = OutboxThrottle.objects.using(alias).get(pk=scope).next_slot_at
    assert after - before == pytest.approx(40 * limit.spacing)

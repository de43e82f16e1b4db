"""The pace of a key: the arithmetic, and its two keepers, hammered by several processes."""

from __future__ import annotations

import itertools
import subprocess
import sys
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evermuse_outbox.evermuse.errors import ThrottleUnavailable
from evermuse_outbox.evermuse.throttle import CLOCK_JUMP, Pace, RedisThrottle, scope_of, spacing_for
from tests.services import HOW, REDIS_URL

SPACING = spacing_for(10)


def slots_of(asks, spacing=SPACING):
    """The slots given for asks at those times, each by somebody who waits as long as it takes."""
    pace, slots = Pace(), []
    for now in sorted(asks):
        grant, pace = pace.reserve(now, spacing, patience=float("inf"))
        assert grant.taken
        slots.append(now + grant.wait)
    return slots


@given(st.lists(st.floats(1e9, 1e9 + 60), max_size=200))
def test_no_sliding_second_holds_more_than_ten_slots(asks):
    slots = slots_of(asks)
    for index, slot in enumerate(slots[10:]):
        assert slot - slots[index] > 1.0


@given(
    st.lists(st.floats(1e9, 1e9 + 60), min_size=11, max_size=200), st.lists(st.floats(0, 0.05), min_size=200)
)
def test_nor_when_every_request_is_up_to_50_ms_late(asks, delays):
    arrivals = sorted(slot + delay for slot, delay in zip(slots_of(asks), delays, strict=False))
    for index, arrival in enumerate(arrivals[10:]):
        assert arrival - arrivals[index] > 1.0


def test_a_key_that_was_idle_waits_for_nothing():
    assert Pace(free_at=5).reserve(100, SPACING, 0)[0] == (0, True)


def test_who_is_not_patient_enough_takes_nothing():
    pace = Pace(free_at=102)
    grant, after = pace.reserve(100, SPACING, patience=1)
    assert (grant.taken, grant.wait, after) == (False, 2, pace)


def test_a_hold_moves_every_slot_behind_it():
    pace = Pace(free_at=100.1).hold(100, 30)
    assert pace.reserve(100, SPACING, 60)[0] == (30, True)
    assert pace.held(100) == 30
    assert pace.hold(100, 5) == pace


def test_a_clock_that_was_set_back_does_not_stop_everything():
    assert Pace(free_at=1_000_000 + CLOCK_JUMP).wait(1_000) == 0


def test_a_hold_is_capped_at_a_day():
    assert Pace().hold(0, 1e9).hold_until == 86_400


def test_the_scope_does_not_show_the_key():
    assert "em_sk" not in scope_of("https://api.evermuse.com", "em_sk_secret")
    assert scope_of("https://a", "k") != scope_of("https://b", "k")


# --- the keepers --------------------------------------------------------------------------------------


@pytest.fixture
def redis_client():
    if not REDIS_URL:
        pytest.skip(f"no redis: {HOW['redis']}")
    import redis

    with redis.Redis.from_url(REDIS_URL) as client:
        yield client


@pytest.fixture
def redis_throttle(redis_client):
    scope = uuid.uuid4().hex
    yield RedisThrottle(redis_client, scope, SPACING)
    redis_client.delete(f"evermuse_outbox:throttle:{scope}")


@pytest.fixture
def database_throttle(alias):
    from evermuse_outbox.pipeline.channel import DatabaseThrottle

    return DatabaseThrottle(alias, uuid.uuid4().hex[:24], SPACING)


def check_keeper(throttle):
    assert throttle.wait() == 0
    assert throttle.reserve(0) == (0, True)
    waits = [throttle.reserve(60).wait for _ in range(20)]
    # Each slot is one spacing behind the last, less the time that passed between the two asks.
    assert all(0 < later - earlier <= SPACING + 1e-3 for earlier, later in itertools.pairwise(waits))
    refused = throttle.reserve(0.1)
    assert not refused.taken
    assert refused.wait > 1
    assert throttle.held() == 0
    throttle.hold(100)
    assert 99 < throttle.held() <= 100
    assert 99 < throttle.wait() <= 100
    throttle.hold(5)
    assert throttle.held() > 90


def test_redis_keeps_the_pace(redis_throttle):
    check_keeper(redis_throttle)


def test_the_database_keeps_the_pace(database_throttle):
    check_keeper(database_throttle)


def test_without_redis_there_is_no_slot():
    import redis

    client = redis.Redis.from_url("redis://127.0.0.1:1/0", socket_connect_timeout=1)
    with pytest.raises(ThrottleUnavailable):
        RedisThrottle(client, "scope", SPACING).reserve(1)


HAMMER = """
import sys, redis
from evermuse_outbox.evermuse.throttle import RedisThrottle
url, scope, count = sys.argv[1:]
throttle = RedisThrottle(redis.Redis.from_url(url), scope, 0.1)
assert all(throttle.reserve(1e6).taken for _ in range(int(count)))
"""


def test_processes_never_share_a_slot(redis_client):
    scope = uuid.uuid4().hex
    seconds, micros = redis_client.time()
    command = [sys.executable, "-c", HAMMER, REDIS_URL, scope, "200"]
    hammers = [subprocess.Popen(command) for _ in range(4)]
    assert [hammer.wait(60) for hammer in hammers] == [0] * 4
    free_at = float(redis_client.hget(f"evermuse_outbox:throttle:{scope}", "free_at"))
    assert free_at - (seconds + micros / 1e6) >= 800 * 0.1
    redis_client.delete(f"evermuse_outbox:throttle:{scope}")


@pytest.mark.commits
def test_threads_never_share_a_slot_of_the_database(alias):
    from concurrent.futures import ThreadPoolExecutor

    from django.db import connections

    from evermuse_outbox.models import OutboxThrottle
    from evermuse_outbox.pipeline.channel import DatabaseThrottle

    scope = uuid.uuid4().hex[:24]
    DatabaseThrottle(alias, scope, 0.1).reserve(0)

    def hammer(_):
        try:
            throttle = DatabaseThrottle(alias, scope, 0.1)
            return [throttle.reserve(1e6).taken for _ in range(25)]
        finally:
            connections.close_all()

    before = OutboxThrottle.objects.using(alias).get(pk=scope).free_at
    with ThreadPoolExecutor(4) as pool:
        taken = [t for ts in pool.map(hammer, range(4)) for t in ts]
    assert taken == [True] * 100
    after = OutboxThrottle.objects.using(alias).get(pk=scope).free_at
    assert after - before == pytest.approx(100 * 0.1, abs=0.1) or after - before > 10

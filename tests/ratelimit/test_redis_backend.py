"""The Redis backend: no state, no answer, a slow answer, and several processes at once."""

from __future__ import annotations

import subprocess
import sys
import uuid

import pytest

from evermuse_outbox.ratelimit import (
    ARRIVAL_UNCERTAINTY,
    SLOW_BACKEND,
    RedisThrottle,
    ThrottleUnavailable,
)
from tests.ratelimit.conftest import TEN, set_initial_state
from tests.ratelimit.test_algorithm import busiest_second
from tests.services import REDIS_URL


def throttle_gives_no_permit(throttle):
    return all(throttle.acquire().permit is None for _ in range(10))


@pytest.mark.parametrize("meanwhile", ["nothing", "an answer", "a block that is over"])
def test_a_redis_that_lost_its_state_blocks_a_window_first(redis_throttle, redis_client, meanwhile):
    permit = redis_throttle.acquire().permit
    redis_client.delete(*redis_throttle.keys)
    if meanwhile == "an answer":
        redis_throttle.release(permit, is_comparable=True)
    if meanwhile == "a block that is over":
        redis_throttle.block(0)
    # A sender that had reserved a slot before gets no permit, and a new sender gets no slot.
    wait, permit = redis_throttle.acquire()
    assert (permit, wait) == (None, pytest.approx(TEN.window + ARRIVAL_UNCERTAINTY))
    assert throttle_gives_no_permit(redis_throttle), "also not to the next callers"
    assert not redis_throttle.reserve(1).taken
    assert 1 < redis_throttle.reserve(5).wait <= TEN.window + ARRIVAL_UNCERTAINTY


def test_a_permit_that_comes_late_is_replaced_once(redis_throttle, backend_times):
    backend_times += [0, 2 * SLOW_BACKEND, 0, 0]
    assert redis_throttle.acquire().permit
    assert backend_times == []
    # Two of the ten permits are in use: the late one stays unused until it expires.
    assert sum(redis_throttle.acquire().permit is not None for _ in range(10)) == 8


def test_a_redis_that_is_always_slow_still_gives_permits(redis_throttle, backend_times):
    backend_times += [0, 2 * SLOW_BACKEND, 0, 2 * SLOW_BACKEND]
    assert redis_throttle.acquire().permit


def test_both_keys_are_on_one_node_of_a_cluster(redis_throttle):
    tags = {key[key.index("{") : key.index("}")] for key in redis_throttle.keys}
    assert len(tags) == 1


def test_a_redis_that_is_not_there_gives_no_slot():
    import redis

    client = redis.Redis.from_url("redis://127.0.0.1:1/0", socket_connect_timeout=1)
    with pytest.raises(ThrottleUnavailable, match="Redis holds the rate limit"):
        RedisThrottle(client, "scope", TEN).reserve(1)


RESERVE_AND_ACQUIRE = """
import sys, redis
from evermuse_outbox.ratelimit import Limit, RedisThrottle
url, scope, count = sys.argv[1:]
throttle = RedisThrottle(redis.Redis.from_url(url), scope, Limit(10, 1.0))
assert all(throttle.reserve(1e6).taken for _ in range(int(count)))
permits = (throttle.acquire().permit for _ in range(int(count)))
print(*(permit.split(':')[1] for permit in permits if permit))
"""


def test_processes_never_share_a_slot_or_a_permit(redis_client):
    throttle = RedisThrottle(redis_client, uuid.uuid4().hex, TEN)
    set_initial_state(redis_client, throttle)
    scope = throttle.keys[0].split("{")[1].split("}")[0]
    seconds, micros = redis_client.time()
    command = [sys.executable, "-c", RESERVE_AND_ACQUIRE, REDIS_URL, scope, "200"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(4)]
    sent = sorted(float(t) for process in processes for t in process.communicate(timeout=60)[0].split())
    assert [process.returncode for process in processes] == [0] * 4
    assert len(sent) >= 10
    assert busiest_second(sent) <= 10
    next_slot_at = float(redis_client.hget(throttle.keys[0], "next_slot_at"))
    assert next_slot_at - (seconds + micros / 1e6) >= 800 * 0.1 - 1e-3
    redis_client.delete(*throttle.keys)

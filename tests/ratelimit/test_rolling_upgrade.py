"""Workers of this version and of the one before share the state of one key, and keep its limit together.

``EarlierWorker`` writes what a worker of the version before writes: a permit of three values, bounds from a minimum
latency of its own, and no latencies. It removes permits as soon as they do not count any more.
"""

from __future__ import annotations

import heapq
import uuid
from random import Random

import pytest

from evermuse_outbox.models import OutboxThrottle
from evermuse_outbox.ratelimit import ARRIVAL_UNCERTAINTY, Admission
from evermuse_outbox.ratelimit.algorithm import RETRY_INTERVAL
from tests.ratelimit.conftest import TEN
from tests.ratelimit.test_algorithm import busiest_second
from tests.ratelimit.test_backends import (  # noqa: F401 - fixtures
    START,
    timed_database_throttle,
    timed_redis_throttle,
)


class EarlierWorker:
    """Permits as (id, sent at, latest arrival) in a storage with ``read`` and ``write``."""

    def __init__(self, storage):
        self.storage, self.now = storage, 0.0
        self.min_latency, self.candidates = None, []

    def acquire(self):
        recent = [permit for permit in self.storage.read() if permit[2] > self.now - TEN.window]
        if len(recent) >= TEN.count:
            self.storage.write(recent)
            return Admission(RETRY_INTERVAL, None)
        permit = (uuid.uuid4().hex[:16], self.now, self.now + ARRIVAL_UNCERTAINTY)
        self.storage.write([*recent, permit])
        return Admission(0.0, permit[0])

    def release(self, permit_id, *, is_comparable):
        assert is_comparable
        permits = self.storage.read()
        sent_at = next((permit[1] for permit in permits if permit[0] == permit_id), None)
        if sent_at is None:
            return
        latency = self.now - sent_at
        self.candidates.append(latency)
        if len(self.candidates) == 40:
            self.min_latency, self.candidates = min(self.candidates), []
        excess = latency if self.min_latency is None else max(latency - self.min_latency, 0)
        latest = sent_at + min(excess, ARRIVAL_UNCERTAINTY)
        self.storage.write([(p[0], p[1], latest if p[0] == permit_id else p[2]) for p in permits])


class RedisStorage:
    """The sorted set of a key. The names of the version before are "id:sent_at"."""

    def __init__(self, client, key):
        self.client, self.key = client, key

    def read(self):
        members = self.client.zrange(self.key, 0, -1, withscores=True)
        self.names = {name.decode().split(":")[0]: name.decode() for name, _ in members}
        return [(name.decode().split(":")[0], float(name.decode().split(":")[1]), at) for name, at in members]

    def write(self, permits):
        kept = {self.names.get(name, f"{name}:{sent_at:.6f}"): latest for name, sent_at, latest in permits}
        for name in set(self.names.values()) - set(kept):
            self.client.zrem(self.key, name)
        self.client.zadd(self.key, kept)


class DatabaseStorage:
    """The column ``permits`` of a row."""

    def __init__(self, alias, scope):
        self.row = OutboxThrottle.objects.using(alias).filter(pk=scope)

    def read(self):
        return [tuple(permit) for permit in self.row.values_list("permits", flat=True).get()]

    def write(self, permits):
        self.row.update(permits=permits)


@pytest.fixture
def in_redis(redis_client, timed_redis_throttle):  # noqa: F811
    throttle = timed_redis_throttle(TEN)
    return throttle, EarlierWorker(RedisStorage(redis_client, throttle.keys[1]))


@pytest.fixture
def in_database(alias, timed_database_throttle):  # noqa: F811
    throttle = timed_database_throttle(TEN)
    throttle.reserve(0)  # creates the row
    return throttle, EarlierWorker(DatabaseStorage(alias, throttle._scope))


def send_from_both(workers, answer, jitter, seconds):
    """Send from both workers at once, from four senders each; return the times of arrival."""
    rng, arrivals = Random(3), []
    events = [(START + rng.random(), sender, None) for sender in range(8)]
    heapq.heapify(events)
    while events and events[0][0] < START + seconds:
        now, sender, permit = heapq.heappop(events)
        worker = workers[sender % 2]
        worker.now = now
        if permit is not None:
            worker.release(permit, is_comparable=True)
            heapq.heappush(events, (now + 0.01, sender, None))
            continue
        wait, permit = worker.acquire()
        if permit is None:
            heapq.heappush(events, (now + max(wait, 0.01), sender, None))
        else:
            travel = rng.uniform(0, jitter)
            arrivals.append(now + travel)
            heapq.heappush(events, (now + travel + answer, sender, permit))
    return sorted(arrivals)


@pytest.mark.parametrize(("answer", "jitter"), [(0.3, 0.0), (0.3, 0.2), (0.005, 0.2)])
def test_both_versions_keep_the_limit_together_in_redis(in_redis, answer, jitter):
    arrivals = send_from_both(in_redis, answer, jitter, seconds=15)
    assert busiest_second(arrivals) <= 10
    assert len(arrivals) > 100


@pytest.mark.parametrize(("answer", "jitter"), [(0.3, 0.0), (0.3, 0.2)])
def test_both_versions_keep_the_limit_together_in_the_database(in_database, answer, jitter):
    arrivals = send_from_both(in_database, answer, jitter, seconds=6)
    assert busiest_second(arrivals) <= 10
    assert len(arrivals) > 35


# --- the state that the version before has left ------------------------------------------------------

EARLIER_HASH = {
    "next_slot_at": f"{START + 0.1:.6f}",
    "blocked_until": "0.000000",
    "min_latency": "0.301200",
    "min_latency_candidate": "0.300900",
    "latency_samples": "17",
}
EARLIER_PERMITS = [
    (f"{number:016x}", START - 0.9 + number / 10, START - 0.9 + number / 10) for number in range(10)
]


def check_earlier_state(throttle):
    throttle.now = START
    assert throttle.wait() == pytest.approx(0.1, abs=1e-4)
    assert throttle.acquire().permit is None, "ten requests of the last second are known"
    throttle.now = START - 0.9 + TEN.window + 0.001
    permit = throttle.acquire().permit
    assert permit, "the bound that the earlier version has written counts"
    throttle.now += 0.01
    throttle.release(permit, is_comparable=True)
    throttle.now += 0.01
    assert throttle.acquire().permit is None


def test_redis_continues_with_the_state_of_the_version_before(redis_client, timed_redis_throttle):  # noqa: F811
    throttle = timed_redis_throttle(TEN)
    redis_client.hset(throttle.keys[0], mapping=EARLIER_HASH)
    redis_client.zadd(throttle.keys[1], {f"{name}:{at:.6f}": latest for name, at, latest in EARLIER_PERMITS})
    check_earlier_state(throttle)
    # The fields of the version before stay as its workers left them.
    stored = {name.decode(): value.decode() for name, value in redis_client.hgetall(throttle.keys[0]).items()}
    assert {name: stored[name] for name in EARLIER_HASH} == EARLIER_HASH


def test_the_database_continues_with_the_state_of_the_version_before(alias, timed_database_throttle):  # noqa: F811
    throttle = timed_database_throttle(TEN)
    earlier = {"min_latency": 0.3012, "min_latency_candidate": 0.3009, "latency_samples": 17}
    row = OutboxThrottle.objects.using(alias)
    row.create(pk=throttle._scope, next_slot_at=START + 0.1, permits=EARLIER_PERMITS, **earlier)
    check_earlier_state(throttle)
    assert row.filter(pk=throttle._scope, **earlier).exists()


def test_a_worker_of_the_version_before_reads_the_permits_of_this_one(in_redis, in_database):
    for throttle, earlier in (in_redis, in_database):
        for number in range(10):
            throttle.now = START + number / 100
            permit = throttle.acquire().permit
            throttle.now += 0.001
            throttle.release(permit, is_comparable=True)
        earlier.now = START + 1
        assert earlier.acquire().permit is None
        assert all(len(permit) == 3 for permit in earlier.storage.read())

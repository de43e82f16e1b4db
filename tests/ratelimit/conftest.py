"""Throttles of each backend, for the tests of the rate limit."""

from __future__ import annotations

import uuid

import pytest

from evermuse_outbox.ratelimit import Limit, RedisThrottle
from tests.services import HOW_TO_START, REDIS_URL

TEN = Limit.from_rate(10)


def set_initial_state(redis_client, throttle):
    """Store a state, because a Redis without state blocks a window first."""
    redis_client.hset(throttle.keys[0], "next_slot_at", 1)


@pytest.fixture
def redis_client():
    if not REDIS_URL:
        pytest.skip(f"no redis: {HOW_TO_START['redis']}")
    import redis

    with redis.Redis.from_url(REDIS_URL) as client:
        yield client


@pytest.fixture
def redis_throttle(redis_client):
    throttle = RedisThrottle(redis_client, uuid.uuid4().hex, TEN)
    set_initial_state(redis_client, throttle)
    yield throttle
    redis_client.delete(*throttle.keys)


@pytest.fixture
def database_throttle(alias):
    from evermuse_outbox.delivery.context import DatabaseThrottle

    return DatabaseThrottle(alias, uuid.uuid4().hex[:24], TEN)


@pytest.fixture(autouse=True)
def backend_times(monkeypatch):
    """Readings of the clock that measures the backends; it stands still once the list is empty."""
    readings = []

    def monotonic():
        return readings.pop(0) if readings else 0.0

    monkeypatch.setattr("evermuse_outbox.ratelimit.redis_backend.monotonic", monotonic)
    monkeypatch.setattr("evermuse_outbox.models.throttle.monotonic", monotonic)
    return readings

"""The rate-limit state in a row: one change at a time, on the database's clock."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.conf import settings as project
from django.db import connections

from evermuse_outbox.models import OutboxThrottle
from evermuse_outbox.ratelimit import SLOW_BACKEND, Limit, RateLimitState
from tests.services import HOW_TO_START

TEN = Limit.from_rate(10)


@pytest.fixture
def rows(alias):
    return OutboxThrottle.objects.using(alias)


def test_a_key_without_a_row_has_an_empty_state(rows):
    assert rows.read_state("unknown")[0] == RateLimitState()


def test_a_row_holds_the_whole_state(rows):
    admission = rows.acquire("scope", TEN)
    rows.release("scope", admission.permit, is_comparable=True)
    rows.reserve("scope", TEN, 1)
    rows.block("scope", 60)
    state, now = rows.read_state("scope")
    assert now <= state.next_slot_at <= now + 1
    assert now < state.blocked_until <= now + 60
    (permit,) = state.permits
    assert permit.id == admission.permit
    assert state.samples.size == 1
    assert now - 5 < state.samples.since <= now
    assert state.samples.current == (permit.latency,)
    assert 0 <= permit.latency < 5


def test_a_permit_that_comes_late_is_replaced_once(rows, monkeypatch):
    readings = [0, 2 * SLOW_BACKEND, 0, 0]
    monkeypatch.setattr(
        "evermuse_outbox.models.throttle.monotonic", lambda: readings.pop(0) if readings else 0.0
    )
    assert rows.acquire("scope", TEN).permit
    assert readings == []
    # Two of the ten permits are in use: the late one stays unused until it expires.
    assert sum(rows.acquire("scope", TEN).permit is not None for _ in range(10)) == 8


@pytest.mark.django_db(databases=["mariadb", "default"])
@pytest.mark.skipif("mariadb" not in project.DATABASES, reason=f"no mariadb: {HOW_TO_START['mariadb']}")
def test_the_time_zone_of_a_session_does_not_move_the_clock():
    rows = OutboxThrottle.objects.using("mariadb")
    rows.create(pk="scope")
    before = rows.read_state("scope")[1]
    with connections["mariadb"].cursor() as cursor:
        cursor.execute("SET SESSION time_zone = '-05:00'")
        assert abs(rows.read_state("scope")[1] - before) < 60
        cursor.execute("SET SESSION time_zone = SYSTEM")


@pytest.mark.commits
def test_threads_never_share_a_slot_or_a_permit(alias):
    from evermuse_outbox.delivery.context import DatabaseThrottle

    scope = uuid.uuid4().hex[:24]
    limit = Limit(10, 600.0)

    def reserve_and_acquire(_):
        try:
            throttle = DatabaseThrottle(alias, scope, limit)
            assert all(throttle.reserve(1e9).taken for _ in range(10))
            return sum(throttle.acquire().permit is not None for _ in range(10))
        finally:
            connections.close_all()

    DatabaseThrottle(alias, scope, limit).reserve(0)
    before = OutboxThrottle.objects.using(alias).get(pk=scope).next_slot_at
    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(reserve_and_acquire, range(4))) == 10
    after = OutboxThrottle.objects.using(alias).get(pk=scope).next_slot_at
    assert after - before == pytest.approx(40 * limit.spacing)

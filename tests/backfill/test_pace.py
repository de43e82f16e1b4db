"""The low-priority lane: a backfill has little under way, and makes way for live records."""

import pytest

from evermuse_outbox import outbox
from evermuse_outbox.backfill.pace import PATIENCE, Inserted, Pace
from evermuse_outbox.delivery.scheduling import RunQueue
from evermuse_outbox.models import OutboxGroup, OutboxRecord, OutboxWorkspace, group_key
from tests.records import record


@pytest.fixture
def pace(context, outbox_settings, reopen):
    outbox_settings(LINGER=0.2)
    fresh = reopen()
    return Pace(fresh, fresh.clock)


@pytest.fixture
def enqueue(context, clock):
    """Return a function that enqueues a record with the test's time."""

    def insert(**values):
        row = outbox.enqueue(record(**values), using=context.using)
        OutboxRecord.rows.using(context.using).filter(pk=row.pk).update(enqueued_at=clock.now())
        return row

    return insert


def note(pace, row, requests=1):
    """Note a record of the backfill as the last of a chunk."""
    pace.add([Inserted((row.type, row.product_id), row.pk, 1_000, requests)], 0.0)


@pytest.fixture
def note_seal(context, clock):
    """Return a function that lets the group of live records linger since now."""

    def store(product):
        row = OutboxWorkspace.objects.using(context.using).ensure_row("default")
        row.run_queue = RunQueue(sealed_at={("message", product): clock.now().timestamp()}).to_json()
        row.save(using=context.using)

    return store


def test_without_live_traffic_as_much_is_under_way_as_leaves_in_a_moment_and_a_slot(alias, pace, enqueue):
    assert pace.free_requests() == 3  # 0.2 s and one slot of 0.1 s
    note(pace, enqueue())
    assert pace.free_requests() == 2
    note(pace, enqueue(), requests=2)
    assert pace.free_requests() == 0
    assert pace.reason == "its earlier records wait to be sent"


def test_what_is_sealed_is_not_under_way(alias, pace, enqueue):
    row = enqueue()
    note(pace, row, requests=3)
    assert pace.free_requests() == 0
    OutboxRecord.rows.using(alias).filter(pk=row.pk).discard()
    assert pace.free_requests() == 3


def test_a_used_rate_limit_leaves_nothing(alias, pace):
    pace.context.throttle.blocked_for = 0.25
    assert pace.free_requests() == 0
    assert pace.reason == "other requests use the rate limit"


@pytest.mark.parametrize(("age", "free"), [(0.0, 1), (0.05, 0), (0.1, 0), (60, 0)])
def test_a_live_record_of_another_group_is_not_delayed_by_more_than_a_request(
    alias, pace, enqueue, clock, age, free
):
    enqueue(_product_id="prod-live")
    clock.move(age)
    assert pace.free_requests() == free
    if not free:
        assert pace.reason == "live records of message, prod-live are due"


@pytest.mark.parametrize(("age", "free"), [(0.0, 3), (0.1, 2), (0.15, 1), (0.2, 1), (0.3, 0), (60, 0)])
def test_while_a_live_record_lingers_the_backfill_goes_on(alias, pace, enqueue, clock, note_seal, age, free):
    note_seal("prod-live")
    enqueue(_product_id="prod-live")
    clock.move(age)
    assert pace.free_requests() == free
    if not free:
        assert pace.reason == "live records of message, prod-live are due"


def test_a_live_record_behind_those_of_the_backfill_counts_too(alias, pace, enqueue, clock):
    note(pace, enqueue())
    clock.move(0.1)
    enqueue(number="live")
    clock.move(0.05)
    assert pace.free_requests() == 0
    assert pace.reason == "live records of message, prod-abc are due"


def test_a_paused_group_stops_no_backfill(alias, pace, enqueue, clock):
    enqueue(_product_id="prod-live")
    clock.move(60)
    names = {"workspace": "default", "type": "message", "product_id": "prod-live"}
    OutboxGroup.objects.using(alias).hold(
        OutboxGroup(scope=group_key(*names.values()), since=clock.now(), **names)
    )
    assert OutboxGroup.objects.using(alias).paused("default").exists()
    assert pace.free_requests() == 3


def test_a_live_record_that_waits_for_something_else_stops_it_for_a_while_only(alias, pace, enqueue, clock):
    enqueue(_product_id="prod-live")
    clock.move(10)
    assert pace.free_requests() == 0
    clock.move(PATIENCE + 0.1)
    assert pace.free_requests() == 3
    pace.context.throttle.blocked_for = 0.05  # the rate limit is used: the record may wait for it
    assert pace.free_requests() == 0


def test_one_request_is_always_possible(alias, context, outbox_settings, reopen):
    outbox_settings(LINGER=0, RATE_LIMIT=0.1)
    fresh = reopen()
    assert Pace(fresh, fresh.clock).free_requests() >= 1


def test_a_throttle_that_does_not_answer_is_a_reason(alias, pace):
    from evermuse_outbox.ratelimit import ThrottleUnavailable

    def wait():
        raise ThrottleUnavailable("Redis holds the rate limit and does not answer")

    pace.context.throttle.wait = wait
    assert pace.free_requests() == 0
    assert pace.reason == "Redis holds the rate limit and does not answer"


def test_a_slow_insert_leaves_room_for_what_leaves_meanwhile(alias, pace):
    for _ in range(50):
        pace.add([], 0.11)
    assert pace.free_requests() == 4

"""The low-priority lane: a backfill inserts only while a new record would hardly wait."""

import pytest

from evermuse_outbox import outbox
from evermuse_outbox.backfill.pace import LOOK_SHARE, Pace
from evermuse_outbox.delivery.loop import seal_next
from evermuse_outbox.delivery.scheduling import RunQueue
from evermuse_outbox.models import OutboxGroup, OutboxRecord, OutboxWorkspace, group_key
from evermuse_outbox.ratelimit import ThrottleUnavailable
from tests.records import record

LIVE = ("message", "prod-live")


@pytest.fixture
def pace(context, outbox_settings, reopen):
    outbox_settings(LINGER=0.2, MAX_BATCH_RECORDS=2)
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


@pytest.fixture
def note(context, enqueue, pace):
    """Return a function that enqueues the records of a chunk that fills some requests."""

    def insert(requests=1, product="prod-abc"):
        for number in range(2 * requests):
            enqueue(number=number, _product_id=product)
        pace.note_inserted([("message", product)], 0.0)

    return insert


@pytest.fixture
def remember(context):
    """Return a function that stores what the run queue of the workspace knows."""

    def store(**memory):
        row = OutboxWorkspace.objects.using(context.using).ensure_row("default")
        row.run_queue = RunQueue(**memory).to_json()
        row.save(using=context.using)

    return store


def test_a_request_is_under_way_and_the_next_one_waits(alias, pace, note):
    assert pace.free_requests() == 2
    note()
    assert pace.free_requests() == 1
    note()
    assert pace.free_requests() == 0
    assert pace.reason == "A new record waits about 0.2 s: about 2 requests go before."


def test_records_of_others_count_as_those_of_the_backfill(alias, pace, enqueue, clock):
    for number in range(2):
        enqueue(_product_id=f"prod-{number}")
    clock.move(60)
    assert pace.free_requests() == 0
    assert pace.reason == "A new record waits about 0.2 s: about 2 requests go before."


def test_what_is_sealed_and_not_sent_is_under_way(context, alias, pace, note):
    note(requests=1)
    seal_next(context)
    assert pace.free_requests() == 1


def test_a_used_rate_limit_leaves_nothing(alias, pace):
    pace.context.throttle.blocked_for = 0.15
    assert pace.free_requests() == 0
    assert pace.reason == "Other requests use the rate limit."


@pytest.mark.parametrize(("age", "free"), [(0.0, 2), (0.15, 2), (0.2, 1), (60, 1)])
def test_while_a_live_record_lingers_the_backfill_goes_on(alias, pace, enqueue, clock, remember, age, free):
    remember(sealed_at={LIVE: clock.now().timestamp()})
    enqueue(_product_id="prod-live")
    clock.move(age)
    assert pace.free_requests() == free


def test_a_blocked_record_of_another_group_stops_no_backfill(alias, pace, enqueue, clock, remember):
    enqueue(_product_id="prod-live")
    clock.move(10)
    assert pace.free_requests() == 1
    remember(resting={LIVE: clock.now().timestamp() + 1})
    clock.move(0.001)  # the measurement is used no longer
    assert pace.free_requests() == 2


def test_blocked_records_of_the_backfill_stop_it(alias, pace, note, clock, remember):
    note(requests=2)
    remember(resting={("message", "prod-abc"): clock.now().timestamp() + 1})
    assert pace.free_requests() == 0


@pytest.mark.parametrize(("product", "free"), [("prod-live", 1), ("prod-abc", 0)])
def test_a_paused_group_stops_only_its_backfill(alias, pace, note, clock, product, free):
    """The pressure does not count records of paused groups, so the backfill would insert without an end."""
    note()
    names = {"workspace": "default", "type": "message", "product_id": product}
    groups = OutboxGroup.objects.using(alias)
    groups.hold(OutboxGroup(scope=group_key(*names.values()), since=clock.now(), **names))
    assert pace.free_requests() == free
    assert free or pace.reason == "The group message, prod-abc is paused."


def test_a_workspace_that_sends_nothing_gets_no_record(alias, pace, clock):
    OutboxWorkspace.objects.using(alias).hold("default", clock.now(), "ana", "maintenance")
    assert pace.free_requests() == 0
    assert pace.reason.startswith("A new record waits for an unknown time: the workspace is held")


def test_one_request_is_always_possible(alias, context, outbox_settings, reopen):
    outbox_settings(LINGER=0, RATE_LIMIT=0.1)
    fresh = reopen()
    assert Pace(fresh, fresh.clock).free_requests() >= 1


def test_a_throttle_that_does_not_answer_is_a_reason(alias, pace):
    def wait():
        raise ThrottleUnavailable("Redis holds the rate limit and does not answer")

    pace.context.throttle.wait = wait
    assert pace.free_requests() == 0
    assert pace.reason == "Redis holds the rate limit and does not answer"


@pytest.mark.parametrize(("seconds", "free"), [(0.09, 2), (0.11, 3), (60, 4)])
def test_a_slow_insert_leaves_room_for_what_leaves_meanwhile(alias, pace, seconds, free):
    for _ in range(50):
        pace.note_inserted([], seconds)
    assert pace.free_requests() == free


def test_a_slow_measurement_is_used_for_a_while(alias, pace, clock, monkeypatch):
    def measure(*_arguments):
        clock.move(0.1)
        return outbox.Pressure(float(clock.now() < slow_until))

    slow_until = clock.now().replace(second=30)
    monkeypatch.setattr("evermuse_outbox.backfill.pace.measure_now", measure)
    assert pace.free_requests() == 0
    slow_until = clock.now()
    assert pace.free_requests() == 0
    clock.move(0.1 * LOOK_SHARE)
    assert pace.free_requests() == 2

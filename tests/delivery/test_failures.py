"""Scenarios of failures: bad records, a bad group, a refused key, an outage and an API that fails at random.

A record that makes the API, or a firewall before it, fail is named. Its neighbours are delivered. Time is simulated.
"""

from __future__ import annotations

import dataclasses
import math
import random

import pytest

from evermuse_outbox.delivery.context import open_context
from evermuse_outbox.delivery.loop import poll, relay, send_next
from evermuse_outbox.models import OutboxBatch, OutboxGroup, OutboxRecord, OutboxRejection
from evermuse_outbox.sandbox import Fault
from tests.conftest import FreeThrottle
from tests.delivery.helpers import posts, serve
from tests.records import enqueue

pytestmark = pytest.mark.long

POISON = "<script>poison</script>"

FAILURES = {
    "403 page": Fault.proxy_page(403, containing=POISON),
    "403": Fault(status=403, containing=POISON),
    "401": Fault(status=401, containing=POISON),
    "402": Fault.no_credits(containing=POISON),
    "404 page": Fault.proxy_page(404, containing=POISON),
    "409": Fault(status=409, containing=POISON),
    "413": Fault(status=413, containing=POISON),
    "429": Fault.too_many(containing=POISON),
    "429 page": Fault.proxy_page(429, containing=POISON),
    "500": Fault.server_error(containing=POISON),
    "502 page": Fault.bad_gateway(containing=POISON),
    "closed": Fault.drop_before(containing=POISON),
}


@pytest.fixture
def sqlite_context(clock):
    """Return a context on SQLite. One database is enough for the decisions; the others are tested with fewer cases."""
    return dataclasses.replace(
        open_context("default", "default"), throttle=FreeThrottle(), clock=clock.clock()
    )


def with_settings(context, **changes):
    """Return the context with other settings."""
    return dataclasses.replace(context, settings=dataclasses.replace(context.settings, **changes))


def enqueue_with_poison(alias, count, poisoned, **fields):
    """Enqueue ``count`` records; those at the positions ``poisoned`` always fail. Return their ids."""
    ids = []
    for position in range(count):
        text = POISON if position in poisoned else "fine"
        ids += [row.pk for row in enqueue(alias, position, data={"text": text}, **fields)]
    return ids


def open_records(alias):
    return OutboxRecord.objects.using(alias).filter(state__in=["pending", "in_flight"])


def play(context, clock, minutes, until):
    """Let one worker send and poll until ``until()`` is true. Return the simulated minutes; fail after ``minutes``."""
    start = clock.now()
    while (passed := (clock.now() - start).total_seconds() / 60) < minutes:
        if until():
            return passed
        context.throttle.blocked_for = 0
        relay(context, 1)
        poll(context, 1)
        clock.move(0.5)
    raise AssertionError(
        f"not after {minutes} minutes: {list(open_records(context.using).values('pk', 'batch'))[:5]}"
    )


CODES = {"413": "TOO_LARGE", "closed": "NO_ANSWER"}


@pytest.mark.django_db(databases=["default"])
@pytest.mark.parametrize(
    ("failure", "poisoned"),
    [
        *((failure, positions) for failure in FAILURES for positions in ({17}, {3, 4, 20, 33, 39})),
        *((failure, positions) for failure in ("403", "closed") for positions in ({0}, {39})),
    ],
    ids=str,
)
def test_neighbours_are_delivered_and_the_culprit_is_rejected(sqlite_context, clock, failure, poisoned):
    rows = enqueue_with_poison("default", 40, poisoned)
    for group in range(5):
        enqueue("default", *range(100, 103), _product_id=f"product-{group}")
    with serve(sqlite_context, clock) as (context, sandbox):
        sandbox.fail_next(FAILURES[failure], count=None)
        play(context, clock, 5, lambda: open_records("default").count() <= len(poisoned))
        play(context, clock, 10, lambda: not open_records("default").exists())
        assert len(posts(sandbox)) <= 40 + 10 * len(poisoned)
        assert sandbox.violations == []
    rejections = OutboxRejection.objects.using("default")
    assert {rejection.record_id for rejection in rejections} == {rows[position] for position in poisoned}
    code = CODES.get(failure, f"HTTP_{failure.split()[0]}")
    assert {rejection.code for rejection in rejections} == {code}


FORBIDDEN = '"_product_id":"forbidden"'


@pytest.mark.django_db(databases=["default"])
@pytest.mark.parametrize(
    "fault",
    [Fault(status=403), Fault.proxy_page(403), Fault.server_error(), Fault.drop_before()],
    ids=["403", "403 page", "500", "closed"],
)
def test_a_group_that_always_fails_is_set_aside_and_the_others_go_on(sqlite_context, clock, fault):
    context = with_settings(sqlite_context, max_batch_records=10)
    enqueue("default", *range(100), _product_id="forbidden")
    with serve(context, clock) as (context, sandbox):
        sandbox.fail_next(dataclasses.replace(fault, containing=FORBIDDEN), count=None)
        for number in range(60):
            enqueue("default", 1000 + number, _product_id="allowed")
            for _ in range(20):
                relay(context, 1)
                poll(context, 1)
                clock.move(0.5)
        assert not open_records("default").exclude(product_id="forbidden").exists()
        assert len(posts(sandbox)) < 60 + 170
        (group,) = OutboxGroup.objects.using("default").all()
        assert (group.product_id, group.state) == ("forbidden", "paused")
        assert not OutboxRecord.rows.using("default").rejected().exists()
        sandbox.clear_faults()
        play(context, clock, 15, lambda: not open_records("default").exists())
        assert len(sandbox.records()) == 160


@pytest.mark.django_db(databases=["default"])
@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_refused_key_is_probed_rarely_and_no_batch_is_isolated(sqlite_context, clock, status):
    for group in range(4):
        enqueue("default", *range(100 * group, 100 * group + 30), _product_id=f"product-{group}")
    with serve(sqlite_context, clock) as (context, sandbox):
        sandbox.fail_next(Fault(status=status), count=None)
        start = clock.now()
        while (clock.now() - start).total_seconds() < 3600:
            relay(context, 1)
            clock.move(0.5)
        assert len(posts(sandbox)) < 80
        assert not OutboxBatch.objects.using("default").filter(state__in=["isolating", "split"]).exists()
        sandbox.clear_faults()
        play(context, clock, 4, lambda: not open_records("default").exists())
        assert len(sandbox.records()) == 120


@pytest.mark.django_db(databases=["default"])
@pytest.mark.parametrize(
    "fault",
    [Fault.server_error(), Fault.drop_before(), Fault.proxy_page(403)],
    ids=["500", "closed", "403 page"],
)
def test_an_outage_of_two_hours_isolates_and_rejects_nothing(sqlite_context, clock, fault):
    for group in range(4):
        enqueue("default", *range(100 * group, 100 * group + 30), _product_id=f"product-{group}")
    with serve(sqlite_context, clock) as (context, sandbox):
        sandbox.fail_next(fault, count=None)
        start = clock.now()
        while (clock.now() - start).total_seconds() < 7200:
            relay(context, 1)
            clock.move(5)
            if clock.now().second < 5:
                enqueue("default", 1000 + clock.now().minute, _product_id="product-9")
        batches = OutboxBatch.objects.using("default")
        assert not batches.filter(state__in=["isolating", "split"]).exists()
        assert batches.count() < 10
        sandbox.clear_faults()
        play(context, clock, 15, lambda: not open_records("default").exists())
        assert not OutboxRecord.rows.using("default").rejected().exists()
        assert sandbox.violations == []


@pytest.mark.django_db(databases=["default"])
@pytest.mark.parametrize("percent", [30, 50])
def test_an_api_that_fails_at_random_rejects_nothing(sqlite_context, clock, percent):
    context = with_settings(sqlite_context, max_batch_records=1)
    rng = random.Random(percent)
    with serve(context, clock) as (context, sandbox):
        for number in range(0, 300, 10):
            enqueue("default", *range(number, number + 10))
            for _ in range(40):
                if rng.random() * 100 < percent:
                    sandbox.fail_next(Fault.server_error(), count=1)
                send_next(context)
                clock.move(0.5)
        sandbox.clear_faults()
        play(context, clock, 15, lambda: not open_records("default").exists())
        assert not OutboxRecord.rows.using("default").rejected().exists()
        assert len(sandbox.records()) == 300


@pytest.mark.django_db(databases=["default"])
@pytest.mark.parametrize("failure", ["403 page", "403", "402", "500", "closed"])
def test_a_batch_without_any_other_traffic_is_searched_although_newer_versions_wait(
    sqlite_context, clock, failure
):
    enqueue_with_poison("default", 20, {7})
    with serve(sqlite_context, clock) as (context, sandbox):
        sandbox.fail_next(FAILURES[failure], count=None)
        relay(context, 1)
        enqueue_with_poison("default", 20, {7})
        is_delivered = OutboxRecord.objects.using("default").filter(state="delivered")
        play(context, clock, 10, lambda: is_delivered.count() == 38)
        assert len(posts(sandbox)) < 80
        assert sandbox.violations == []
        assert not OutboxGroup.objects.using("default").filter(state="paused").exists()


@pytest.mark.django_db(databases=["default"])
@pytest.mark.parametrize("bad", [1, 3, 10])
@pytest.mark.parametrize("failure", ["403 page", "500", "closed"])
def test_a_search_needs_few_more_requests_than_the_bound(sqlite_context, clock, failure, bad):
    poisoned = set(random.Random(bad).sample(range(1_000), bad))
    enqueue_with_poison("default", 1_000, poisoned)
    for group in range(5):
        enqueue("default", *range(2_000, 2_003), _product_id=f"product-{group}")
    with serve(sqlite_context, clock) as (context, sandbox):
        sandbox.fail_next(FAILURES[failure], count=None)
        play(context, clock, 10, lambda: open_records("default").count() <= bad)
        play(context, clock, 20, lambda: not open_records("default").exists())
        bound = 1.1 * math.log2(math.comb(1_000, bad)) + bad + 10
        repetitions = 6 + 7 * bad
        assert len(posts(sandbox)) - 5 <= bound + repetitions
    assert OutboxRecord.rows.using("default").rejected().count() == bad

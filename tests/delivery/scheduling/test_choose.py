"""Groups are chosen on every database: full and small groups side by side, with a bounded number of queries."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext

from evermuse_outbox.delivery.loop import seal_next
from evermuse_outbox.delivery.scanning import scan_groups
from evermuse_outbox.delivery.scheduling import (
    choose,
    choose_groups,
    lingers_until,
    load_run_queue,
    save_run_queue,
)
from evermuse_outbox.delivery.scheduling.scheduler import Reason
from evermuse_outbox.delivery.sealing import sealing_lock
from evermuse_outbox.models import OutboxBatch, OutboxRecord, OutboxWorkspace
from tests.delivery.helpers import seal_all
from tests.delivery.queues import HOT, enqueue_in_group, seal, stored_queue
from tests.records import enqueue
from tests.rows import group


def test_hot_and_small_groups_do_not_starve_each_other(small_requests, clock):
    """Send ten requests per second for twelve seconds: one group is always full, and forty small ones are due."""
    context, sealed = small_requests, []
    for number in range(40):
        enqueue_in_group(context, 1, f"small-{number}", age=25)
    enqueue_in_group(context, 200, HOT, age=7)
    for slot in range(120):
        enqueue_in_group(context, 10, HOT, first=200 + 10 * slot, age=slot % 7)
        sealed.append(seal(context))
        clock.move(0.1)
    counted = Counter(sealed)
    assert set(counted) == {HOT, *(f"small-{number}" for number in range(40))}
    assert set(sealed[:100]) == set(counted), "a small group waited longer than with half of the slots"
    assert counted[HOT] == 80
    last_small = max(position for position, product in enumerate(sealed) if product != HOT)
    shared = sealed[: last_small + 1]
    assert shared.count(HOT) >= len(shared) // 2


def test_small_groups_that_can_wait_leave_the_slots_to_full_requests(small_requests, clock):
    enqueue_in_group(small_requests, 50, HOT, age=1)
    for number in range(5):
        enqueue_in_group(small_requests, 3, f"small-{number}", age=10 + number)
    sealed = [seal(small_requests) for _ in range(10)]
    assert sealed == [HOT] * 5 + [f"small-{number}" for number in (4, 3, 2, 1, 0)]
    assert seal(small_requests) is None


def test_groups_of_equal_size_take_turns(context, alias, sandbox, outbox_settings, reopen):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_RECORDS=1)
    for number in range(3):
        enqueue(alias, number)
        enqueue(alias, 10 + number, _product_id="other")
        enqueue(alias, 20 + number, _type="call")
    groups = [(sealed.batch.type, sealed.batch.product_id) for sealed in seal_all(reopen())]
    assert len(groups) == 9
    assert all(len(set(groups[start : start + 3])) == 3 for start in (0, 3, 6))


def test_a_single_record_in_a_new_group_is_sealed_next(small_requests):
    enqueue_in_group(small_requests, 1, "a", age=1)
    assert seal(small_requests) == "a"
    enqueue_in_group(small_requests, 1, "b", age=1)
    assert seal(small_requests) == "b"
    assert seal(small_requests) is None


def test_a_group_that_is_new_since_the_group_scan_waits_for_the_next_one(small_requests, clock):
    enqueue_in_group(small_requests, 400, HOT, age=1)
    assert seal(small_requests) == HOT
    enqueue_in_group(small_requests, 1, "late", age=40)
    assert [seal(small_requests) for _ in range(3)] == [HOT] * 3
    clock.move(choose.MIN_LIFETIME)
    assert seal(small_requests) == "late"


def test_a_group_that_was_emptied_since_the_group_scan_is_skipped(small_requests):
    enqueue_in_group(small_requests, 10, HOT, age=1)
    enqueue_in_group(small_requests, 1, "gone", age=9)
    enqueue_in_group(small_requests, 1, "there", age=1)
    assert seal(small_requests) == HOT
    OutboxRecord.objects.using(small_requests.using).filter(product_id="gone").discard()
    assert seal(small_requests) == "there"


def test_blocked_groups_delay_no_other_and_are_sealed_as_soon_as_possible(small_requests):
    for product in ("one", "two"):
        enqueue_in_group(small_requests, 1, product, age=5)
    assert {seal(small_requests), seal(small_requests)} == {"one", "two"}
    for product in ("one", "two"):  # newer versions, blocked while the older ones are in flight
        enqueue_in_group(small_requests, 1, product, age=50)
    enqueue_in_group(small_requests, 1, "free", age=1)
    assert [seal(small_requests), seal(small_requests)] == ["free", None]
    OutboxBatch.objects.using(small_requests.using).update(
        state="split", lease_token=None, leased_until=None, finished_at=small_requests.clock.now()
    )
    assert {seal(small_requests), seal(small_requests)} == {"one", "two"}


def test_a_group_that_was_tried_is_left_out_of_the_next_run_queue(small_requests, clock):
    enqueue_in_group(small_requests, 1, "one", age=5)
    assert seal(small_requests) == "one"
    enqueue_in_group(small_requests, 1, "one", age=50)
    enqueue_in_group(small_requests, 30, HOT, age=1)
    assert seal(small_requests) == HOT
    clock.move(choose.MIN_LIFETIME)
    assert seal(small_requests) == HOT
    assert [product for _, product, _ in stored_queue(small_requests)["entries"]] == [HOT]


def test_a_paused_group_is_left_out_until_its_probe_is_due(small_requests, clock):
    enqueue_in_group(small_requests, 30, "bad", age=50)
    enqueue_in_group(small_requests, 1, "good", age=1)
    group(small_requests.using, "paused", product_id="bad", blocked_until=clock.now() + timedelta(seconds=60))
    assert [seal(small_requests), seal(small_requests)] == ["good", None]
    clock.move(61)
    sealed = seal_next(small_requests)
    assert (sealed.batch.product_id, sealed.batch.record_count) == ("bad", 1)


def test_groups_whose_bytes_fill_a_request_are_known_as_full(
    context, alias, sandbox, outbox_settings, reopen
):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_BYTES=4_000, MAX_WAIT=30)
    context = reopen()
    enqueue_in_group(context, 40, "large", age=1)
    enqueue_in_group(context, 1, "small", age=9)
    assert [seal(context), seal(context)] == ["small", "large"]  # the size of a full request is unknown yet
    enqueue_in_group(context, 1, "small", first=1, age=9)
    assert seal(context) == "large"
    [[kind, product, records, _]] = stored_queue(context)["recently_full"]
    assert (kind, product) == ("message", "large")
    assert 1 < records < 40


# --- lingering ------------------------------------------------------------------------------------------


def set_enqueued_at(context, seconds):
    """Let all records be enqueued so many seconds ago."""
    at = context.clock.now() - timedelta(seconds=seconds)
    OutboxRecord.rows.using(context.using).update(enqueued_at=at)


@pytest.fixture
def lingering(sandbox, outbox_settings, reopen):
    """A context with a ``LINGER`` of ten seconds and two records in a request."""
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", LINGER=10, MAX_BATCH_RECORDS=2)
    return reopen()


def test_a_lone_record_is_sealed_at_once_and_the_next_one_lingers(lingering, alias, clock):
    for number in range(2):
        enqueue(alias, number)
        set_enqueued_at(lingering, 0)
        assert len(seal_next(lingering).members) == 1
        enqueue(alias, 10 + number)
        clock.move(9)
        set_enqueued_at(lingering, 1)
        assert seal_next(lingering) is None
        clock.move(1.1)
        assert len(seal_next(lingering).members) == 1
        clock.move(10)


def test_a_record_of_another_group_does_not_linger(lingering, alias, clock):
    enqueue(alias, 1)
    assert seal_next(lingering)
    enqueue(alias, 2, _product_id="other")
    set_enqueued_at(lingering, 0)
    assert seal_next(lingering).batch.product_id == "other"


def test_the_rest_of_a_full_request_does_not_linger(lingering, alias, clock):
    enqueue(alias, 1, 2, 3)
    set_enqueued_at(lingering, 0)
    assert [len(seal_next(lingering).members) for _ in range(2)] == [2, 1]


def test_only_the_seals_of_the_last_linger_are_stored(lingering, alias, clock):
    for number in range(3):
        enqueue(alias, number, _product_id=f"p{number}")
        set_enqueued_at(lingering, 0)
        seal_next(lingering)
        clock.move(6)
    assert [product for _, product, _ in stored_queue(lingering)["sealed_at"]] == ["p1", "p2"]


def test_the_end_of_the_linger_is_known(lingering, alias, clock):
    enqueue(alias, 1)
    sealed_at = clock.now()
    assert seal_next(lingering)
    clock.move(4)
    now, group, other = clock.now(), ("message", "prod-abc"), ("message", "other")
    ends = lingers_until(alias, "default", {group: now, other: now}, now, 10)
    assert ends == {group: sealed_at + timedelta(seconds=10), other: now}


def test_a_full_request_does_not_linger(lingering, alias, clock):
    enqueue(alias, 0)
    assert seal_next(lingering)
    enqueue(alias, 1)
    set_enqueued_at(lingering, 0)
    assert seal_next(lingering) is None
    enqueue(alias, 2)
    set_enqueued_at(lingering, 0)
    assert len(seal_next(lingering).members) == 2


def test_a_record_from_a_clock_that_is_ahead_does_not_linger_forever(
    context, alias, clock, outbox_settings, reopen
):
    outbox_settings(LINGER=10)
    context = reopen()
    enqueue(alias, 0)
    assert seal_next(context)
    enqueue(alias, 1)
    OutboxRecord.rows.using(alias).update(enqueued_at=clock.now() + timedelta(days=1))
    assert seal_next(context)


# --- the stored run queue -------------------------------------------------------------------------------


def test_a_run_queue_is_longer_after_a_slow_scan(small_requests, alias):
    enqueue_in_group(small_requests, 300, HOT, age=1)
    with sealing_lock(small_requests) as workspace:
        queue = load_run_queue(small_requests, workspace)
        queue.lifetime = 2.5
        scan = scan_groups(small_requests, queue, excluded=())
        choose_groups(small_requests, queue, scan)
    assert len(queue.entries) == 25


def test_a_stored_run_queue_is_only_a_hint(small_requests):
    enqueue_in_group(small_requests, 1, "a", age=1)
    for stored in (None, [], "nonsense", {"entries": "nonsense"}, {"made_at": 10**12, "lifetime": 10**12}):
        OutboxWorkspace.objects.using(small_requests.using).update_or_create(
            pk="default",
            defaults={"run_queue": stored if stored is not None else {}, "arrival_rates": "nonsense"},
        )
        with transaction.atomic(using=small_requests.using):
            assert seal(small_requests) == "a"
            transaction.set_rollback(True, using=small_requests.using)


def test_reasons_are_stored_with_the_run_queue(small_requests):
    enqueue_in_group(small_requests, 30, HOT, age=1)
    enqueue_in_group(small_requests, 1, "due", age=40)
    seal(small_requests)
    assert {reason for *_, reason in stored_queue(small_requests)["entries"]} == {Reason.FULL.value}


# --- cost -----------------------------------------------------------------------------------------------


def test_the_number_of_queries_does_not_grow_with_the_groups(small_requests, alias):
    def count_queries(seal_count):
        with CaptureQueriesContext(connections[alias]) as captured:
            for _ in range(seal_count):
                assert seal_next(small_requests)
        return len(captured)

    enqueue_in_group(small_requests, 300, HOT, age=1)
    enqueue_in_group(small_requests, 2, "one", age=1)
    alone = count_queries(8)
    for number in range(150):
        enqueue_in_group(small_requests, 2, f"p{number}", age=1)
    OutboxWorkspace.objects.using(alias).update(run_queue={})
    assert count_queries(8) <= alone + 8  # one query counts sixteen groups


def test_choosing_costs_no_query_while_the_run_queue_lasts(small_requests, alias):
    enqueue_in_group(small_requests, 300, HOT, age=1)
    assert seal(small_requests) == HOT
    with sealing_lock(small_requests) as workspace:
        with CaptureQueriesContext(connections[alias]) as captured:
            queue = load_run_queue(small_requests, workspace)
            assert queue.take().group == ("message", HOT)
        assert len(captured) == 0
        with CaptureQueriesContext(connections[alias]) as captured:
            save_run_queue(small_requests, workspace, queue)
        assert len(captured) == 1

"""Choosing groups on every database: hot and small groups side by side, with a number of queries that does not grow."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

import pytest
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext

from evermuse_outbox import outbox
from evermuse_outbox.delivery.context import open_context
from evermuse_outbox.delivery.loop import seal_next
from evermuse_outbox.delivery.scheduling import (
    choose,
    group_scan,
    has_work,
    load_run_queue,
    save_run_queue,
    sql,
)
from evermuse_outbox.delivery.scheduling.run_queue import FULL_SCAN_INTERVAL, ResumePoint
from evermuse_outbox.delivery.scheduling.scheduler import Reason
from evermuse_outbox.delivery.sealing import sealing_lock
from evermuse_outbox.models import (
    OutboxBatch,
    OutboxGroup,
    OutboxRecord,
    OutboxWorkspace,
    group_key,
)
from tests.records import enqueue, record

HOT = "hot"


@pytest.fixture
def small_requests(context, sandbox, outbox_settings, reopen):
    """Requests of ten records, a bound of thirty seconds."""
    outbox_settings(
        API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_RECORDS=10, MAX_WAIT=30, LINGER=0.2
    )
    return reopen()


def enqueue_in_group(context, count, product, *, first=0, age=0.0):
    """Enqueue ``count`` records of one group, as if ``age`` seconds ago."""
    rows = enqueue(
        context.using,
        *(f"{product}-{number}" for number in range(first, first + count)),
        _product_id=product,
    )
    added = OutboxRecord.rows.using(context.using).filter(pk__in=[row.pk for row in rows])
    added.update(enqueued_at=context.clock.now() - timedelta(seconds=age))


def seal(context):
    sealed = seal_next(context)
    return sealed and sealed.batch.product_id


def stored_queue(context):
    return OutboxWorkspace.objects.using(context.using).get().run_queue


def test_hot_and_small_groups_do_not_starve_each_other(small_requests, clock):
    """Ten requests a second for twelve seconds: a group that is always full, and forty small ones at the bound."""
    context, went = small_requests, []
    for number in range(40):
        enqueue_in_group(context, 1, f"small-{number}", age=25)
    enqueue_in_group(context, 200, HOT, age=7)
    for slot in range(120):
        enqueue_in_group(context, 10, HOT, first=200 + 10 * slot, age=slot % 7)
        went.append(seal(context))
        clock.move(0.1)
    counted = Counter(went)
    assert set(counted) == {HOT, *(f"small-{number}" for number in range(40))}
    assert set(went[:100]) == set(counted), "a small group waited beyond what half of the slots allow"
    assert counted[HOT] == 80
    crowded = went[: 1 + max(place for place, name in enumerate(went) if name != HOT)]
    assert crowded.count(HOT) >= len(crowded) // 2


def test_small_groups_that_can_wait_leave_the_slots_to_full_requests(small_requests, clock):
    enqueue_in_group(small_requests, 50, HOT, age=1)
    for number in range(5):
        enqueue_in_group(small_requests, 3, f"small-{number}", age=10 + number)
    went = [seal(small_requests) for _ in range(10)]
    assert went == [HOT] * 5 + [f"small-{number}" for number in (4, 3, 2, 1, 0)]
    assert seal(small_requests) is None


def test_a_single_record_in_a_new_group_is_sealed_next(small_requests):
    enqueue_in_group(small_requests, 1, "a", age=1)
    assert seal(small_requests) == "a"
    enqueue_in_group(small_requests, 1, "b", age=1)
    assert seal(small_requests) == "b"
    assert seal(small_requests) is None


def test_a_group_that_is_new_since_the_group_scan_waits_a_second_and_its_turn(small_requests, clock):
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
    for product in ("one", "two"):  # newer versions, fenced while the older are in flight
        enqueue_in_group(small_requests, 1, product, age=50)
    enqueue_in_group(small_requests, 1, "free", age=1)
    assert [seal(small_requests), seal(small_requests)] == ["free", None]
    OutboxBatch.objects.using(small_requests.using).update(
        state="failed", lease_token=None, leased_until=None, finished_at=small_requests.clock.now()
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


def test_a_run_queue_is_longer_after_a_slow_scan(small_requests, alias):
    enqueue_in_group(small_requests, 300, HOT, age=1)
    with sealing_lock(small_requests) as workspace:
        queue = load_run_queue(small_requests, workspace)
        queue.lifetime = 2.5
        scan = choose.scan_for_groups(small_requests, workspace, queue, excluded=())
        choose.choose_groups(small_requests, queue, scan)
    assert len(queue.entries) == 25


def test_a_stored_run_queue_is_only_a_hint(small_requests):
    enqueue_in_group(small_requests, 1, "a", age=1)
    for told in (None, [], "nonsense", {"entries": "nonsense"}, {"made_at": 10**12, "lifetime": 10**12}):
        OutboxWorkspace.objects.using(small_requests.using).update_or_create(
            pk="default",
            defaults={"run_queue": told if told is not None else {}, "arrival_rates": "nonsense"},
        )
        with transaction.atomic(using=small_requests.using):
            assert seal(small_requests) == "a"
            transaction.set_rollback(True, using=small_requests.using)


def test_groups_whose_bytes_fill_a_request_are_known_as_full(
    context, alias, sandbox, outbox_settings, reopen
):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_BYTES=4_000, MAX_WAIT=30)
    context = reopen()
    enqueue_in_group(context, 40, "large", age=1)
    enqueue_in_group(context, 1, "small", age=9)
    assert [seal(context), seal(context)] == ["small", "large"]  # nobody knew yet
    enqueue_in_group(context, 1, "small", first=1, age=9)
    assert seal(context) == "large"
    [[kind, product, records, _]] = stored_queue(context)["recently_full"]
    assert (kind, product) == ("message", "large")
    assert 1 < records < 40


def test_a_paused_group_is_left_out_until_its_probe_is_due(small_requests, clock):
    enqueue_in_group(small_requests, 30, "bad", age=50)
    enqueue_in_group(small_requests, 1, "good", age=1)
    OutboxGroup.objects.using(small_requests.using).create(
        scope="x", workspace="default", type="message", product_id="bad", state="paused", contract="reference",
        since=clock.now(), blocked_until=clock.now() + timedelta(seconds=60), error_signature="",
    )  # fmt: skip
    assert [seal(small_requests), seal(small_requests)] == ["good", None]
    clock.move(61)
    sealed = seal_next(small_requests)
    assert (sealed.batch.product_id, sealed.batch.record_count) == ("bad", 1)


# --- cost -----------------------------------------------------------------------------------------------


def test_the_queries_do_not_grow_with_the_groups(small_requests, alias):
    def queries(seal_count):
        with CaptureQueriesContext(
            connections[alias],
        ) as counted:
            for _ in range(seal_count):
                assert seal_next(small_requests)
        return len(counted)

    enqueue_in_group(small_requests, 300, HOT, age=1)
    enqueue_in_group(small_requests, 2, "one", age=1)
    alone = queries(8)
    for number in range(150):
        enqueue_in_group(small_requests, 2, f"p{number}", age=1)
    OutboxWorkspace.objects.using(alias).update(run_queue={})
    assert queries(8) <= alone + 8  # more groups to look into, sixteen a query


def test_choosing_costs_no_query_while_the_run_queue_lasts(small_requests, alias):
    enqueue_in_group(small_requests, 300, HOT, age=1)
    assert seal(small_requests) == HOT
    with sealing_lock(small_requests) as workspace:
        with CaptureQueriesContext(connections[alias]) as counted:
            queue = load_run_queue(small_requests, workspace)
            assert queue.take().group == ("message", HOT)
        assert len(counted) == 0
        with CaptureQueriesContext(connections[alias]) as counted:
            save_run_queue(small_requests, workspace, queue)
        assert len(counted) == 1


# --- the group scan -----------------------------------------------------------------------------------------


def test_a_group_scan_finds_all_groups_with_their_oldest(context, clock, sandbox):
    for number, (kind, product) in enumerate(
        [("call", "b"), ("call", "a"), ("message", "a"), ("email", "c")]
    ):
        for age in (number, 50 + number):
            row = outbox.enqueue(
                record(f"{number}-{age}", _type=kind, _product_id=product), using=context.using
            )
            OutboxRecord.rows.using(context.using).filter(pk=row.pk).update(
                enqueued_at=clock.now() - timedelta(seconds=age)
            )
    OutboxRecord.rows.using(context.using).filter(type="email").update(closed_as="discarded")
    ages = {
        group: (clock.now() - head.enqueued_at).total_seconds()
        for group, head in group_scan.read_groups(context, ("", ""), 99, {})
    }
    assert ages == {("call", "a"): 51, ("call", "b"): 50, ("message", "a"): 52}
    assert [found.group for found in group_scan.read_groups(context, ("call", "a"), 1, {})] == [("call", "b")]
    assert group_scan.read_groups(context, ("message", "a"), 99, {}) == []


def test_a_group_scan_begins_at_the_heads_that_are_known(context):
    for product in "bdf":
        enqueue_in_group(context, 4, product)
    rows = OutboxRecord.rows.using(context.using).order_by("pk")
    heads = {
        ("message", product): ResumePoint(row.enqueued_at, row.pk)
        for product in "bdf"
        for row in rows.filter(product_id=product)[2:3]
    }
    heads[("message", "e")] = heads[("message", "b")]  # known, and empty by now
    for product in "aceg":
        enqueue_in_group(context, 1 if product != "e" else 0, product)
    found = dict(group_scan.read_groups(context, ("", ""), 99, heads))
    assert [product for _, product in found] == ["a", "b", "c", "d", "f", "g"]
    if connections[context.using].vendor == "postgresql":
        assert {group: found[group] for group in heads if group in found} == {
            group: head for group, head in heads.items() if group in found
        }
    behind = group_scan.read_groups(context, ("message", "b"), 2, heads)
    assert [one.group[1] for one in behind] == ["c", "d"]
    assert [one.group[1] for one in group_scan.read_groups(context, ("message", "e"), 9, heads)] == ["f", "g"]


def test_depths_are_counted_no_further_than_asked(context, clock):
    enqueue_in_group(context, 7, "a", age=3)
    most = {("message", "a"): 5, ("message", "none"): 5}
    found = group_scan.count_pending(context, most, {})
    assert found == {
        ("message", "a"): (5, clock.now() - timedelta(seconds=3)),
        ("message", "none"): (0, None),
    }
    assert group_scan.count_pending(context, {}, {}) == {}


@pytest.mark.parametrize("namesake", ["Shop", "shop "])
def test_a_group_does_not_wait_for_its_namesake(small_requests, clock, alias, namesake):
    enqueue_in_group(small_requests, 3, namesake, age=9)
    enqueue_in_group(small_requests, 3, "shop", age=5)
    OutboxGroup.objects.using(alias).create(
        scope=group_key(small_requests.workspace_name, "message", namesake),
        workspace=small_requests.workspace_name,
        type="message",
        product_id=namesake,
        contract="reference",
        state="paused",
        since=clock.now(),
        blocked_until=clock.now() + timedelta(hours=1),
    )
    assert [seal(small_requests), seal(small_requests)] == ["shop", None], "exactly that one waits"
    assert dict(group_scan.read_groups(small_requests, ("", ""), 9, {})).keys() == {("message", namesake)}


@pytest.mark.parametrize("namesake", ["Shop", "shöp", "shop "])
def test_a_workspace_seals_nothing_of_its_namesake(alias, outbox_settings, namesake):
    outbox_settings(WORKSPACES={"shop": {"API_KEY": "em_sk_1"}, namesake: {"API_KEY": "em_sk_2"}})
    row = outbox.enqueue(record(1), using=alias, workspace=namesake)
    shop, other = open_context(alias, "shop"), open_context(alias, namesake)
    assert not has_work(shop)
    assert seal_next(shop) is None
    assert seal_next(other).members == (row.pk,)
    assert OutboxWorkspace.objects.using(alias).count() == 2


def test_more_groups_than_one_group_scan_looks_at_have_their_turn(small_requests, monkeypatch):
    monkeypatch.setattr(group_scan, "MAX_GROUPS", 3)
    for number in range(8):
        enqueue_in_group(small_requests, 1, f"p{number}", age=1)
    assert sorted(seal(small_requests) for _ in range(8)) == [f"p{number}" for number in range(8)]


def test_groups_that_are_not_ready_do_not_hide_later_ones(small_requests, monkeypatch):
    monkeypatch.setattr(group_scan, "MAX_GROUPS", 3)
    for product in ("a", "b", "c"):
        enqueue_in_group(small_requests, 1, product)
    enqueue_in_group(small_requests, 1, "z", age=1)
    assert [seal(small_requests), seal(small_requests)] == [None, "z"]


def test_a_full_group_outside_the_part_that_was_looked_at_is_not_forgotten(
    small_requests, monkeypatch, clock
):
    enqueue_in_group(small_requests, 200, HOT, age=1)
    assert seal(small_requests) == HOT
    monkeypatch.setattr(group_scan, "MAX_GROUPS", 3)
    for number in range(12):
        enqueue_in_group(small_requests, 1, f"p{number}", age=1)
    went = []
    for _ in range(4):
        clock.move(choose.MIN_LIFETIME)
        went.append(seal(small_requests))
    assert went == [HOT] * 4


def test_reasons_are_stored_with_the_run_queue(small_requests):
    enqueue_in_group(small_requests, 30, HOT, age=1)
    enqueue_in_group(small_requests, 1, "due", age=40)
    seal(small_requests)
    assert {reason for *_, reason in stored_queue(small_requests)["entries"]} == {Reason.FULL.value}


INDEX_ONLY = {
    "sqlite": lambda plan: "SCAN evermuse_outbox_outboxrecord" not in plan and "TEMP B-TREE" not in plan,
    "postgresql": lambda plan: "Seq Scan" not in plan and "Sort" not in plan,
    "mysql": lambda plan: "filesort" not in plan and "index for group-by" in plan,
}


@pytest.mark.commits  # as ANALYZE does in MariaDB
def test_a_group_scan_walks_the_index(context, alias):
    for number in range(40):
        enqueue_in_group(context, 40, f"p{number}")
    connection = connections[alias]
    with connection.cursor() as cursor:
        if connection.vendor != "sqlite":
            table = "TABLE" if connection.vendor == "mysql" else ""
            cursor.execute(f"ANALYZE {table} {sql.TABLE}")
        explain = {"sqlite": "EXPLAIN QUERY PLAN"}.get(connection.vendor, "EXPLAIN")
        query, parameters = sql.groups_query(connection.vendor, context.workspace_name, ("", ""), 100, {})
        cursor.execute(f"{explain} {query}", parameters)
        plan = "\n".join(str(row) for row in cursor.fetchall())
    assert sql.INDEX in plan
    assert INDEX_ONLY[connection.vendor](plan), plan


# --- where a group begins -----------------------------------------------------------------------------------


def begins(query):
    """Whether a query looks for pending records behind a moment."""
    return '"enqueued_at" >=' in query.replace("`", '"')


def pages(captured):
    return [
        query["sql"] for query in captured if "payload" in query["sql"] and "UPDATE" not in query["sql"][:6]
    ]


def test_a_group_is_read_from_its_resume_point(small_requests, clock):
    for age in (40, 30, 20):
        enqueue_in_group(small_requests, 10, HOT, first=age, age=age)
    for taken in (40, 30):
        with CaptureQueriesContext(connections[small_requests.using]) as captured:
            assert seal(small_requests) == HOT
        assert all(map(begins, pages(captured)))
        ((*group, head, pk),) = stored_queue(small_requests)["resume_points"]
        assert group == ["message", HOT]
        assert datetime.fromisoformat(head) == clock.now() - timedelta(seconds=taken)
        assert OutboxRecord.rows.using(small_requests.using).get(pk=pk).batch is not None


def test_no_record_is_lost_or_read_twice_among_many_of_the_same_time(small_requests):
    enqueue_in_group(small_requests, 35, HOT, age=9)
    sealed = [seal_next(small_requests).members for _ in range(4)]
    assert [len(members) for members in sealed] == [10, 10, 10, 5]
    assert len({pk for members in sealed for pk in members}) == 35


def test_a_record_that_is_committed_late_behind_younger_ones_is_found_by_the_next_run_queue(
    small_requests, clock
):
    enqueue_in_group(small_requests, 20, HOT, age=20)
    assert seal(small_requests) == HOT
    enqueue_in_group(small_requests, 1, HOT, first=99, age=500)
    assert seal(small_requests) == HOT
    clock.move(1)
    assert seal(small_requests) == HOT
    assert not OutboxRecord.rows.using(small_requests.using).pending().exists()


def test_a_record_that_is_committed_late_is_found_by_the_next_full_scan(small_requests, clock, alias):
    enqueue_in_group(small_requests, 90, HOT, age=20)
    assert seal(small_requests) == HOT
    rows = OutboxWorkspace.objects.using(alias)
    told = stored_queue(small_requests)
    rows.update(run_queue=told | {"full_scan_seconds": 1.0})  # as on a table where a sweep is dear
    enqueue_in_group(small_requests, 1, HOT, first=99, age=500)
    late = OutboxRecord.rows.using(alias).filter(enqueued_at__lt=clock.now() - timedelta(seconds=400))
    while clock.now().timestamp() < told["full_scan_at"] + FULL_SCAN_INTERVAL:
        assert seal(small_requests) == HOT
        enqueue_in_group(small_requests, 10, HOT, first=int(clock.now().timestamp()), age=1)
        assert late.pending().exists() or connections[alias].vendor != "postgresql"
        clock.move(5)
    assert seal(small_requests) == HOT
    assert not late.pending().exists()


def test_blocked_records_are_read_again(small_requests, clock):
    context = small_requests
    older = [record(f"{HOT}-{number}", _product_id=HOT) for number in range(3)]
    outbox.enqueue_many(older, using=context.using)
    assert seal(context) == HOT  # and now the newer versions have to wait
    clock.move(5)
    outbox.enqueue_many((version | {"data": {"text": "newer"}} for version in older), using=context.using)
    enqueue_in_group(context, 40, HOT, first=10, age=1)
    OutboxRecord.rows.using(context.using).pending().filter(payload__contains="newer").update(
        enqueued_at=clock.now() - timedelta(seconds=3)
    )
    assert seal(context) == HOT
    OutboxBatch.objects.using(context.using).filter(record_count=3).update(
        state="complete", remote_id="r", lease_token=None, leased_until=None
    )
    assert seal(context) == HOT
    waiting = OutboxRecord.rows.using(context.using).pending().filter(payload__contains="newer")
    assert not waiting.exists(), "what was fenced is at the head still, not behind it"


def test_a_small_request_is_not_delayed_by_many_blocked_records_before_it(small_requests, clock):
    context = small_requests
    older = [record(f"{HOT}-{number}", _product_id=HOT) for number in range(60)]
    outbox.enqueue_many(older, using=context.using)
    assert [seal(context) for _ in range(6)] == [HOT] * 6  # and now the newer versions have to wait
    outbox.enqueue_many((version | {"data": {"text": "newer"}} for version in older), using=context.using)
    OutboxRecord.rows.using(context.using).pending().update(enqueued_at=clock.now() - timedelta(seconds=9))
    clock.move(1)
    enqueue_in_group(context, 1, HOT, first=99, age=1)
    assert f"{HOT}-99" in seal_next(context).body.decode()


def test_depths_are_counted_from_where_the_resume_point(context, clock):
    enqueue_in_group(context, 4, "a", age=9)
    enqueue_in_group(context, 3, "a", first=10, age=3)
    group = ("message", "a")
    since = clock.now() - timedelta(seconds=3)
    assert group_scan.count_pending(context, {group: 9}, {group: ResumePoint(since, 0)})[group] == (3, since)

"""The group scan on every database: it finds every group, counts no more than needed, and reads only the index."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connections

from evermuse_outbox import outbox
from evermuse_outbox.delivery.scanning import group_scan, sql, sql_common
from evermuse_outbox.delivery.scheduling import ResumePoint, choose
from evermuse_outbox.delivery.scheduling.run_queue import FULL_SCAN_INTERVAL
from evermuse_outbox.models import OutboxGroup, OutboxRecord, OutboxWorkspace, group_key
from tests.delivery.queues import HOT, enqueue_in_group, seal, stored_queue
from tests.records import record


def test_a_group_scan_finds_every_group_with_its_oldest_record(context, clock, sandbox):
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
        group: (clock.now() - oldest.enqueued_at).total_seconds()
        for group, oldest in group_scan.read_groups(context, ("", ""), 99, {})
    }
    assert ages == {("call", "a"): 51, ("call", "b"): 50, ("message", "a"): 52}
    assert [row.group for row in group_scan.read_groups(context, ("call", "a"), 1, {})] == [("call", "b")]
    assert group_scan.read_groups(context, ("message", "a"), 99, {}) == []


def test_a_group_scan_begins_at_the_known_resume_points(context):
    for product in "bdf":
        enqueue_in_group(context, 4, product)
    rows = OutboxRecord.rows.using(context.using).order_by("pk")
    points = {
        ("message", product): ResumePoint(row.enqueued_at, row.pk)
        for product in "bdf"
        for row in rows.filter(product_id=product)[2:3]
    }
    points[("message", "e")] = points[("message", "b")]  # known, but the group is empty now
    for product in "aceg":
        enqueue_in_group(context, 1 if product != "e" else 0, product)
    scanned = dict(group_scan.read_groups(context, ("", ""), 99, points))
    assert [product for _, product in scanned] == ["a", "b", "c", "d", "f", "g"]
    if connections[context.using].vendor == "postgresql":
        assert {group: scanned[group] for group in points if group in scanned} == {
            group: point for group, point in points.items() if group in scanned
        }
    after_b = group_scan.read_groups(context, ("message", "b"), 2, points)
    assert [row.group[1] for row in after_b] == ["c", "d"]
    after_e = group_scan.read_groups(context, ("message", "e"), 9, points)
    assert [row.group[1] for row in after_e] == ["f", "g"]


def test_pending_records_are_counted_up_to_the_limit(context, clock):
    enqueue_in_group(context, 7, "a", age=3)
    limits = {("message", "a"): 5, ("message", "none"): 5}
    assert group_scan.count_pending(context, limits, {}) == {
        ("message", "a"): (5, clock.now() - timedelta(seconds=3)),
        ("message", "none"): (0, None),
    }
    assert group_scan.count_pending(context, {}, {}) == {}


def test_pending_records_are_counted_from_the_resume_point(context, clock):
    enqueue_in_group(context, 4, "a", age=9)
    enqueue_in_group(context, 3, "a", first=10, age=3)
    group = ("message", "a")
    since = clock.now() - timedelta(seconds=3)
    counts = group_scan.count_pending(context, {group: 9}, {group: ResumePoint(since, 0)})
    assert counts[group] == (3, since)


@pytest.mark.parametrize("similar_name", ["Shop", "shop "])
def test_a_group_is_not_paused_with_one_of_a_similar_name(small_requests, clock, alias, similar_name):
    enqueue_in_group(small_requests, 3, similar_name, age=9)
    enqueue_in_group(small_requests, 3, "shop", age=5)
    OutboxGroup.objects.using(alias).create(
        scope=group_key(small_requests.workspace_name, "message", similar_name),
        workspace=small_requests.workspace_name,
        type="message",
        product_id=similar_name,
        contract="reference",
        state="paused",
        since=clock.now(),
        blocked_until=clock.now() + timedelta(hours=1),
    )
    assert [seal(small_requests), seal(small_requests)] == ["shop", None], "only the paused group waits"
    assert dict(group_scan.read_groups(small_requests, ("", ""), 9, {})).keys() == {("message", similar_name)}


def test_groups_beyond_the_limit_of_one_scan_are_sealed_too(small_requests, monkeypatch):
    monkeypatch.setattr(group_scan, "MAX_GROUPS", 3)
    for number in range(8):
        enqueue_in_group(small_requests, 1, f"p{number}", age=1)
    assert sorted(seal(small_requests) for _ in range(8)) == [f"p{number}" for number in range(8)]


def test_groups_that_are_not_ready_do_not_hide_later_ones(small_requests, monkeypatch):
    for product in ("a", "b", "c"):
        enqueue_in_group(small_requests, 1, product)
    assert sorted(seal(small_requests) for _ in range(3)) == ["a", "b", "c"]
    monkeypatch.setattr(group_scan, "MAX_GROUPS", 3)
    for product in ("a", "b", "c"):  # they linger after their requests
        enqueue_in_group(small_requests, 1, product)
    enqueue_in_group(small_requests, 1, "z", age=1)
    assert [seal(small_requests), seal(small_requests)] == [None, "z"]


def test_a_full_group_outside_of_the_scanned_part_is_not_forgotten(small_requests, monkeypatch, clock):
    enqueue_in_group(small_requests, 200, HOT, age=1)
    assert seal(small_requests) == HOT
    monkeypatch.setattr(group_scan, "MAX_GROUPS", 3)
    for number in range(12):
        enqueue_in_group(small_requests, 1, f"p{number}", age=1)
    sealed = []
    for _ in range(4):
        clock.move(choose.MIN_LIFETIME)
        sealed.append(seal(small_requests))
    assert sealed == [HOT] * 4


# --- records that are committed late --------------------------------------------------------------------


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
    queue = stored_queue(small_requests)
    rows.update(run_queue=queue | {"full_scan_seconds": 1.0})  # as on a table where a full scan is slow
    enqueue_in_group(small_requests, 1, HOT, first=99, age=500)
    late = OutboxRecord.rows.using(alias).filter(enqueued_at__lt=clock.now() - timedelta(seconds=400))
    while clock.now().timestamp() < queue["full_scan_at"] + FULL_SCAN_INTERVAL:
        assert seal(small_requests) == HOT
        enqueue_in_group(small_requests, 10, HOT, first=int(clock.now().timestamp()), age=1)
        assert late.pending().exists() or connections[alias].vendor != "postgresql"
        clock.move(5)
    assert seal(small_requests) == HOT
    assert not late.pending().exists()


# --- SQL ------------------------------------------------------------------------------------------------


INDEX_ONLY = {
    "sqlite": lambda plan: "SCAN evermuse_outbox_outboxrecord" not in plan and "TEMP B-TREE" not in plan,
    "postgresql": lambda plan: "Seq Scan" not in plan and "Sort" not in plan,
    "mysql": lambda plan: "filesort" not in plan and "index for group-by" in plan,
}


@pytest.mark.commits  # because ANALYZE commits in MariaDB
def test_a_group_scan_reads_only_the_index(context, alias, analyze):
    for number in range(40):
        enqueue_in_group(context, 40, f"p{number}")
    connection = connections[alias]
    analyze(sql_common.TABLE)
    with connection.cursor() as cursor:
        explain = {"sqlite": "EXPLAIN QUERY PLAN"}.get(connection.vendor, "EXPLAIN")
        query, parameters = sql.groups_query(connection.vendor, context.workspace_name, ("", ""), 100, {})
        cursor.execute(f"{explain} {query}", parameters)
        plan = "\n".join(str(row) for row in cursor.fetchall())
    assert sql_common.INDEX in plan
    assert INDEX_ONLY[connection.vendor](plan), plan

"""Dropped payloads on every database: which are dropped, what is left of them, and that runs are bounded."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from datetime import timedelta

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from evermuse_outbox import outbox
from evermuse_outbox.conf import get_settings
from evermuse_outbox.delivery.loop import poll, relay
from evermuse_outbox.models import OutboxBatch, OutboxRecord, PayloadDropped
from evermuse_outbox.upkeep import (
    PurgeProgress,
    drop_old_payloads,
    drop_payloads_one_run,
    maintain_all,
    payloads,
    purge_old_rows,
)
from tests.records import enqueue, make_invalid, record
from tests.rows import batch_in, record_in

DAY = 86_400


def lines(alias):
    return dict(OutboxRecord.rows.using(alias).values_list("pk", "payload"))


def finished(context, *states, state="complete", days=4):
    ended = context.clock.now() - timedelta(days=days)
    batch = batch_in(context.using, state, remote_id="r", finished_at=ended, record_count=max(len(states), 1))
    return batch, [record_in(context.using, each, batch) for each in states]


def test_only_delivered_records_lose_their_payload(context, alias, sandbox, clock):
    text = 'Grüße, "Ada"\n\U0001f600'
    delivered, rejected = (outbox.enqueue(record(n, data={"text": text}), using=alias) for n in (1, 2))
    make_invalid(rejected)
    relay(context, 60)
    clock.move(5)
    poll(context, 60)
    pending = outbox.enqueue(record(3), using=alias)
    before = {row.pk: row.payload for row in (delivered, rejected, pending)}
    clock.move(2 * DAY)
    assert drop_old_payloads(alias, context.clock, 3) == 0
    clock.move(2 * DAY)
    assert drop_old_payloads(alias, context.clock, 3) == 1
    assert lines(alias) == before | {delivered.pk: ""}
    row = OutboxRecord.objects.using(alias).get(pk=delivered.pk)
    assert row.payload_sha256 == hashlib.sha256(before[row.pk].encode()).hexdigest()
    assert (row.state, row.size, row.identity) == ("delivered", delivered.size, delivered.identity)
    assert row.is_payload_dropped
    with pytest.raises(PayloadDropped):
        row.envelope()
    assert drop_old_payloads(alias, context.clock, 3) == 0


@pytest.mark.parametrize("state", ["sealed", "sending", "in_doubt", "accepted", "isolating"])
def test_batches_that_are_not_complete_keep_their_payloads(context, alias, state):
    _, rows = finished(context, "in_flight", state=state)
    drop_old_payloads(alias, context.clock, 1)
    assert all(lines(alias)[row.pk] for row in rows)


def test_a_newer_version_is_delivered_after_the_payload_of_the_older_one_was_dropped(context, alias, clock):
    outbox.enqueue(record(1, data={"version": 1}), using=alias)
    relay(context, 60)
    clock.move(5)
    poll(context, 60)
    clock.move(2 * DAY)
    assert drop_old_payloads(alias, context.clock, 1) == 1
    outbox.enqueue(record(1, data={"version": 2}), using=alias)
    relay(context, 60)
    clock.move(5)
    poll(context, 60)
    states = OutboxRecord.objects.using(alias).order_by("pk").values_list("state", flat=True)
    assert list(states) == ["delivered", "delivered"]


def test_the_purge_deletes_records_without_payload(context, alias, clock):
    finished(context, "delivered", days=4)
    assert drop_old_payloads(alias, context.clock, 3) == 1
    clock.move(11 * DAY)
    assert purge_old_rows(alias, context.clock, 14) == 1


def test_a_run_ends_in_time_and_the_next_one_continues_with_the_oldest(context, alias, monkeypatch):
    monkeypatch.setattr(payloads, "RECORDS_PER_TRANSACTION", 2)
    batches = [finished(context, "delivered", "delivered", days=days)[0] for days in (5, 9, 7)]
    seconds = itertools.count()
    ticking = dataclasses.replace(context.clock, monotonic=lambda: float(next(seconds)))
    done = []
    while dropped := drop_old_payloads(alias, ticking, 3, seconds=0):
        assert dropped == 2
        (last,) = (
            OutboxBatch.objects.using(alias).filter(payloads_dropped_at__isnull=False).exclude(pk__in=done)
        )
        done.append(last.pk)
    assert done == [batches[1].pk, batches[2].pk, batches[0].pk]


def test_small_batches_share_a_transaction_and_pages_continue(context, alias, monkeypatch):
    monkeypatch.setattr(payloads, "BATCHES_PER_PAGE", 2)
    for _ in range(5):
        finished(context, "delivered")
    with CaptureQueriesContext(connections[alias]) as captured:
        assert drop_old_payloads(alias, context.clock, 3) == 5
    updates = [query for query in captured.captured_queries if "payload_sha256" in query["sql"]]
    assert len(updates) == 3


def test_done_batches_are_not_read_again(context, alias):
    finished(context, "superseded")
    assert drop_old_payloads(alias, context.clock, 3) == 0
    with CaptureQueriesContext(connections[alias]) as captured:
        assert drop_old_payloads(alias, context.clock, 3) == 0
    assert len(captured) == 1


def test_runs_pause_between_each_other(context, alias):
    progress = PurgeProgress()
    seconds = itertools.count()
    clock = dataclasses.replace(context.clock, monotonic=lambda: float(next(seconds)))
    finished(context, "delivered")
    assert drop_payloads_one_run(alias, clock, 3, progress) == 1
    finished(context, "delivered")
    assert drop_payloads_one_run(alias, clock, 3, progress) == 0


@pytest.mark.parametrize(("days", "dropped"), [(None, False), (3, True), (14, False), (20, False)])
def test_upkeep_drops_payloads_only_if_the_setting_is_shorter_than_the_retention(
    context, alias, outbox_settings, days, dropped
):
    outbox_settings(DATABASES=[alias], PAYLOAD_RETENTION_DAYS=days)
    assert get_settings().retention_days.delivered == 14
    _, (row,) = finished(context, "delivered", days=4)
    maintain_all(lambda _: context.clock)
    assert (lines(alias)[row.pk] == "") == dropped


def test_each_record_has_the_hash_of_its_own_line(context, alias, clock):
    rows = enqueue(alias, *range(3))
    relay(context, 60)
    clock.move(5)
    poll(context, 60)
    clock.move(2 * DAY)
    drop_old_payloads(alias, context.clock, 1)
    for row in rows:
        expected = hashlib.sha256(row.payload.encode()).hexdigest()
        row.refresh_from_db()
        assert (row.payload, row.payload_sha256) == ("", expected)


def test_an_index_finds_the_oldest_batches_in_their_order(context, alias):
    for days in range(4, 40):
        finished(context, "delivered", days=days)
        finished(context, state="refused", days=days)
    if connections[alias].vendor == "postgresql":  # a small table is read completely
        with connections[alias].cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")
    before = context.clock.now() - timedelta(days=3)
    plan = payloads.oldest_with_payloads(alias, before).explain()
    assert "evermuse_batch_payloads" in plan
    assert not any(sort in plan for sort in ("Sort", "TEMP B-TREE", "filesort"))

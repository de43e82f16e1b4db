"""Newest first after an outage, with real sealing: what a request holds, and that versions and limits still hold."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from evermuse_outbox import outbox
from evermuse_outbox.delivery.loop import relay, seal_next
from evermuse_outbox.delivery.sealing import pages
from evermuse_outbox.models import OutboxRecord
from tests.delivery.helpers import state_of
from tests.delivery.queues import HOT, enqueue_in_group
from tests.records import record


@pytest.fixture
def newest_first(context, sandbox, outbox_settings, reopen):
    """Return a context with ten records per request, of which two are the oldest after ten minutes."""
    outbox_settings(
        API_URL=sandbox.url,
        API_KEY="em_sk_sandbox",
        MAX_BATCH_RECORDS=10,
        NEWEST_FIRST={"after": timedelta(minutes=10), "backlog_share": 0.2},
    )
    return reopen()


def numbers_of(context, sealed):
    """Return the numbers of the records of a sealed batch."""
    rows = OutboxRecord.rows.using(context.using).filter(pk__in=sealed.members).order_by("pk")
    return [int(row.envelope()["_vendor_ids"]["message_id"].split("-")[-1]) for row in rows]


def enqueue_backlog(context, count, *, age, first=0):
    """Enqueue records one second apart, the first of them ``age`` seconds old."""
    enqueue_in_group(context, count, HOT, first=first)
    rows = OutboxRecord.rows.using(context.using).order_by("-pk")[:count]
    for number, row in enumerate(reversed(rows)):
        row.enqueued_at = context.clock.now() - timedelta(seconds=age - number)
        row.save(update_fields=["enqueued_at"])


def test_after_an_outage_a_request_holds_the_newest_records_and_a_share_of_the_oldest(newest_first):
    enqueue_backlog(newest_first, 40, age=3_600)
    assert numbers_of(newest_first, seal_next(newest_first)) == [0, 1, *range(32, 40)]
    enqueue_in_group(newest_first, 3, HOT, first=100)
    assert numbers_of(newest_first, seal_next(newest_first)) == [2, 3, *range(27, 32), 100, 101, 102]


def test_a_young_backlog_is_sent_oldest_first(newest_first):
    enqueue_backlog(newest_first, 40, age=600)
    assert numbers_of(newest_first, seal_next(newest_first)) == list(range(10))


def test_every_record_is_sealed_once_and_in_full_requests(newest_first):
    enqueue_backlog(newest_first, 45, age=3_600)
    sealed = [numbers_of(newest_first, seal_next(newest_first)) for _ in range(5)]
    assert [len(numbers) for numbers in sealed] == [10, 10, 10, 10, 5]
    assert sorted(number for numbers in sealed for number in numbers) == list(range(45))
    assert seal_next(newest_first) is None


def test_an_older_version_that_is_met_later_is_superseded(newest_first):
    enqueue_backlog(newest_first, 40, age=3_600)
    rows = list(OutboxRecord.rows.using(newest_first.using).order_by("pk"))
    outbox.enqueue(record(f"{HOT}-5", _product_id=HOT, data={"version": 2}), using=newest_first.using)
    newer = OutboxRecord.rows.using(newest_first.using).order_by("pk").last()
    assert newer.pk in seal_next(newest_first).members
    while sealed := seal_next(newest_first):
        assert rows[5].pk not in sealed.members
    assert state_of(rows[5]) == "superseded"


def test_blocked_records_at_the_newest_end_do_not_hide_the_others(newest_first):
    enqueue_in_group(newest_first, 9, HOT, first=200)
    seal_next(newest_first)
    enqueue_backlog(newest_first, 25, age=3_600)
    newer = [record(f"{HOT}-{200 + number}", _product_id=HOT, data={"version": 2}) for number in range(9)]
    outbox.enqueue_many(newer, using=newest_first.using)
    newest_first.clock.sleep(5)
    sealed = numbers_of(newest_first, seal_next(newest_first))
    assert len(sealed) == 10
    assert set(sealed) <= set(range(25))
    assert {0, 1, 24} <= set(sealed)


def test_after_the_backlog_the_oldest_go_first_again(newest_first):
    enqueue_backlog(newest_first, 20, age=3_600)
    assert relay(newest_first, 60)
    enqueue_backlog(newest_first, 20, age=60, first=50)
    newest_first.clock.sleep(5)
    assert numbers_of(newest_first, seal_next(newest_first)) == list(range(50, 60))


def test_large_records_do_not_push_the_oldest_record_aside(
    newest_first, sandbox, outbox_settings, reopen, monkeypatch
):
    outbox_settings(
        API_URL=sandbox.url,
        API_KEY="em_sk_sandbox",
        MAX_BATCH_RECORDS=10,
        MAX_BATCH_BYTES=3_000,
        NEWEST_FIRST={"after": 600, "backlog_share": 0.1},
    )
    context = reopen()
    large = record(f"{HOT}-0", _product_id=HOT, data={"text": "x" * 2_500})
    outbox.enqueue(large, using=context.using)
    OutboxRecord.rows.using(context.using).update(enqueued_at=context.clock.now() - timedelta(hours=1))
    enqueue_in_group(context, 200, HOT, first=1)
    sealed = [numbers_of(context, seal_next(context)) for _ in range(6)]
    assert any(0 in numbers for numbers in sealed)


def test_the_first_page_is_chosen_by_one_statement_and_read_by_one(newest_first):
    enqueue_backlog(newest_first, 40, age=3_600)
    seal_next(newest_first)
    with CaptureQueriesContext(connections[newest_first.using]) as captured:
        seal_next(newest_first)
    selects = [query["sql"] for query in captured if "portion_0" in query["sql"]]
    assert len(selects) == 1
    assert (
        sum(pages.OutboxRecord._meta.db_table in sql and "payload" in sql for sql in map(str, captured)) <= 2
    )

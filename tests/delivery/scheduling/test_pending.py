"""Pending records are read from the resume point of their group, and each is read once."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from evermuse_outbox import outbox
from evermuse_outbox.delivery.context import open_context
from evermuse_outbox.delivery.loop import seal_next
from evermuse_outbox.delivery.scheduling import has_work
from evermuse_outbox.delivery.sending import give_back
from evermuse_outbox.models import OutboxBatch, OutboxRecord, OutboxWorkspace
from tests.delivery.queues import HOT, enqueue_in_group, seal, stored_queue
from tests.records import enqueue, record


def has_resume_point(query):
    """Return whether a query reads pending records from a point in time on."""
    return '"enqueued_at" >=' in query.replace("`", '"')


def page_queries(captured):
    """Return the queries that read pages of pending records."""
    return [
        query["sql"] for query in captured if "payload" in query["sql"] and query["sql"].startswith("SELECT")
    ]


def test_a_group_is_read_from_its_resume_point(small_requests, clock):
    for age in (40, 30, 20):
        enqueue_in_group(small_requests, 10, HOT, first=age, age=age)
    for age in (40, 30):
        with CaptureQueriesContext(connections[small_requests.using]) as captured:
            assert seal(small_requests) == HOT
        assert all(map(has_resume_point, page_queries(captured)))
        ((*group, enqueued_at, pk),) = stored_queue(small_requests)["resume_points"]
        assert group == ["message", HOT]
        assert datetime.fromisoformat(enqueued_at) == clock.now() - timedelta(seconds=age)
        assert OutboxRecord.rows.using(small_requests.using).get(pk=pk).batch is not None


def test_no_record_is_lost_or_read_twice_among_many_of_the_same_time(small_requests):
    enqueue_in_group(small_requests, 35, HOT, age=9)
    sealed = [seal_next(small_requests).members for _ in range(4)]
    assert [len(members) for members in sealed] == [10, 10, 10, 5]
    assert len({pk for members in sealed for pk in members}) == 35


def test_blocked_records_are_read_again(small_requests, clock):
    context = small_requests
    older = [record(f"{HOT}-{number}", _product_id=HOT) for number in range(3)]
    outbox.enqueue_many(older, using=context.using)
    assert seal(context) == HOT  # so that the newer versions have to wait
    clock.move(5)
    outbox.enqueue_many((version | {"data": {"text": "newer"}} for version in older), using=context.using)
    enqueue_in_group(context, 40, HOT, first=10, age=1)
    OutboxRecord.rows.using(context.using).pending().filter(payload__contains="newer").update(
        enqueued_at=clock.now() - timedelta(seconds=3)
    )
    assert seal(context) == HOT
    batch = OutboxBatch.objects.using(context.using).get(record_count=3)
    assert OutboxBatch.objects.using(context.using).accept(batch, remote_id="r")
    assert OutboxBatch.objects.using(context.using).complete([batch.pk]) == 1
    assert seal(context) == HOT
    waiting = OutboxRecord.rows.using(context.using).pending().filter(payload__contains="newer")
    assert not waiting.exists(), "the blocked records lie after the resume point, not before it"


def test_a_small_request_is_not_delayed_by_many_blocked_records_before_it(small_requests, clock):
    context = small_requests
    older = [record(f"{HOT}-{number}", _product_id=HOT) for number in range(60)]
    outbox.enqueue_many(older, using=context.using)
    assert [seal(context) for _ in range(6)] == [HOT] * 6  # so that the newer versions have to wait
    outbox.enqueue_many((version | {"data": {"text": "newer"}} for version in older), using=context.using)
    OutboxRecord.rows.using(context.using).pending().update(enqueued_at=clock.now() - timedelta(seconds=9))
    clock.move(1)
    enqueue_in_group(context, 1, HOT, first=99, age=1)
    assert f"{HOT}-99" in seal_next(context).body.decode()


def test_there_is_work_while_a_record_is_pending_or_a_batch_is_due(context, alias, clock):
    assert not has_work(context)
    enqueue(alias, 1)
    assert has_work(context)
    sealed = seal_next(context)
    assert not has_work(context), "the batch is leased"
    give_back(context, sealed)
    assert has_work(context)
    OutboxBatch.objects.using(alias).update(due_at=clock.now() + timedelta(seconds=1))
    assert not has_work(context), "the batch is not due yet"


@pytest.mark.parametrize("similar_name", ["Shop", "shöp"])
def test_a_workspace_seals_no_record_of_one_with_a_similar_name(alias, outbox_settings, similar_name):
    outbox_settings(WORKSPACES={"shop": {"API_KEY": "em_sk_1"}, similar_name: {"API_KEY": "em_sk_2"}})
    row = outbox.enqueue(record(1), using=alias, workspace=similar_name)
    shop, other = open_context(alias, "shop"), open_context(alias, similar_name)
    assert not has_work(shop)
    assert seal_next(shop) is None
    assert seal_next(other).members == (row.pk,)
    assert OutboxWorkspace.objects.using(alias).count() == 2

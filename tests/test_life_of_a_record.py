"""The path of a record on every database, in order: from enqueue to COMPLETE."""

from __future__ import annotations

import json

import pytest
from django.db import transaction

from evermuse_outbox import outbox
from evermuse_outbox.delivery.loop import poll, relay
from evermuse_outbox.models import BatchState, OutboxAttempt, OutboxBatch, OutboxRecord
from tests.records import enqueue, record


def states(alias):
    return list(OutboxRecord.objects.using(alias).order_by("pk").values_list("state", flat=True))


def test_a_record_is_pending_then_in_flight_then_delivered(context, alias, sandbox, clock):
    row = outbox.enqueue(record(1), using=alias)
    assert states(alias) == ["pending"]

    assert relay(context, 60) == 1
    assert states(alias) == ["in_flight"]
    batch = OutboxBatch.objects.using(alias).get()
    assert (batch.state, batch.record_count, batch.accepted_count) == (BatchState.ACCEPTED, 1, 1)

    clock.move(5)
    assert poll(context, 60) == 1
    assert states(alias) == ["delivered"]
    batch.refresh_from_db()
    assert (batch.state, batch.remote_status, batch.next_poll_at) == (BatchState.COMPLETE, "COMPLETE", None)

    arrived = sandbox.records()
    assert [stored.times for stored in arrived] == [1]
    assert arrived[0].line == row.payload.encode()
    assert list(OutboxAttempt.objects.using(alias).values_list("call", "status", "outcome")) == [
        ("ingest", 202, "accepted"),
        ("status", 200, "read"),
    ]


@pytest.mark.commits
def test_rolled_back_records_are_never_sent(context, alias, sandbox):
    with pytest.raises(RuntimeError), transaction.atomic(using=alias):
        outbox.enqueue(record(1), using=alias)
        outbox.enqueue_many([record(2), record(3)], using=alias)
        raise RuntimeError("the host rolls back")
    assert relay(context, 60) == 0
    assert states(alias) == []
    assert sandbox.records() == []


def test_groups_never_share_a_request(context, alias, sandbox):
    for number in range(4):
        enqueue(alias, number, _product_id=f"prod-{number % 2}")
        enqueue(alias, 10 + number, _type="call")
    assert relay(context, 60) == 3
    batches = OutboxBatch.objects.using(alias).values_list("type", "product_id", "record_count")
    assert sorted(batches) == [("call", "prod-abc", 4), ("message", "prod-0", 2), ("message", "prod-1", 2)]
    assert len(sandbox.records()) == 8


def test_products_that_differ_only_in_case_never_share_a_request(context, alias, sandbox):
    for product in ("Prod", "prod", "PROD"):
        enqueue(alias, 0, 1, _product_id=product)
        outbox.enqueue(record(product, _product_id=product), using=alias)
    while relay(context, 60):
        pass
    assert {json.loads(stored.line)["_product_id"] for stored in sandbox.records()} <= {
        "Prod",
        "prod",
        "PROD",
    }
    assert set(OutboxBatch.objects.using(alias).values_list("state", flat=True)) == {BatchState.ACCEPTED}

"""A sealed batch on every database: its members, their order, its exact bytes and its idempotency key."""

from __future__ import annotations

import hashlib
import json

import pytest

from evermuse_outbox.delivery.loop import relay, seal_next
from evermuse_outbox.delivery.sealing import BodyChanged, open_sealed
from evermuse_outbox.models import BatchState, OutboxBatch, OutboxRecord
from evermuse_outbox.sandbox import Fault
from tests.records import enqueue


def test_a_sealed_batch_is_committed_with_members_order_bytes_and_key(context, alias):
    rows = enqueue(alias, 3, 1, 2)
    sealed = seal_next(context)
    batch = OutboxBatch.objects.using(alias).get()
    assert sealed.members == tuple(row.pk for row in rows)
    assert sealed.body == "".join(row.payload + "\n" for row in rows).encode()
    assert batch.sha256 == hashlib.sha256(sealed.body).hexdigest()
    assert (batch.record_count, batch.byte_count) == (3, len(sealed.body))
    assert batch.state == BatchState.SENDING
    assert 0 < len(batch.key) <= 256
    assert open_sealed(context, batch) == sealed


@pytest.mark.parametrize(
    ("body_format", "content_type"),
    [("ndjson", "application/x-ndjson"), ("array", "application/json"), ("wrapper", "application/json")],
)
def test_evermuse_reads_each_body_format(
    context, alias, sandbox, outbox_settings, reopen, body_format, content_type
):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", BODY_FORMAT=body_format)
    enqueue(alias, 1, 2)
    relay(reopen(), 60)
    assert len(sandbox.records()) == 2
    assert sandbox.arrivals[0].headers["Content-Type"] == content_type


@pytest.mark.parametrize("body_format", ["ndjson", "array", "wrapper"])
def test_a_record_of_the_maximum_size_is_deliverable_in_every_format(
    context, alias, sandbox, outbox_settings, reopen, body_format
):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", BODY_FORMAT=body_format)
    (small,) = enqueue(alias, 1)
    (row,) = enqueue(alias, 2, data={"text": "x" * (5_000_000 - 1 - small.size + len("Hello 1"))})
    assert row.size == 4_999_999
    relay(reopen(), 60)
    assert len(sandbox.records()) == 2
    assert max(arrival.size for arrival in sandbox.arrivals) == 5_000_000
    assert sandbox.violations == []


def test_a_sealed_batch_keeps_its_bytes_when_the_settings_change(
    context, alias, sandbox, clock, outbox_settings, reopen
):
    enqueue(alias, 1)
    sandbox.fail_next(Fault.drop_after())
    relay(context, 1)
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", CONTRACT="openapi", BODY_FORMAT="wrapper")
    clock.move(context.settings.backoff_cap)
    relay(reopen(), 60)
    assert [stored.times for stored in sandbox.records()] == [1]
    assert sandbox.arrivals[1].replayed
    assert json.loads(sandbox.records()[0].line)["_project_id"] == "proj-123"


def test_altered_payloads_do_not_open_as_the_sealed_batch(context, alias):
    enqueue(alias, 1)
    batch = seal_next(context).batch
    OutboxRecord.rows.using(alias).update(payload="{}")
    with pytest.raises(BodyChanged, match=f"batch #{batch.pk} "):
        open_sealed(context, batch)

"""The helpers for hosts' own tests do what the how-to says."""

from __future__ import annotations

import pytest

from evermuse_outbox import outbox
from evermuse_outbox.models import OutboxBatch
from evermuse_outbox.sandbox import Fault, Sandbox
from evermuse_outbox.testing import deliver, enqueued
from tests.records import record

pytestmark = pytest.mark.django_db


def test_enqueued_gives_the_records_as_evermuse_reads_them():
    outbox.enqueue(record(1))
    outbox.enqueue(record(2, _type="call"))
    assert [one["_type"] for one in enqueued()] == ["message", "call"]
    assert [one["_type"] for one in enqueued(type="call", state="pending")] == ["call"]


def test_deliver_runs_the_pipeline_to_its_end():
    outbox.enqueue_many(record(n) for n in range(5))
    with Sandbox(rate_limit=100_000, batch_seconds=0) as sandbox:
        sandbox.fail_next(Fault.drop_after())
        assert deliver(sandbox) >= 1
        assert [stored.times for stored in sandbox.records()] == [1] * 5
    assert [batch.state for batch in OutboxBatch.objects.all()] == ["complete"]
    assert len(enqueued(state="delivered")) == 5

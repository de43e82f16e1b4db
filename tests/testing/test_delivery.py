"""The helpers for hosts' own tests do what the how-to says."""

from __future__ import annotations

import pytest

from evermuse_outbox import outbox
from evermuse_outbox.models import OutboxBatch
from evermuse_outbox.sandbox import Fault
from evermuse_outbox.testing import deliver, enqueued, local_evermuse
from tests.records import record

pytestmark = pytest.mark.django_db


def test_enqueued_gives_the_records_as_evermuse_reads_them():
    outbox.enqueue(record(1))
    outbox.enqueue(record(2, _type="call"))
    assert [one["_type"] for one in enqueued()] == ["message", "call"]
    assert [one["_type"] for one in enqueued(type="call", state="pending")] == ["call"]


@pytest.mark.parametrize("contract", ["reference", "openapi"])
def test_many_groups_are_delivered_under_the_hosts_own_contract(settings, contract):
    settings.EVERMUSE_OUTBOX = settings.EVERMUSE_OUTBOX | {"CONTRACT": contract}
    outbox.enqueue_many(record(n, _product_id=f"p{n}") for n in range(30))
    with local_evermuse() as sandbox:
        assert deliver(sandbox) == 30
        assert len(sandbox.records()) == 30
        assert sandbox.violations == []


def test_deliver_runs_the_pipeline_to_its_end():
    outbox.enqueue_many(record(n) for n in range(5))
    with local_evermuse() as sandbox:
        sandbox.fail_next(Fault.drop_after())
        assert deliver(sandbox) >= 1
        assert [stored.times for stored in sandbox.records()] == [1] * 5
    assert [batch.state for batch in OutboxBatch.objects.all()] == ["complete"]
    assert len(enqueued(state="delivered")) == 5

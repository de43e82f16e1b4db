"""The helpers for the tests of hosts work as the how-to guide says."""

from __future__ import annotations

import pytest

from evermuse_outbox import outbox
from evermuse_outbox.models import OutboxBatch
from evermuse_outbox.sandbox import Fault
from evermuse_outbox.testing import deliver, enqueued, local_evermuse
from tests.records import record

pytestmark = pytest.mark.django_db


def test_enqueued_returns_the_records_as_evermuse_receives_them():
    outbox.enqueue(record(1))
    outbox.enqueue(record(2, _type="call"))
    assert [record["_type"] for record in enqueued()] == ["message", "call"]
    assert [record["_type"] for record in enqueued(type="call", state="pending")] == ["call"]


@pytest.mark.parametrize("contract", ["reference", "openapi"])
def test_many_groups_are_delivered_under_the_contract_of_the_host(settings, contract):
    settings.EVERMUSE_OUTBOX = settings.EVERMUSE_OUTBOX | {"CONTRACT": contract}
    outbox.enqueue_many(record(n, _product_id=f"p{n}") for n in range(30))
    with local_evermuse() as sandbox:
        assert deliver(sandbox) == 30
        assert len(sandbox.records()) == 30
        assert sandbox.violations == []


def test_deliver_sends_and_polls_until_nothing_is_left():
    outbox.enqueue_many(record(n) for n in range(5))
    with local_evermuse() as sandbox:
        sandbox.fail_next(Fault.drop_after())
        assert deliver(sandbox) >= 1
        assert [stored.times for stored in sandbox.records()] == [1] * 5
    assert [batch.state for batch in OutboxBatch.objects.all()] == ["complete"]
    assert len(enqueued(state="delivered")) == 5

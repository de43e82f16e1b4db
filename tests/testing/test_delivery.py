"""The helpers for the tests of hosts work as the how-to guide says."""

from __future__ import annotations

import logging
import pickle

import pytest
from django.core.management import call_command
from django.test import TestCase, TransactionTestCase

from evermuse_outbox import outbox
from evermuse_outbox.models import OutboxBatch
from evermuse_outbox.sandbox import Fault
from evermuse_outbox.testing import (
    Delivery,
    NotDelivered,
    OutboxAssertions,
    deliver,
    enqueued,
    local_evermuse,
    use_sandbox,
)
from tests.records import enqueue, record

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("contract", ["reference", "openapi"])
def test_many_groups_are_delivered_under_the_contract_of_the_host(settings, contract):
    settings.EVERMUSE_OUTBOX = settings.EVERMUSE_OUTBOX | {"CONTRACT": contract}
    outbox.enqueue_many(record(n, _product_id=f"p{n}") for n in range(30))
    with local_evermuse() as sandbox:
        assert deliver(sandbox).requests == 30
        assert len(sandbox.records()) == 30
        assert sandbox.violations == []


def test_deliver_sends_and_polls_until_nothing_is_left():
    outbox.enqueue_many(record(n) for n in range(5))
    with local_evermuse() as sandbox:
        sandbox.fail_next(Fault.drop_after())
        assert len(deliver(sandbox).delivered) == 5
        assert [stored.times for stored in sandbox.records()] == [1] * 5
    assert [batch.state for batch in OutboxBatch.objects.all()] == ["complete"]
    assert len(enqueued(state="delivered")) == 5


# --- honest results ---------------------------------------------------------------------------------


@pytest.fixture
def live(alias, outbox_settings):
    """Return a sandbox to which the settings point, and a function that enqueues messages on the database."""
    outbox_settings(DATABASES=[alias])
    with use_sandbox() as sandbox:
        yield sandbox, lambda *numbers: enqueue(alias, *numbers)


def not_delivered(**options):
    with pytest.raises(NotDelivered) as caught:
        deliver(**options)
    return caught.value


def test_nothing_to_deliver(live):
    assert deliver() == Delivery()


def test_a_server_that_is_down_and_up_again(live, caplog):
    sandbox, enqueue = live
    enqueue(1, 2)
    sandbox.stop()
    error = not_delivered()
    assert "delivered 0, rejected 0, waiting 2" in str(error)
    assert "the workspace 'default' is backing off: ConnectionRefusedError" in str(error)
    assert [waiting.record["data"]["text"] for waiting in error.delivery.waiting] == ["Hello 1", "Hello 2"]
    assert not error.delivery.delivered
    assert len(caplog.records) == 1, "the warning is not repeated in each round"
    assert logging.getLogger("evermuse_outbox").level == logging.NOTSET
    sandbox.start()
    assert len(deliver().delivered) == 2


def test_a_wrong_api_key(live):
    sandbox, enqueue = live
    enqueue(1)
    sandbox.remove_key("em_sk_sandbox")
    assert "the workspace 'default' is paused: HTTP 401" in str(not_delivered())
    result = deliver(check=False)
    assert (len(result.delivered), len(result.waiting)) == (0, 1)
    with pytest.raises(NotDelivered):
        result.check()


def test_a_held_workspace(live, alias):
    _sandbox, enqueue = live
    enqueue(1)
    call_command("outbox_pause", workspace="default", reason="audit", database=alias)
    assert "the workspace 'default' is held: audit" in str(not_delivered())


def test_a_rejected_record_and_its_message(live):
    sandbox, enqueue = live
    enqueue(1, 2, 3)
    sandbox.reject_record("msg-2", "The subject is not allowed.")
    error = not_delivered()
    (rejected,) = error.delivery.rejected
    assert (rejected.record["data"]["text"], rejected.message) == ("Hello 2", "The subject is not allowed.")
    assert len(error.delivery.delivered) == 2
    assert "Rejected, VALIDATION_ERROR: The subject is not allowed." in str(error)
    assert deliver() == Delivery(), "the result of the next call has only its records"


def test_the_error_can_be_pickled_for_parallel_tests():
    error = NotDelivered(Delivery(requests=3))
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_batch_that_evermuse_does_not_complete(alias, outbox_settings):
    outbox_settings(DATABASES=[alias])
    enqueue(alias, 1)
    with local_evermuse(batch_seconds=10**9) as sandbox:
        result = deliver(sandbox, check=False, rounds=3)
    assert "Evermuse accepted it as" in result.waiting[0].reason


def test_faults_that_last_for_a_time_end_without_waiting(live, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("a sleep"))
    sandbox, enqueue = live
    enqueue(1)
    sandbox.fail_for(3_600, status=429)
    assert deliver().requests > 1
    enqueue(2)
    sandbox.fail_for(3_600, Fault.bad_gateway(on="any"))
    assert len(deliver().delivered) == 1


def test_an_older_version_is_superseded(live, alias):
    enqueue(alias, 1, data={"text": "old"})
    enqueue(alias, 1, data={"text": "new"})
    result = deliver()
    assert [record["data"]["text"] for record in result.delivered] == ["new"]
    assert [record["data"]["text"] for record in result.superseded] == ["old"]


def test_two_databases_are_delivered_at_once(alias, outbox_settings):
    if alias == "default":
        pytest.skip("one database")
    outbox_settings(DATABASES=["default", "postgres", "mariadb"])
    for using in ("default", alias):
        enqueue(using, using)
    with use_sandbox() as sandbox:
        assert len(deliver().delivered) == 2
        assert len(sandbox.records()) == 2


class TestInTestCase(OutboxAssertions, TestCase):
    def setUp(self):
        self.sandbox = self.enterContext(use_sandbox())

    def test_a_delivery_inside_of_the_transaction(self):
        outbox.enqueue(record(1))
        assert len(deliver().delivered) == 1
        assert self.assert_enqueued().state == "delivered"
        assert [stored.times for stored in self.sandbox.records()] == [1]


class TestInTransactionTestCase(TransactionTestCase):
    def test_a_delivery_with_commits(self):
        outbox.enqueue(record(1))
        with use_sandbox():
            assert len(deliver().delivered) == 1

"""Assertions about the outbox see what was enqueued, also in an open transaction, and explain a failure."""

from __future__ import annotations

import pytest
from django.db import transaction
from django.test import SimpleTestCase, TestCase, TransactionTestCase

from evermuse_outbox import outbox
from evermuse_outbox.testing import (
    OutboxAssertions,
    OutboxRecords,
    assert_enqueued,
    capture_records,
    enqueued,
    refute_enqueued,
)
from tests.records import record


def failure(function, *args, **kwargs):
    with pytest.raises(AssertionError) as caught:
        function(*args, **kwargs)
    return str(caught.value)


# --- assertions -------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_enqueued_returns_the_records_as_evermuse_receives_them():
    outbox.enqueue(record(1))
    outbox.enqueue(record(2, _type="call"))
    assert [record["_type"] for record in enqueued()] == ["message", "call"]
    assert [record["_type"] for record in enqueued(type="call", state="pending")] == ["call"]
    assert enqueued(state="delivered") == []


@pytest.mark.django_db
def test_an_assertion_returns_the_newest_record_or_all():
    rows = [outbox.enqueue(record(number)) for number in (1, 2)]
    found = assert_enqueued(type="message")
    assert (found["data"], found.row, found.state) == ({"text": "Hello 2"}, rows[1], "pending")
    assert [record.row for record in assert_enqueued(count=2, data__text__startswith="Hello")] == rows
    refute_enqueued(data__text="Hello 3")
    assert assert_enqueued(count=0, data__text="Hello 3") == []


@pytest.mark.django_db
def test_a_failure_lists_what_was_enqueued_and_the_nearest_record():
    assert failure(assert_enqueued, type="email") == (
        "No record with type='email' was enqueued. Nothing was enqueued."
    )
    rows = [outbox.enqueue(record(number)) for number in (1, 2)]
    text = failure(assert_enqueued, type="email", data__text="hello 1")
    assert text.splitlines() == [
        "No record with type='email', data__text='hello 1' was enqueued.",
        f"The nearest record is #{rows[0].pk}:",
        "  _type is 'message'; expected 'email'",
        "  data.text is 'Hello 1'; expected 'hello 1'",
        "Enqueued: 2",
        f"  #{rows[0].pk} message {{'message_id': 'msg-1'}}, pending, data {{'text': 'Hello 1'}}",
        f"  #{rows[1].pk} message {{'message_id': 'msg-2'}}, pending, data {{'text': 'Hello 2'}}",
    ]
    assert failure(assert_enqueued, count=3).startswith("Records: 2 enqueued, 3 expected.\n  #")
    assert failure(refute_enqueued, type="message").startswith(
        "Records with type='message': 2 enqueued, 0 expected."
    )


@pytest.mark.django_db
def test_a_failure_lists_only_the_newest_of_many_records():
    outbox.enqueue_many(record(number) for number in range(30))
    text = failure(refute_enqueued)
    assert len(text.splitlines()) == 12
    assert "Hello 29" in text
    assert text.endswith("… and 20 older records")


@pytest.mark.django_db
def test_the_assertions_can_be_limited_to_a_workspace(outbox_settings):
    outbox_settings(WORKSPACES={"sales": {"API_KEY": "em_sk_sales"}})
    outbox.enqueue(record(1), workspace="sales")
    assert_enqueued(workspace="sales", count=1)
    refute_enqueued(workspace="default")
    OutboxRecords().assert_enqueued(workspace="sales", using="default", count=1)
    OutboxRecords().refute_enqueued(workspace="default")
    OutboxRecords(workspace="default").refute_enqueued(workspace="sales")
    assert "workspace sales" in failure(refute_enqueued)


def test_an_assertion_sees_every_database_that_the_test_may_use(alias, outbox_settings):
    outbox_settings(DATABASES=["default", "postgres", "mariadb"])
    outbox.enqueue(record(1), using=alias)
    assert assert_enqueued(count=1)[0].row._state.db == alias
    assert_enqueued(using=alias)
    if alias != "default":
        refute_enqueued(using="default")
        assert f"database {alias}" in failure(refute_enqueued)


# --- captured records -------------------------------------------------------------------------------


def test_a_capture_has_exactly_the_records_of_its_block(alias, outbox_settings):
    outbox_settings(DATABASES=[alias])
    outbox.enqueue(record("before"), using=alias)
    with capture_records() as captured, transaction.atomic(using=alias):
        outbox.enqueue_many((record(number) for number in range(3)), using=alias)
        with pytest.raises(ZeroDivisionError), transaction.atomic(using=alias):
            outbox.enqueue(record("rolled back"), using=alias)
            1 / 0  # noqa: B018
        assert len(captured) == 3
    outbox.enqueue(record("after"), using=alias)
    assert [record["data"]["text"] for record in captured] == ["Hello 0", "Hello 1", "Hello 2"]
    captured.assert_enqueued(count=3)
    captured.refute_enqueued(data__text="Hello before")
    assert captured[0] == {**record(0)}
    assert captured == enqueued()[1:4]


@pytest.mark.django_db
def test_a_capture_whose_block_is_rolled_back_is_empty():
    with pytest.raises(ZeroDivisionError), transaction.atomic(), capture_records() as captured:
        outbox.enqueue(record(1))
        1 / 0  # noqa: B018
    assert list(captured) == []
    assert repr(captured) == "[]"


@pytest.mark.django_db
def test_captures_can_be_nested():
    with capture_records() as outer:
        outbox.enqueue(record(1))
        with capture_records() as inner:
            outbox.enqueue(record(2))
        outbox.enqueue(record(3))
    assert (len(outer), len(inner)) == (3, 1)


# --- test classes -----------------------------------------------------------------------------------


class TestInTestCase(OutboxAssertions, TestCase):
    @classmethod
    def setUpTestData(cls):
        outbox.enqueue(record("set up"))

    def test_the_methods(self):
        with self.capture_records() as captured:
            outbox.enqueue(record(1))
        assert self.assert_enqueued(type="message") == captured[-1]
        assert len(self.assert_enqueued(count=2, using="default", workspace="default")) == 2
        self.refute_enqueued(type="email")
        captured.assert_enqueued(count=1)
        with pytest.raises(AssertionError, match="No record with type='email' was enqueued"):
            self.assert_enqueued(type="email")


class TestInTransactionTestCase(OutboxAssertions, TransactionTestCase):
    def test_the_methods(self):
        outbox.enqueue(record(1))
        self.assert_enqueued(count=1)


class TestInSimpleTestCase(OutboxAssertions, SimpleTestCase):
    def test_django_names_the_class_to_use(self):
        with pytest.raises(AssertionError, match="Either subclass TestCase or TransactionTestCase"):
            self.refute_enqueued()

    def test_a_forbidden_database_is_an_error(self):
        with pytest.raises(AssertionError, match="add 'default' to"):
            OutboxRecords("default").refute_enqueued()

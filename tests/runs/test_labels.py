"""Labels of new records: what is allowed, which set a record names, and what is remembered."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from asgiref.sync import async_to_sync
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext

from evermuse_outbox import InvalidRecord, outbox
from evermuse_outbox.models import OutboxLabel, OutboxLabelSet, OutboxRecord
from evermuse_outbox.models import insert as insert_package
from evermuse_outbox.runs import forget_label_sets, label_sets
from tests.records import record


def labels_of(alias, row):
    labels = OutboxLabel.objects.using(alias).filter(label_set_id=row.label_set_id)
    return dict(labels.values_list("name", "value"))


def stored(alias):
    return list(OutboxRecord.rows.using(alias).order_by("pk"))


def sets(alias):
    return OutboxLabelSet.objects.using(alias).count()


def in_thread(step):
    """Run a step on a connection of its own."""

    def run():
        try:
            return step()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result(30)


@pytest.fixture(params=["SQL", "ORM"])
def implementation(request, monkeypatch):
    """Run the test with our SQL, and with the ORM as on a database that has no SQL of ours."""
    if request.param == "ORM":
        monkeypatch.setattr(insert_package, "SQL", {})


# --- which set a record names ----------------------------------------------------------------------------


def test_records_with_the_same_labels_share_a_set(alias, implementation):
    one = outbox.enqueue(record(1), using=alias, labels={"customer": "acme", "source": "crm"})
    outbox.enqueue(record(2), using=alias, labels={"source": "crm", "customer": "acme"})
    outbox.enqueue(record(3), using=alias, labels={"customer": "Acme"})
    first, second, third = stored(alias)
    assert first.label_set_id == second.label_set_id == one.label_set_id != third.label_set_id
    assert labels_of(alias, first) == {"customer": "acme", "source": "crm"}
    assert labels_of(alias, third) == {"customer": "Acme"}


def test_a_record_without_labels_costs_no_statement_more(alias):
    with CaptureQueriesContext(connections[alias]) as queries:
        assert outbox.enqueue(record(1), using=alias).label_set_id is None
        assert outbox.enqueue(record(1), using=alias, labels={}).label_set_id is None
    assert [query["sql"].split()[0] for query in queries] == ["INSERT", "INSERT"]
    assert "label_set_id" not in "".join(query["sql"].partition("RETURNING")[0] for query in queries)
    assert sets(alias) == 0


def test_many_records_share_their_labels(alias, implementation):
    assert outbox.enqueue_many(map(record, range(3)), using=alias, labels={"customer": "acme"}) == 3
    assert len({row.label_set_id for row in stored(alias)}) == 1
    assert labels_of(alias, stored(alias)[0]) == {"customer": "acme"}


@pytest.mark.parametrize("chunk", [3, 1_000])
def test_a_function_gives_each_record_its_labels_and_the_order_stays(
    alias, implementation, chunk, monkeypatch
):
    monkeypatch.setattr(outbox, "CHUNK", chunk)
    customers = ["acme", None, "bolt", "acme", None, None, None, None, None, "bolt"]

    def labels_of_record(given):
        number = given["data"]["number"]
        return customers[number] and {"customer": customers[number]}

    records = [record(number, data={"number": number}) for number in range(len(customers))]
    outbox.enqueue_many(records, using=alias, labels=labels_of_record)
    rows = stored(alias)
    assert [row.envelope()["data"]["number"] for row in rows] == list(range(len(customers)))
    assert [labels_of(alias, row).get("customer") for row in rows] == customers
    assert [row.label_set_id is None for row in rows] == [not customer for customer in customers]
    assert sets(alias) == 2


@pytest.mark.django_db
def test_async_code_gives_labels_and_a_run():
    # `async_to_sync` runs the database work on the thread of the test.
    async_to_sync(outbox.aenqueue)(record(1), labels={"customer": "acme"}, run="nightly")
    enqueued = async_to_sync(outbox.aenqueue_many)([record(2)], labels={"customer": "acme"}, run="nightly")
    first, second = stored("default")
    assert first.label_set_id == second.label_set_id is not None
    assert (enqueued, enqueued.run.name) == (1, "nightly")


# --- what is allowed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "path", "words"),
    [
        ({"customer": 7}, "labels.customer", "Got 7"),
        ({"customer": ""}, "labels.customer", "1 to 256"),
        ({"customer": "x" * 257}, "labels.customer", "1 to 256"),
        ({"customer": "a\nb"}, "labels.customer", "printable"),
        ({"customer": "a\x00"}, "labels.customer", "printable"),
        ({"customer": "\ud800"}, "labels.customer", "printable"),
        ({"customer": " a"}, "labels.customer", "printable"),
        ({"a=b": "c"}, "labels", "no name of a label"),
        ({"": "c"}, "labels", "no name of a label"),
        ({"x" * 65: "c"}, "labels", "up to 64"),
        ({7: "c"}, "labels", "no name of a label"),
        ({f"n{number}": "v" for number in range(17)}, "labels", "at most 16"),
        (["customer"], "labels", "a mapping"),
    ],
)
@pytest.mark.django_db
def test_a_label_that_is_not_allowed_is_named_and_nothing_is_inserted(labels, path, words):
    for call in (
        lambda: outbox.enqueue(record(1), labels=labels),
        lambda: outbox.enqueue_many([record(1)], labels=labels),
    ):
        with pytest.raises(InvalidRecord) as caught:
            call()
        (error,) = caught.value.errors
        assert error.path == path
        assert words in str(error)
    assert (stored("default"), sets("default")) == ([], 0)


@pytest.mark.django_db
def test_the_error_of_a_function_names_the_position():
    with pytest.raises(InvalidRecord) as caught:
        outbox.enqueue_many(
            map(record, range(3)), labels=lambda given: {"customer": None} if "2" in str(given) else {}
        )
    assert [error.path for error in caught.value.errors] == ["[0].labels.customer"]
    assert stored("default") == []


# --- what is remembered --------------------------------------------------------------------------------------


def statements_of(alias, **labels):
    with CaptureQueriesContext(connections[alias]) as queries:
        outbox.enqueue(record(1), using=alias, labels=labels)
    return [query["sql"].split()[0] for query in queries if "outbox" in query["sql"]]


@pytest.mark.commits
def test_a_committed_set_costs_no_statement(alias):
    assert statements_of(alias, customer="acme") == ["SELECT", "INSERT", "INSERT", "INSERT"]
    assert statements_of(alias, customer="acme") == ["INSERT"]
    assert statements_of(alias, customer="bolt") == ["SELECT", "INSERT", "INSERT", "INSERT"]


@pytest.mark.commits
def test_a_set_is_read_again_after_a_minute(alias, monkeypatch):
    statements_of(alias, customer="acme")
    monkeypatch.setattr(label_sets, "REMEMBERED", 0)
    assert statements_of(alias, customer="acme") == ["SELECT", "INSERT"]


@pytest.mark.commits
def test_a_retired_set_is_not_named_any_more(alias):
    first = outbox.enqueue(record(1), using=alias, labels={"customer": "acme"})
    OutboxLabelSet.objects.using(alias).update(retired_at=first.enqueued_at)
    forget_label_sets()
    second = outbox.enqueue(record(2), using=alias, labels={"customer": "acme"})
    assert second.label_set_id != first.label_set_id
    assert labels_of(alias, second) == {"customer": "acme"}


@pytest.mark.commits
def test_a_set_of_a_transaction_that_is_rolled_back_is_not_remembered(alias):
    with transaction.atomic(using=alias):
        outbox.enqueue(record(1), using=alias, labels={"customer": "acme"})
        outbox.enqueue(record(2), using=alias, labels={"customer": "acme"})
        transaction.set_rollback(True, using=alias)
    assert (stored(alias), sets(alias), label_sets._known) == ([], 0, {})
    row = outbox.enqueue(record(3), using=alias, labels={"customer": "acme"})
    assert labels_of(alias, row) == {"customer": "acme"}


@pytest.mark.commits
def test_a_set_of_a_savepoint_that_is_rolled_back_is_inserted_again(alias):
    with transaction.atomic(using=alias):
        with transaction.atomic(using=alias):
            outbox.enqueue(record(1), using=alias, labels={"customer": "acme"})
            transaction.set_rollback(True, using=alias)
        outbox.enqueue(record(2), using=alias, labels={"customer": "acme"})
    (row,) = stored(alias)
    assert labels_of(alias, row) == {"customer": "acme"}
    assert statements_of(alias, customer="acme") == ["INSERT"]


def test_functions_that_a_test_runs_after_a_commit_that_never_comes_remember_nothing(
    alias, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(using=alias, execute=True):
        outbox.enqueue(record(1), using=alias, labels={"customer": "acme"})
    assert label_sets._known == {}


@pytest.mark.commits
def test_two_transactions_that_need_the_same_new_set_do_not_wait_for_each_other(alias):
    if connections[alias].vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")

    def enqueue_in_thread():
        return outbox.enqueue(record(2), using=alias, labels={"customer": "acme"})

    with transaction.atomic(using=alias):
        first = outbox.enqueue(record(1), using=alias, labels={"customer": "acme"})
        second = in_thread(enqueue_in_thread)
    assert labels_of(alias, first) == labels_of(alias, second) == {"customer": "acme"}
    forget_label_sets()
    third = outbox.enqueue(record(3), using=alias, labels={"customer": "acme"})
    assert third.label_set_id == min(first.label_set_id, second.label_set_id)


@pytest.mark.commits
def test_threads_that_need_the_same_set_at_once_all_get_one(alias):
    start = threading.Barrier(4)

    def enqueue_in_thread(number):
        try:
            start.wait(10)
            return outbox.enqueue(record(number), using=alias, labels={"customer": "acme"})
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(enqueue_in_thread, range(4)))
    assert [labels_of(alias, row) for row in rows] == [{"customer": "acme"}] * 4
    assert 1 <= sets(alias) <= 4


@pytest.mark.commits
def test_the_process_forgets_all_sets_when_there_are_too_many(alias, monkeypatch):
    monkeypatch.setattr(label_sets, "MAX_REMEMBERED", 2)
    for customer in ("a", "b", "c"):
        statements_of(alias, customer=customer)
    assert len(label_sets._known) == 1

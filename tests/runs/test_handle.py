"""The handle of a run: starting, joining, finding and closing it."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction

from evermuse_outbox import InvalidRecord, outbox
from evermuse_outbox.models import OutboxLabel, OutboxLabelSet, OutboxRecord, OutboxRun
from tests.records import record


def members(alias, run):
    sets = OutboxLabelSet.objects.using(alias).filter(run_id=run.id)
    return OutboxRecord.rows.using(alias).filter(label_set_id__in=sets.values("pk")).count()


def test_records_join_a_run_by_its_handle_or_its_name(alias):
    run = outbox.start_run("nightly", using=alias, labels={"source": "crm"})
    row = outbox.enqueue(record(1), using=alias, run=run, labels={"customer": "acme"})
    enqueued = outbox.enqueue_many(map(record, range(2, 5)), using=alias, run="nightly")
    assert (enqueued, enqueued.run) == (3, run)
    assert outbox.enqueue_many([record(5)], using=alias).run is None
    assert members(alias, run) == 4
    labels = OutboxLabel.objects.using(alias).filter(label_set_id=row.label_set_id)
    assert dict(labels.values_list("name", "value")) == {"customer": "acme", "source": "crm"}


def test_a_label_of_a_record_replaces_that_of_the_run(alias):
    run = outbox.start_run("nightly", using=alias, labels={"customer": "acme", "source": "crm"})
    outbox.enqueue_many([record(1)], using=alias, run=run, labels=lambda _: {"customer": "bolt"})
    assert set(OutboxLabel.objects.using(alias).values_list("name", "value")) == {
        ("customer", "bolt"),
        ("source", "crm"),
    }


def test_an_open_run_is_joined_and_a_closed_name_is_free(alias):
    first = outbox.start_run("nightly", using=alias, labels={"source": "crm"}, expected=10)
    assert outbox.start_run("nightly", using=alias) == first
    first.close()
    first.close()
    second = outbox.start_run("nightly", using=alias)
    assert second.id != first.id
    assert outbox.start_run("Nightly", using=alias).id != second.id
    assert outbox.find_run("nightly", using=alias) == second
    assert outbox.find_run(first.id, using=alias) == first
    assert outbox.find_run("weekly", using=alias) is None
    row = OutboxRun.objects.using(alias).get(pk=first.id)
    assert (row.expected, row.closed_at is None, row.open_key) == (10, False, None)


def test_a_block_closes_its_run_unless_it_raises(alias):
    with pytest.raises(ZeroDivisionError), outbox.start_run("nightly", using=alias) as run:
        raise ZeroDivisionError
    assert outbox.start_run("nightly", using=alias) == run
    with run:
        pass
    assert outbox.start_run("nightly", using=alias) != run


def test_a_handle_is_an_argument_of_a_task(alias):
    run = outbox.start_run("nightly", using=alias, labels={"source": "crm"})
    assert pickle.loads(pickle.dumps(run)) == run
    assert len({run, run}) == 1


@pytest.mark.parametrize("name", ["", " a", "a\n", "x" * 201, 7, b"a"])
@pytest.mark.django_db
def test_a_name_that_is_not_allowed(name):
    with pytest.raises(InvalidRecord) as caught:
        outbox.start_run(name)
    assert [error.path for error in caught.value.errors] == ["run"]


@pytest.mark.django_db
def test_a_run_of_an_unknown_workspace_is_not_started():
    with pytest.raises(ImproperlyConfigured):
        outbox.start_run("nightly", workspace="typo")


@pytest.mark.django_db
def test_a_handle_of_another_workspace_is_refused(outbox_settings):
    outbox_settings(WORKSPACES={"other": {"API_KEY": "em_sk_other"}})
    run = outbox.start_run("nightly")
    with pytest.raises(ValueError, match="belongs to the workspace default"):
        outbox.enqueue(record(1), workspace="other", run=run)
    assert outbox.start_run("nightly", workspace="other").id != run.id


@pytest.mark.commits
def test_a_run_is_started_and_joined_in_one_transaction_or_not_at_all(alias):
    with transaction.atomic(using=alias):
        outbox.enqueue(record(1), using=alias, run="nightly")
        transaction.set_rollback(True, using=alias)
    assert outbox.find_run("nightly", using=alias) is None
    outbox.enqueue(record(1), using=alias, run="nightly")
    assert members(alias, outbox.find_run("nightly", using=alias)) == 1


@pytest.mark.commits
def test_threads_that_start_the_same_run_at_once_join_one(alias):
    start = threading.Barrier(3)

    def enqueue_in_thread(number):
        try:
            start.wait(10)
            with transaction.atomic(using=alias):
                OutboxRecord.rows.using(alias).count()  # fixes the snapshot of MariaDB
                return outbox.enqueue_many([record(number)], using=alias, run="nightly").run
        finally:
            connections.close_all()

    with ThreadPoolExecutor(3) as pool:
        runs = list(pool.map(enqueue_in_thread, range(3)))
    assert len(set(runs)) == 1
    assert members(alias, runs[0]) == 3

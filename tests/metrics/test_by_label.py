"""Metrics by the values of a label: bounded, and without a statement if the settings name no label."""

from __future__ import annotations

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from evermuse_outbox import outbox
from evermuse_outbox.metrics import METRICS, by_label
from evermuse_outbox.metrics.by_label import read_by_label
from evermuse_outbox.models import OutboxRecord
from tests.models.rows import add_record
from tests.records import record


@pytest.fixture
def put(alias):
    """Return a function that enqueues records with these labels, and lets them be in a state."""

    def enqueue(count=1, closed_as=None, **labels):
        for _ in range(count):
            number = OutboxRecord.rows.using(alias).count()
            row = outbox.enqueue(record(number), using=alias, labels=labels or None)
            OutboxRecord.rows.using(alias).filter(pk=row.pk).update(closed_as=closed_as)

    return enqueue


@pytest.fixture
def read(alias, outbox_settings):
    """Return a function that reads the samples: metric and labels without the database → value."""
    outbox_settings(DATABASES=[alias], METRICS_LABEL="customer")

    def samples():
        found = list(read_by_label(alias))
        assert all(len(each.labels) == len(METRICS[each.name].labels) for each in found)
        values = {(each.metric, *each.labels[1:]): each.value for each in found}
        assert len(values) == len(found), "Prometheus refuses a sample that comes twice"
        return values

    return samples


def pending(value):
    return "label_pending_records", "customer", value


def rejected(value):
    return "label_rejected_records", "customer", value


EXACT = {
    ("label_records_exact", "customer", "pending"): 1,
    ("label_records_exact", "customer", "rejected"): 1,
}


def test_pending_and_rejected_records_by_value(alias, put, read):
    put(2, customer="acme", source="a")
    put(1, customer="acme", source="b")
    put(1, customer="globex")
    put(3, "rejected", customer="globex")
    put(1, "superseded", customer="acme")
    put(1, source="a")
    put(1, Customer="case")
    put(1)
    add_record(alias, "delivered", batch=None, closed_as="discarded")
    assert read() == EXACT | {pending("acme"): 3, pending("globex"): 1, rejected("globex"): 3}


def test_only_the_largest_values_are_told_apart(put, read, monkeypatch):
    monkeypatch.setattr(by_label, "MAX_VALUES", 2)
    for count, customer in enumerate(["d", "c", "other", "a"], 1):
        put(count, customer=customer)
    assert read() == EXACT | {pending("a"): 4, pending("other"): 3 + 1 + 2}


def test_no_more_records_than_the_bound_are_counted(put, read, monkeypatch):
    monkeypatch.setattr(by_label, "MAX_RECORDS", 2)
    put(2, customer="acme")
    put(3, "rejected", customer="acme")
    values = read()
    assert values["label_records_exact", "customer", "pending"] == 1
    assert values["label_records_exact", "customer", "rejected"] == 0
    assert values[pending("acme")] == 2


def test_many_label_sets_need_few_statements(alias, put, read, monkeypatch):
    monkeypatch.setattr(by_label, "IDS_PER_STATEMENT", 2)
    for number in range(5):
        put(1, customer="acme", number=str(number))
    with CaptureQueriesContext(connections[alias]) as queries:
        assert read() == EXACT | {pending("acme"): 5}
    assert len(queries) == 2 + 3


def test_without_the_setting_no_statement_is_sent(alias, put, outbox_settings, django_assert_num_queries):
    put(1, customer="acme")
    outbox_settings(DATABASES=[alias])
    with django_assert_num_queries(0, connection=connections[alias]):
        assert list(read_by_label(alias)) == []


@pytest.mark.parametrize(("state", "index"), [("pending", "record_pending"), ("rejected", "record_closed")])
def test_sqlite_reads_an_index(alias, read, state, index):
    if connections[alias].vendor != "sqlite":
        pytest.skip("other planners know how many rows are delivered")
    with CaptureQueriesContext(connections[alias]) as queries:
        read()
    statement = queries[("pending", "rejected").index(state)]["sql"]
    with connections[alias].cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {statement}")
        assert f"USING INDEX evermuse_{index}" in str(cursor.fetchall())

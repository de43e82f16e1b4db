"""Filters of records: each condition selects what it says, in words and as JSON."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from evermuse_outbox.models import OutboxRecord, OutboxRejection
from evermuse_outbox.operations import RecordFilter, select_records
from tests.models.rows import NOW, add_batch, add_record


@pytest.fixture
def rows(alias):
    """Two rejected records, of which each condition selects only the first, and a pending one."""
    batch = add_batch(alias)
    first = add_record(alias, "rejected", batch=batch, enqueued_at=NOW - timedelta(days=3))
    second = add_record(alias, "rejected", enqueued_at=NOW)
    OutboxRecord.rows.using(alias).filter(pk=second.pk).update(
        workspace="other", type="email", product_id="prod-2"
    )
    pending = add_record(alias)
    for row, code, message in ((first, "BAD", "Unknown field"), (second, "WORSE", "No such project")):
        OutboxRejection.objects.using(alias).create(record=row, code=code, message=message, rejected_at=NOW)
    OutboxRejection.objects.using(alias).create(record=first, code="BAD", message="again", rejected_at=NOW)
    return first, second, pending


CONDITIONS = {
    "workspace": lambda row: "default",
    "type": lambda row: "message",
    "product_id": lambda row: "prod-abc",
    "error_code": lambda row: "BAD",
    "error_text": lambda row: "UNKNOWN",
    "older_than": lambda row: NOW - timedelta(days=1),
    "batch": lambda row: row.batch_id,
    "identity": lambda row: str(row.identity),
    "failed_again": lambda row: True,
    "ids": lambda row: (row.pk,),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_selects_what_it_says_and_survives_json(alias, rows, name):
    first, _, _ = rows
    condition = {name: CONDITIONS[name](first)}
    assert [row.pk for row in select_records(alias, state="rejected", **condition)] == [first.pk]
    chosen = RecordFilter(state="rejected", **condition)
    assert RecordFilter.from_json(chosen.to_json()) == chosen
    assert not chosen.is_empty


def test_without_a_condition_everything_in_the_state_is_meant(alias, rows):
    chosen = RecordFilter(state="rejected")
    assert chosen.is_empty
    assert chosen.rows(alias).count() == 2
    assert str(chosen) == "rejected records"
    assert select_records(alias, state="rejected", newer_than=NOW - timedelta(days=1)).get() == rows[1]


def test_words():
    at = timezone.now()
    text = str(
        RecordFilter(state="rejected", product_id="p", failed_again=True, ids=tuple(range(7)), older_than=at)
    )
    assert (
        text
        == f"rejected records, product id p, older than {at.isoformat()}, failed again, #0, #1, #2, #3, #4 and 2 more"
    )

"""The search on every database: what each kind of term finds, and what a partial result says."""

from __future__ import annotations

from datetime import timedelta

import pytest

from evermuse_outbox.database_clock import database_now
from evermuse_outbox.models import OutboxRecord, OutboxSearchProgress
from evermuse_outbox.search import find, find_records, index_records, text
from tests.records import enqueue
from tests.rows import batch_in, record_in

PEOPLE = [{"id": "U-1", "role": "internal", "email": "Ann@Example.com"}]


def ids(alias, term, **options):
    return sorted(search(alias, term, **options).rows.values_list("pk", flat=True))


def search(alias, term, **options):
    return find_records(OutboxRecord.rows.using(alias), term, **options)


def index(alias):
    """Index all records, as if they were enqueued a moment ago."""
    at = database_now(alias) - timedelta(seconds=10)
    OutboxRecord.rows.using(alias).update(enqueued_at=at)
    index_records(alias, lambda: 0.0)


@pytest.fixture
def no_text(monkeypatch):
    """Let a search of text fail the test, except of records that are not indexed."""

    def refuse(rows, term, scope, may_search_text):
        raise AssertionError(f"{term} was searched as text")

    monkeypatch.setattr(find, "_with_text", refuse)


@pytest.mark.parametrize("is_indexed", [True, False])
def test_a_term_is_found_among_all_records(alias, no_text, is_indexed):
    rows = enqueue(alias, 1, 2, 3, _thread_id="Thread 9", _participants=PEOPLE)
    other = enqueue(alias, 4)
    if is_indexed:
        index(alias)
    first, everyone = rows[0].pk, sorted(row.pk for row in rows)
    assert ids(alias, "msg-1") == [first]
    assert ids(alias, "message_id: msg-1") == [first]
    for term in ("thread 9", "ann@example.com", "u-1", " U-1 "):
        assert ids(alias, term) == everyone, term
    assert ids(alias, "msg-4") == [other[0].pk]
    assert not search(alias, "msg-1").notes


def test_a_number_is_a_record_and_a_vendor_id(alias, no_text):
    (row,) = enqueue(alias, 1)
    (other,) = enqueue(alias, 2, _vendor_ids={"ticket": str(row.pk)})
    index(alias)
    assert ids(alias, f"#{row.pk}") == [row.pk]
    assert ids(alias, str(row.pk)) == [row.pk, other.pk]


def test_all_versions_are_found(alias, no_text):
    old = enqueue(alias, 1, _thread_id="before")[0]
    new = enqueue(alias, 1, _thread_id="after")[0]
    index(alias)
    for term in ("before", "after", "msg-1", str(old.identity)):
        assert ids(alias, term) == [old.pk, new.pk], term


def test_the_records_of_a_batch_are_found(alias):
    batch = batch_in(alias, "complete", remote_id="ev-7")
    row = record_in(alias, "delivered", batch)
    enqueue(alias, 1)
    assert ids(alias, f"batch:{batch.pk}") == [row.pk]
    assert ids(alias, "ev-7") == [row.pk]


@pytest.mark.parametrize("term", ["", "  ", "\0"])
def test_an_empty_term_finds_everything(alias, term):
    rows = enqueue(alias, 1, 2)
    assert ids(alias, term) == [row.pk for row in rows]


@pytest.mark.parametrize(
    "term", ["#9999999", "9" * 5_000, "#" + "9" * 5_000, "batch:", "batch:x", "#", "#x", "%"]
)
def test_a_term_without_a_match(alias, term):
    enqueue(alias, 1)
    index(alias)
    assert ids(alias, term) == []


def test_a_term_that_is_not_found_is_searched_as_text(alias):
    (row,) = enqueue(alias, 1, data={"text": 'She said "yes" to U-77'})
    index(alias)
    for term in ("u-77", 'said "yes"', '"msg-1"'):
        found = search(alias, term)
        assert [record.pk for record in found.rows] == [row.pk]
        assert not found.is_partial
        assert "1 records" in found.notes[0]


def test_text_is_refused_without_the_permission_but_terms_are_found(alias):
    (row,) = enqueue(alias, 1)
    index(alias)
    assert ids(alias, "msg-1", may_search_text=False) == [row.pk]
    for term in ('"Hello"', "Hello"):
        found = search(alias, term, may_search_text=False)
        assert not found.rows.exists()
        assert "permission" in found.notes[0]


def test_a_partial_search_of_text_says_what_was_searched(alias, monkeypatch):
    rows = enqueue(alias, *range(6))
    index(alias)
    monkeypatch.setattr(text, "MAX_RECORDS", 2)
    found = search(alias, '"Hello"')
    assert sorted(row.pk for row in found.rows) == [rows[4].pk, rows[5].pk]
    assert found.is_partial
    assert "partial" in found.notes[0]
    assert f"#{rows[4].pk}" in found.notes[0]
    assert f"#{rows[5].pk}" in found.notes[0]


def test_records_that_are_neither_indexed_nor_searched_make_the_result_partial(alias, monkeypatch):
    rows = enqueue(alias, *range(6), _thread_id="t")
    OutboxSearchProgress.objects.using(alias).create(indexed_to=rows[0].pk)
    monkeypatch.setattr(text, "MAX_RECORDS", 2)
    found = search(alias, "t")
    assert sorted(row.pk for row in found.rows) == [rows[4].pk, rows[5].pk]
    assert found.is_partial
    assert "index does not have all records" in found.notes[0]


def test_only_the_newest_records_of_a_frequent_term_are_found(alias, monkeypatch):
    rows = enqueue(alias, *range(6), _thread_id="t")
    index(alias)
    monkeypatch.setattr(find, "MAX_FOUND", 3)
    monkeypatch.setattr(find, "MAX_EXPANDED", 2)
    found = search(alias, "t")
    assert sorted(row.pk for row in found.rows) == [row.pk for row in rows[3:]]
    assert found.is_partial


def test_only_the_given_records_are_found(alias):
    rows = enqueue(alias, 1, 2, _thread_id="t")
    index(alias)
    first = OutboxRecord.rows.using(alias).filter(pk=rows[0].pk)
    for term in ("t", '"Hello"', f"#{rows[1].pk}", str(rows[1].identity)):
        found = find_records(first, term).rows
        assert rows[1].pk not in found.values_list("pk", flat=True), term

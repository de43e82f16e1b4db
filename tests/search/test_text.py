"""The search of text: its limits of records, bytes and time, on every database."""

from __future__ import annotations

import itertools

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from evermuse_outbox.models import OutboxRecord
from evermuse_outbox.search import text
from evermuse_outbox.search.text import search_text
from tests.records import enqueue


def run(alias, term="Hello", monotonic=lambda: 0.0):
    rows = OutboxRecord.rows.using(alias)
    return search_text(rows, term, rows.order_by("-pk"), monotonic)


@pytest.fixture
def records(alias):
    return [row.pk for row in enqueue(alias, *range(10))]


def test_everything_is_searched_if_it_is_little(alias, records):
    result = run(alias)
    assert result.is_complete
    assert result.matches == records[::-1]
    assert (result.oldest.pk, result.newest.pk, result.records) == (records[0], records[-1], 10)
    assert run(alias, "hello 3").matches == [records[3]]


@pytest.mark.parametrize("per_part", [1, 3, 5, 10, 20])
def test_each_record_is_searched_once(alias, records, monkeypatch, per_part):
    monkeypatch.setattr(text, "RECORDS_PER_PART", per_part)
    result = run(alias)
    assert result.matches == records[::-1]
    assert result.is_complete


@pytest.mark.parametrize(("limit", "value", "expected"), [("MAX_RECORDS", 4, 4), ("MAX_BYTES", 700, 3)])
def test_the_newest_are_searched_up_to_a_limit(alias, records, monkeypatch, limit, value, expected):
    monkeypatch.setattr(text, limit, value)
    monkeypatch.setattr(text, "RECORDS_PER_PART", 2 if limit == "MAX_RECORDS" else 1)
    result = run(alias)
    assert not result.is_complete
    assert result.matches == records[::-1][: result.records]
    assert expected - 1 <= result.records <= expected + 1


def test_a_part_has_a_limited_size(alias, records, monkeypatch):
    monkeypatch.setattr(text, "BYTES_PER_PART", 1)
    with CaptureQueriesContext(connections[alias]) as queries:
        assert run(alias).matches == records[::-1]
    assert sum("LIKE" in query["sql"].upper() for query in queries) == 10


def test_no_part_begins_after_the_time(alias, records, monkeypatch):
    monkeypatch.setattr(text, "RECORDS_PER_PART", 2)
    clock = itertools.count(0.0, 1.0)
    result = run(alias, monotonic=lambda: next(clock))
    assert 0 < result.records < 10
    assert not result.is_complete


def test_an_empty_table(alias):
    result = run(alias)
    assert (result.matches, result.newest, result.is_complete) == ([], None, True)

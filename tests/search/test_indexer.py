"""The search index on every database: what is indexed, when, and what is deleted."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext

from evermuse_outbox.database_clock import database_now
from evermuse_outbox.models import OutboxRecord, OutboxSearchProgress, OutboxTerm
from evermuse_outbox.search import forget_terms, index_records, indexer, stop_indexing, term_hash
from evermuse_outbox.upkeep import maintain_all
from tests.records import enqueue


def make_older(alias, seconds, *rows):
    """Move the time of enqueueing of records, or of all, into the past."""
    records = OutboxRecord.rows.using(alias)
    at = database_now(alias) - timedelta(seconds=seconds)
    (records.filter(pk__in=[row.pk for row in rows]) if rows else records).update(enqueued_at=at)


def run(alias, seconds=60.0):
    """Run the indexer; its clock makes no progress, so that only the end of its work ends it."""
    return index_records(alias, lambda: 0.0, seconds)


def found(alias, text):
    rows = OutboxTerm.objects.using(alias).filter(term=term_hash(text))
    return sorted(rows.values_list("record_id", flat=True))


def progress(alias):
    row = OutboxSearchProgress.objects.using(alias).get()
    return row.indexed_to, row.verified_to


def test_records_are_found_by_their_terms(alias):
    rows = enqueue(alias, 1, 2, 3)
    make_older(alias, 10)
    run(alias)
    assert found(alias, "MSG-2") == [rows[1].pk]
    assert progress(alias) == (rows[-1].pk, 0)
    assert run(alias) == 0


def test_a_record_is_indexed_when_transactions_before_it_have_had_time_to_end(alias):
    old, new = enqueue(alias, 1, 2)
    make_older(alias, 10, old)
    run(alias)
    assert (found(alias, "msg-1"), found(alias, "msg-2")) == ([old.pk], [])
    make_older(alias, 10, new)
    run(alias)
    assert found(alias, "msg-2") == [new.pk]


def test_a_record_that_was_committed_late_is_added_an_hour_later(alias):
    rows = enqueue(alias, *range(5))
    late = rows[2].pk
    make_older(alias, 10)
    saved = OutboxRecord.rows.using(alias).filter(pk=late).values().get()
    OutboxRecord.rows.using(alias).filter(pk=late).delete()
    run(alias)
    OutboxRecord.rows.using(alias).create(**saved)
    run(alias)
    assert found(alias, "msg-2") == []
    make_older(alias, 3_700)
    run(alias)
    assert found(alias, "msg-2") == [late]
    assert progress(alias) == (rows[-1].pk, rows[-1].pk)


def test_terms_of_a_record_that_was_deleted_meanwhile_are_deleted(alias):
    rows = enqueue(alias, 1, 2, 3)
    make_older(alias, 10)
    run(alias)
    OutboxRecord.rows.using(alias).filter(pk=rows[1].pk)._raw_delete(alias)
    make_older(alias, 3_700)
    run(alias)
    assert found(alias, "msg-2") == []
    assert found(alias, "msg-3") == [rows[2].pk]


def test_a_table_that_was_filled_before_the_index_is_indexed_in_parts(alias, monkeypatch):
    monkeypatch.setattr(indexer, "RECORDS_PER_TRANSACTION", 2)
    rows = enqueue(alias, *range(5))
    make_older(alias, 100_000)
    assert index_records(alias, lambda: 0.0, 0.0) == 2  # the time is up, but one part is indexed
    assert progress(alias) == (rows[1].pk, rows[1].pk)
    run(alias)
    assert [found(alias, f"msg-{number}") for number in range(5)] == [[row.pk] for row in rows]
    assert progress(alias) == (rows[-1].pk, rows[-1].pk)


def test_long_payloads_are_read_only_if_their_start_is_not_enough(alias, monkeypatch):
    people = [{"id": f"U-{number}", "role": "internal"} for number in range(50)]
    (short, many) = (
        enqueue(alias, 1, data={"text": "x" * 5_000})[0],
        enqueue(alias, 2, _participants=people)[0],
    )
    make_older(alias, 10)
    monkeypatch.setattr(indexer, "HEAD_LENGTH", 600)
    with CaptureQueriesContext(connections[alias]) as queries:
        run(alias)
    complete = [
        query["sql"]
        for query in queries
        if "SUBSTR" not in query["sql"].upper() and "payload" in query["sql"]
    ]
    assert len(complete) == 1
    assert found(alias, "U-49") == [many.pk]
    assert found(alias, "msg-1") == [short.pk]


def test_the_number_of_statements_does_not_depend_on_the_records(alias):
    counts = []
    for numbers in (range(3), range(10, 200)):
        enqueue(alias, *numbers)
        make_older(alias, 10)
        with CaptureQueriesContext(connections[alias]) as queries:
            run(alias)
        counts.append(len(queries))
    assert counts[0] >= counts[1]


def test_terms_are_deleted_with_their_records(alias):
    first, second = enqueue(alias, 1, 2)
    make_older(alias, 10)
    run(alias)
    forget_terms(alias, [first.pk])
    assert (found(alias, "msg-1"), found(alias, "msg-2")) == ([], [second.pk])
    forget_terms(alias, [])


@pytest.mark.commits
def test_no_worker_indexes_while_another_transaction_does_or_erases(alias):
    if not connections[alias].features.has_select_for_update_skip_locked:
        return  # the database has one writer
    (row,) = enqueue(alias, 1)
    make_older(alias, 10)
    OutboxSearchProgress.objects.using(alias).get_or_create(pk=1)
    counts = []

    def run_elsewhere():
        counts.append(run(alias))
        connections[alias].close()

    with transaction.atomic(using=alias):
        stop_indexing(alias)
        thread = threading.Thread(target=run_elsewhere)
        thread.start()
        thread.join(30)
    assert counts == [0]
    assert run(alias) == 1
    assert found(alias, "msg-1") == [row.pk]


def test_the_setting_switches_the_index_off(alias, context, outbox_settings):
    enqueue(alias, 1)
    make_older(alias, 10)
    outbox_settings(SEARCH_INDEX=False, DATABASES=[alias])
    maintain_all(lambda using: context.clock)
    assert not OutboxTerm.objects.using(alias).exists()
    outbox_settings(SEARCH_INDEX=True, DATABASES=[alias])
    maintain_all(lambda using: context.clock)
    assert found(alias, "msg-1")

"""Sealing on every database: the limits of a batch, races with other transactions, and the number of queries."""

from __future__ import annotations

import pytest
from django.db import connections

from evermuse_outbox.delivery.loop import relay, seal_next
from evermuse_outbox.delivery.scheduling import load_run_queue
from evermuse_outbox.delivery.sealing import SealRaced, pages
from evermuse_outbox.models import OutboxBatch, OutboxRecord, OutboxWorkspace
from tests.delivery.helpers import seal_all, state_of
from tests.records import enqueue


def test_the_maximum_of_records_bounds_a_batch(context, alias, sandbox, outbox_settings, reopen):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_RECORDS=3)
    enqueue(alias, *range(7))
    assert [len(sealed.members) for sealed in seal_all(reopen())] == [3, 3, 1]


def test_the_maximum_of_attachments_bounds_a_batch(context, alias, sandbox, outbox_settings, reopen):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_ATTACHMENTS=5)
    enqueue(alias, *range(4), _attachments=[{"type": "file"}, {"type": "file"}])
    assert [sealed.batch.attachment_count for sealed in seal_all(reopen())] == [4, 4]


def test_a_full_page_of_blocked_records_does_not_hide_those_behind(
    context, alias, sandbox, outbox_settings, reopen
):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_RECORDS=3)
    context = reopen()
    enqueue(alias, 1, 2, 3)
    relay(context, 60)
    blocked = enqueue(alias, 1, 2, 3, data={"version": 2})
    free = enqueue(alias, 4, 5)
    relay(context, 60)
    assert [state_of(row) for row in blocked] == ["pending"] * 3
    assert [state_of(row) for row in free] == ["in_flight"] * 2


def test_a_record_that_is_discarded_during_the_sealing_rolls_it_back(context, alias, monkeypatch):
    first, _second = enqueue(alias, 1, 2)
    read_page = pages.read_page

    def read_and_discard(*arguments):
        page = read_page(*arguments)
        assert OutboxRecord.rows.using(alias).filter(pk=first.pk).discard() == 1
        return page

    monkeypatch.setattr(pages, "read_page", read_and_discard)
    with pytest.raises(SealRaced, match="1 of 2 records"):
        seal_next(context)
    assert not OutboxBatch.objects.using(alias).exists()


def test_a_newer_version_committed_between_two_pages_replaces_the_older_one(
    context, alias, sandbox, outbox_settings, reopen, monkeypatch
):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_RECORDS=3)
    context = reopen()
    enqueue(alias, 8)
    relay(context, 60)
    enqueue(alias, 8, data={"version": 2})  # blocked, so that one page does not fill a request
    older, _other = enqueue(alias, 1, 2)
    read_page, newer = pages.read_page, []

    def read_and_commit(*arguments):
        page = read_page(*arguments)
        if not newer:
            newer.extend(enqueue(alias, 1, data={"version": 2}))
        return page

    monkeypatch.setattr(pages, "read_page", read_and_commit)
    sealed = seal_next(context)
    assert older.pk not in sealed.members
    assert newer[0].pk in sealed.members
    assert state_of(older) == "superseded"


def test_the_number_of_queries_does_not_grow_with_the_records(
    context, alias, django_assert_max_num_queries, outbox_settings, reopen, sandbox
):
    enqueue(alias, 1)
    seal_next(context)
    enqueue(alias, *range(2, 600))
    with django_assert_max_num_queries(14, connection=connections[alias]):
        assert len(seal_next(context).members) == 598


def test_the_resume_point_is_the_time_of_a_record_as_the_database_has_it(
    context, alias, sandbox, outbox_settings, reopen
):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_RECORDS=3)
    context = reopen()
    rows = enqueue(alias, *range(9))
    seal_next(context)
    last = OutboxRecord.rows.using(alias).get(pk=rows[2].pk)
    queue = load_run_queue(context, OutboxWorkspace.objects.using(alias).get())
    assert list(queue.resume_points.values()) == [(last.enqueued_at, last.pk)]

"""Two workers on the same job, with real connections: each member is handled once."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections

from evermuse_outbox import jobs
from evermuse_outbox.models import (
    OperationState,
    OutboxAction,
    OutboxOperation,
    OutboxOperationMember,
    OutboxRecord,
)
from tests.models.rows import GROUP, NOW, add_record

pytestmark = pytest.mark.commits


def confirmed(alias, count):
    for _ in range(count):
        add_record(alias, "rejected")
    job = jobs.create(alias, "retry", by="anna")
    while not jobs.collect(job, OutboxRecord.rows.using(alias).rejected()):
        pass
    jobs.confirm(job)
    return job


def in_threads(step, count=3):
    def run(_):
        try:
            return step()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_two_workers_handle_each_member_once(alias, monkeypatch):
    retry = type(jobs.get_kind("retry"))
    monkeypatch.setattr(retry, "chunk", 7)
    handled = []
    perform = retry.perform

    def note(self, using, pks, *args):
        refusals = perform(self, using, pks, *args)
        handled.extend(pks)
        return refusals

    monkeypatch.setattr(retry, "perform", note)
    job = confirmed(alias, 60)

    def work():
        total = 0
        while jobs.has_running_job(alias):
            total += jobs.run_operations(alias, 5)
        return total

    assert sum(in_threads(work)) == 60
    job.refresh_from_db(using=alias)
    assert (job.state, job.changed) == (OperationState.FINISHED, 60)
    assert OutboxAction.objects.using(alias).get().records == 60
    assert OutboxRecord.rows.using(alias).pending().count() == 60
    assert sorted(handled) == sorted(set(handled))


def test_two_requests_that_collect_at_once_add_each_member_once(alias, monkeypatch):
    monkeypatch.setattr(type(jobs.get_kind("retry")), "page", 4)
    for _ in range(30):
        add_record(alias, "rejected")
    job = jobs.create(alias, "retry", by="anna")

    def collect():
        row = OutboxOperation.objects.using(alias).get(pk=job.pk)
        while not jobs.collect(row, OutboxRecord.rows.using(alias).rejected(), limit_seconds=0):
            pass

    in_threads(collect)
    job.refresh_from_db(using=alias)
    assert (job.state, job.total) == (OperationState.READY, 30)
    assert OutboxOperationMember.objects.using(alias).count() == 30


def test_a_chunk_has_500_records(alias):
    # Each record has an identity of its own; otherwise it would have a newer version.
    columns = {
        "closed_as": "rejected",
        "contract": "reference",
        "payload": "{}",
        "size": 2,
        "enqueued_at": NOW,
    }
    rows = (OutboxRecord(**GROUP, **columns, identity=uuid.uuid4()) for _ in range(1_100))
    OutboxRecord.rows.using(alias).bulk_create(rows, batch_size=100)
    job = confirmed(alias, 0)
    assert [jobs.run_chunk(alias, job.pk) for _ in range(4)] == [500, 500, 100, 0]
    job.refresh_from_db(using=alias)
    assert (job.state, job.total, job.changed) == (OperationState.FINISHED, 1_100, 1_100)

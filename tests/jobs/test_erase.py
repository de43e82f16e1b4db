"""The job that erases records: members of any state, other versions, and what it notes about each."""

from __future__ import annotations

import pytest

from evermuse_outbox import jobs, outbox
from evermuse_outbox.admin.jobs.selection import Selection
from evermuse_outbox.models import OutboxAction, OutboxOperationMember, OutboxRecord
from evermuse_outbox.operations.erasing import ERASED
from tests.delivery.helpers import deliver
from tests.records import enqueue, record


def erase(alias, rows):
    job = jobs.create(alias, "erase", by="anna", reason="request 12", selection="one person")
    while not jobs.collect(job, rows):
        pass
    jobs.confirm(job)
    while jobs.run_chunk(alias, job.pk):
        pass
    job.refresh_from_db(using=alias)
    return job


def test_records_of_any_state_are_erased_with_their_versions(context, alias, sandbox, clock, monkeypatch):
    monkeypatch.setattr(jobs.records.Erase, "chunk", 2)
    delivered = enqueue(alias, 1, 2)
    deliver(context, clock)
    newer = outbox.enqueue(record(1, data={"version": 2}), using=alias)
    other = enqueue(alias, 3, 4)
    rows = OutboxRecord.rows.using(alias).filter(pk__in=[delivered[0].pk, newer.pk, other[0].pk])
    job = erase(alias, rows)
    assert (job.state, job.total, job.changed, job.refused) == ("finished", 3, 3, 0)
    left = set(OutboxRecord.rows.using(alias).values_list("pk", flat=True))
    assert left == {delivered[1].pk, other[1].pk}
    notes = dict(job.members.values_list("target", "note"))
    assert notes[delivered[0].pk].startswith("has; #")
    assert notes[other[0].pk] == "never_sent"
    action = OutboxAction.objects.using(alias).get()
    assert (action.kind, action.by, action.reason, action.records) == ("erase", "anna", "request 12", 3)


@pytest.mark.parametrize(("kind", "note"), [("retry", ERASED), ("give_up", "batch 1 is bad")])
def test_a_note_of_another_job_about_the_record_is_erased(alias, kind, note):
    (row,) = enqueue(alias, 1)
    other = jobs.create(alias, kind, by="anna")
    OutboxOperationMember.objects.using(alias).create(
        operation=other, target=row.pk, result="failed", note="batch 1 is bad"
    )
    erase(alias, OutboxRecord.rows.using(alias).all())
    assert other.members.get().note == note


@pytest.mark.parametrize("ending", ["collected", "cancelled"])
def test_the_filter_of_a_list_is_forgotten_with_the_collecting(alias, ending):
    enqueue(alias, 1)
    options = {"list": {"query": "q=ada@example.com"}, "other": 1}
    job = jobs.create(alias, "erase", by="anna", options=options)
    assert job.options == options
    if ending == "cancelled":
        jobs.cancel(job)
    else:
        assert jobs.collect(job, OutboxRecord.rows.using(alias).all())
    job.refresh_from_db(using=alias)
    assert job.options == {"other": 1}


def test_other_kinds_keep_the_filter_of_the_list(alias):
    enqueue(alias, 1)
    job = jobs.create(alias, "discard", by="anna", options={"list": {"query": "q=x"}})
    jobs.collect(job, OutboxRecord.rows.using(alias).all())
    assert job.options == {"list": {"query": "q=x"}}


def test_a_search_is_stored_as_a_hash():
    selection = Selection("record", "q=ada%40example.com&product_id=p")
    assert "q = ada@example.com" in selection.describe()
    hidden = selection.describe(hides_texts=True)
    assert "ada@example.com" not in hidden
    assert "q a… (SHA-256 " in hidden
    assert "product_id = p" in hidden

"""Jobs from the selection to the last chunk, on every database: what survives a crash, a pause and a bad member."""

from __future__ import annotations

import pytest
from django.db import Error as DatabaseError

from evermuse_outbox import jobs
from evermuse_outbox.jobs import Refusal
from evermuse_outbox.models import (
    OperationState,
    OutboxAction,
    OutboxOperation,
    OutboxOperationMember,
    OutboxRecord,
)
from evermuse_outbox.operations import NotPossible
from tests.models.rows import add_batch, add_record


class Crash(BaseException):
    """A process that dies: no code handles it."""


@pytest.fixture
def small_chunks(monkeypatch):
    """Let a chunk have three members and a page five, so that few rows make several of them."""
    for kind in jobs.kinds().values():
        monkeypatch.setattr(type(kind), "chunk", 3)
        monkeypatch.setattr(type(kind), "page", 5)


def rejected(alias, count):
    return [add_record(alias, "rejected").pk for _ in range(count)]


def states(alias, pks):
    rows = OutboxRecord.objects.using(alias).filter(pk__in=pks).order_by("pk")
    return [row.state for row in rows]


def collected(alias, kind="retry", rows=None, **options):
    job = jobs.create(
        alias, kind, by="anna", reason="corrected", selection="all rejected records", options=options
    )
    rows = OutboxRecord.rows.using(alias).rejected() if rows is None else rows
    while not jobs.collect(job, rows, limit_seconds=0):
        pass
    return job


def confirmed(alias, kind="retry", **options):
    job = collected(alias, kind, **options)
    jobs.confirm(job)
    return job


def reload(job):
    job.refresh_from_db(using=job.using)
    return job


def test_a_job_changes_its_members_in_chunks_and_records_who_decided_it(alias, small_chunks):
    pks = rejected(alias, 8)
    job = collected(alias)
    assert (job.state, job.total, job.workspace) == (OperationState.READY, 8, "default")
    assert states(alias, pks) == ["rejected"] * 8
    jobs.confirm(job)
    assert jobs.has_running_job(alias)
    assert jobs.run_chunk(alias, job.pk) == 3
    action = OutboxAction.objects.using(alias).get()
    assert (action.kind, action.by, action.reason, action.records) == ("retry", "anna", "corrected", 3)
    assert jobs.run_operations(alias, 60) == 5
    assert states(alias, pks) == ["pending"] * 8
    reload(job)
    assert (job.state, job.changed, job.refused, job.failed, job.left) == (
        OperationState.FINISHED,
        8,
        0,
        0,
        0,
    )
    action = OutboxAction.objects.using(alias).get()
    assert (action.records, action.target) == (8, f"job #{job.pk}: all rejected records")
    assert action.pk == job.action_id
    assert not jobs.has_running_job(alias)


def test_members_are_fixed_when_the_job_is_ready(alias):
    first = rejected(alias, 2)
    pending = add_record(alias)
    job = collected(alias)
    OutboxRecord.rows.using(alias).filter(pk=pending.pk).update(closed_as="rejected")
    later = rejected(alias, 1)
    jobs.confirm(job)
    jobs.run_operations(alias, 60)
    assert states(alias, first) == ["pending", "pending"]
    assert states(alias, [pending.pk, *later]) == ["rejected", "rejected"]


def test_a_crash_in_a_chunk_changes_nothing_and_the_next_run_goes_on(alias, small_chunks, monkeypatch):
    pks = rejected(alias, 8)
    job = confirmed(alias)
    jobs.run_chunk(alias, job.pk)
    retry = type(jobs.get_kind("retry"))
    with monkeypatch.context() as patch:
        perform = retry.perform

        def die_afterwards(*args):
            perform(*args)
            raise Crash

        patch.setattr(retry, "perform", die_afterwards)
        with pytest.raises(Crash):
            jobs.run_chunk(alias, job.pk)
    assert states(alias, pks) == ["pending"] * 3 + ["rejected"] * 5
    assert reload(job).changed == 3
    assert OutboxAction.objects.using(alias).get().records == 3
    jobs.run_operations(alias, 60)
    assert states(alias, pks) == ["pending"] * 8
    assert (reload(job).changed, OutboxAction.objects.using(alias).get().records) == (8, 8)


def test_a_member_whose_change_raises_does_not_stop_the_job(alias, small_chunks, monkeypatch):
    pks = rejected(alias, 7)
    job = confirmed(alias)
    retry = type(jobs.get_kind("retry"))
    perform = retry.perform

    def refuse_one(self, using, members, *args):
        if pks[4] in members:
            raise ValueError("a bad record")
        return perform(self, using, members, *args)

    monkeypatch.setattr(retry, "perform", refuse_one)
    jobs.run_operations(alias, 60)
    assert states(alias, pks) == ["pending"] * 4 + ["rejected"] + ["pending"] * 2
    assert (reload(job).state, job.changed, job.failed) == (OperationState.FINISHED, 6, 1)
    member = OutboxOperationMember.objects.using(alias).not_changed(job).get()
    assert (member.target, member.result, member.note) == (pks[4], "failed", "ValueError: a bad record")
    assert OutboxAction.objects.using(alias).get().records == 6


def test_a_transient_error_of_the_database_is_no_error_of_a_member(alias, small_chunks, monkeypatch, clock):
    pks = rejected(alias, 4)
    job = confirmed(alias)
    retry, errors = type(jobs.get_kind("retry")), [1, 2]
    perform = retry.perform

    def fail_twice(*args):
        if errors:
            errors.pop()
            raise DatabaseError(1213, "Deadlock found when trying to get lock")
        return perform(*args)

    monkeypatch.setattr(retry, "perform", fail_twice)
    monkeypatch.setattr(
        "evermuse_outbox.delivery.context.retries._is_in_transaction", lambda connection: False
    )
    jobs.run_operations(alias, 60, clock=clock.clock())
    assert states(alias, pks) == ["pending"] * 4
    assert (reload(job).changed, job.failed) == (4, 0)


def test_a_paused_job_goes_on_where_it_was_and_a_cancelled_one_does_not(alias, small_chunks):
    pks = rejected(alias, 8)
    job = confirmed(alias)
    jobs.run_chunk(alias, job.pk)
    jobs.pause(job, "lunch")
    assert (job.state, job.message) == (OperationState.PAUSED, "lunch")
    assert jobs.run_operations(alias, 60) == 0
    jobs.proceed(job)
    jobs.run_chunk(alias, job.pk)
    jobs.cancel(job)
    assert (job.state, job.changed, job.left) == (OperationState.CANCELLED, 6, 2)
    assert jobs.run_operations(alias, 60) == 0
    assert states(alias, pks) == ["pending"] * 6 + ["rejected"] * 2
    for change in (jobs.confirm, jobs.pause, jobs.proceed, jobs.cancel):
        with pytest.raises(NotPossible, match="is cancelled"):
            change(job)


def test_the_preview_says_what_will_be_refused_and_what_the_job_costs(alias, small_chunks):
    rejected(alias, 6)
    pending = [add_record(alias).pk for _ in range(7)]
    job = collected(alias, rows=OutboxRecord.rows.using(alias).all())
    assert job.total == 13
    assert job.expected == {"It is not rejected": {"count": 7, "ids": pending}}
    estimate = jobs.estimate(job)
    assert (estimate.requests, estimate.seconds) == (1, 0.1)
    jobs.confirm(job)
    jobs.run_operations(alias, 60)
    assert (reload(job).changed, job.refused) == (6, 7)
    notes = (
        OutboxOperationMember.objects.using(alias).not_changed(job).values_list("target", "result", "note")
    )
    assert list(notes) == [(pk, "refused", "It is not rejected") for pk in pending]


def test_records_that_a_batch_has_taken_are_not_discarded(alias):
    flying = add_record(alias, "in_flight", batch=add_batch(alias))
    waiting = add_record(alias)
    job = collected(alias, "discard", OutboxRecord.rows.using(alias).all())
    jobs.confirm(job)
    jobs.run_operations(alias, 60)
    assert states(alias, [flying.pk, waiting.pk]) == ["in_flight", "discarded"]
    assert (reload(job).changed, job.refused) == (1, 1)


def test_a_job_that_this_version_cannot_execute_fails_and_can_be_continued_later(alias, monkeypatch):
    rejected(alias, 1)
    job = confirmed(alias)
    OutboxOperation.objects.using(alias).filter(pk=job.pk).update(kind="unknown")
    assert jobs.run_operations(alias, 60) == 0
    assert reload(job).state == OperationState.FAILED
    assert "no kind of job 'unknown'" in job.message
    OutboxOperation.objects.using(alias).filter(pk=job.pk).update(kind="retry")
    jobs.proceed(reload(job))
    jobs.run_operations(alias, 60)
    assert reload(job).state == OperationState.FINISHED


def test_an_empty_selection_is_a_job_without_members(alias):
    job = confirmed(alias)
    jobs.run_operations(alias, 60)
    assert (reload(job).state, job.percent) == (OperationState.FINISHED, 100)


def test_a_refusal_is_counted_by_its_reason():
    assert str(Refusal("It has a newer version", "#7")) == "It has a newer version: #7"
    assert str(Refusal("It is over")) == "It is over"

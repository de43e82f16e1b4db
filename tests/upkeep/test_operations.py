"""Old jobs: those that were never confirmed are cancelled, and members and jobs are deleted in bounded steps."""

from __future__ import annotations

from datetime import timedelta

from evermuse_outbox import jobs
from evermuse_outbox.models import OutboxOperation, OutboxOperationMember, OutboxRecord
from evermuse_outbox.upkeep import forget_operations, operations
from tests.models.rows import add_record

YEAR = timedelta(days=365)


def collected(alias):
    job = jobs.create(alias, "retry", by="anna")
    while not jobs.collect(job, OutboxRecord.rows.using(alias).rejected()):
        pass
    return job


def forget(alias, clock):
    return forget_operations(alias, clock.clock(), 14, YEAR)


def test_a_job_that_was_not_confirmed_for_a_day_is_cancelled_and_its_members_are_deleted(alias, clock):
    add_record(alias, "rejected")
    job = collected(alias)
    OutboxOperation.objects.using(alias).update(created_at=clock.now())
    clock.move(80_000)
    forget(alias, clock)
    assert OutboxOperationMember.objects.using(alias).exists()
    clock.move(7_000)
    forget(alias, clock)
    job.refresh_from_db(using=alias)
    assert (job.state, job.message, job.has_members) == (
        "cancelled",
        "It was not confirmed within a day.",
        False,
    )
    assert not OutboxOperationMember.objects.using(alias).exists()


def test_members_are_deleted_after_the_retention_and_jobs_with_the_manual_actions(alias, clock, monkeypatch):
    monkeypatch.setattr(operations, "MEMBERS_PER_RUN", 2)
    for _ in range(5):
        add_record(alias, "rejected")
    job = collected(alias)
    jobs.confirm(job, clock=clock.clock())
    jobs.run_operations(alias, 60, clock=clock.clock())
    clock.move(13 * 86_400)
    assert forget(alias, clock) == 0
    clock.move(2 * 86_400)
    left = []
    for _ in range(4):
        forget(alias, clock)
        left.append(OutboxOperationMember.objects.using(alias).count())
    assert left == [3, 1, 0, 0]
    assert OutboxOperation.objects.using(alias).get().changed == 5
    clock.move(365 * 86_400)
    forget(alias, clock)
    assert not OutboxOperation.objects.using(alias).exists()


def test_a_running_job_keeps_its_members(alias, clock):
    add_record(alias, "rejected")
    job = collected(alias)
    jobs.confirm(job, clock=clock.clock())
    clock.move(400 * 86_400)
    assert forget(alias, clock) == 0
    job.refresh_from_db(using=alias)
    assert job.state == "running"

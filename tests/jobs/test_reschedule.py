"""Scheduled records are sent now, or at another time, by a job."""

from __future__ import annotations

from datetime import timedelta

import pytest

from evermuse_outbox import jobs, outbox
from evermuse_outbox.delivery.deferral import apply_all_due, hold
from evermuse_outbox.models import OutboxAction, OutboxDeferral, OutboxRecord
from evermuse_outbox.operations import NotPossible
from tests.delivery.helpers import state_of
from tests.records import record

HOUR = timedelta(hours=1)


@pytest.fixture
def now(context, clock, alias, monkeypatch):
    """The time of all that happens here."""
    monkeypatch.setattr("evermuse_outbox.timing.timing.database_now", lambda using: clock.at)
    monkeypatch.setattr("evermuse_outbox.jobs.records.database_now", lambda using: clock.at)
    return clock.at


def reschedule(alias, rows, **options):
    pks = [row.pk for row in rows]
    selection = OutboxRecord.rows.using(alias).filter(pk__in=pks)
    job = jobs.create(alias, "reschedule", by="anna", reason="no embargo", selection="some", options=options)
    while not jobs.collect(job, selection):
        pass
    jobs.confirm(job)
    while jobs.run_chunk(alias, job.pk):
        pass
    job.refresh_from_db(using=alias)
    return job


def apply(context, alias):
    apply_all_due(alias, "default", context.clock)


@pytest.fixture
def put_later(alias, now):
    """Return a function that enqueues a record with times."""
    return lambda number, **times: outbox.enqueue(record(number), using=alias, **times)


def test_scheduled_records_are_sent_now(context, alias, put_later):
    row, other = put_later(1, send_after=HOUR), put_later(2, send_after=HOUR)
    job = reschedule(alias, [row])
    apply(context, alias)
    assert (state_of(row), state_of(other), job.changed) == ("pending", "scheduled", 1)
    action = OutboxAction.objects.using(alias).latest("pk")
    assert (action.kind, action.by, action.reason) == ("reschedule", "anna", "no embargo")


def test_scheduled_records_are_sent_at_another_time(context, alias, put_later, clock, now):
    row = put_later(1, send_after=HOUR)
    reschedule(alias, [row], send_after=(now + 2 * HOUR).isoformat())
    clock.move(3_601)
    apply(context, alias)
    assert state_of(row) == "scheduled"
    clock.move(3_600)
    apply(context, alias)
    assert state_of(row) == "pending"


def test_the_expiry_stays_and_a_later_time_is_refused(context, alias, put_later, now):
    row = put_later(1, send_after=HOUR, expires_at=2 * HOUR)
    job = reschedule(alias, [row], send_after=(now + 3 * HOUR).isoformat())
    assert (job.changed, job.refused) == (0, 1)
    reschedule(alias, [row])
    apply(context, alias)
    deferral = OutboxDeferral.objects.using(alias).get()
    assert (state_of(row), deferral.due_at) == ("pending", now + 2 * HOUR)


def test_other_records_are_refused(context, alias, put_later):
    pending, held = put_later(1), put_later(2)
    hold(alias, "default", [held.pk], 7, None)
    job = reschedule(alias, [pending, held])
    assert (job.changed, job.refused) == (0, 2)
    assert (state_of(pending), state_of(held)) == ("pending", "held")


def test_the_time_of_a_person_replaces_the_wait_of_a_debounced_record(context, alias, put_later, clock):
    row = put_later(1, debounce=HOUR)
    newer = put_later(1, debounce=HOUR)
    reschedule(alias, [row])
    apply(context, alias)
    assert (state_of(row), state_of(newer)) == ("pending", "scheduled")


def test_a_text_that_is_no_time_is_refused(context, alias):
    with pytest.raises(NotPossible, match="no time"):
        jobs.create(alias, "reschedule", by="anna", selection="some", options={"send_after": "soon"})

"""Records that are sent later, or not after a time, on every database and over real HTTP."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from evermuse_outbox import outbox
from evermuse_outbox.delivery.deferral import apply_all_due, hold, release_held
from evermuse_outbox.delivery.loop import relay, seal_next
from evermuse_outbox.delivery.scanning import find_work
from evermuse_outbox.delivery.scheduling import ResumePoint, RunQueue
from evermuse_outbox.delivery.sealing import prepare_members, sealing_lock
from evermuse_outbox.insight import explain_record
from evermuse_outbox.models import (
    OutboxBatch,
    OutboxDeferral,
    OutboxRecord,
    OutboxRejection,
    OutboxWorkspace,
)
from evermuse_outbox.operations import pause_group, retry_records
from evermuse_outbox.upkeep import PurgeProgress, purge_one_run
from tests.delivery.helpers import seal_all, state_of
from tests.records import enqueue, record

DAY = 86_400
"""Seconds of a day."""


@pytest.fixture
def context(context, alias, clock, monkeypatch):
    """The context of the delivery. The times of ``enqueue`` are by its clock, too."""
    monkeypatch.setattr("evermuse_outbox.timing.timing.database_now", lambda using: clock.at)
    return context


@pytest.fixture
def later(context, alias, clock):
    """Return a function that lets time pass and applies what is due, as a tick does."""

    def wait(seconds):
        clock.move(seconds)
        for name in find_work(alias, ["default"], context.clock).deferred:
            apply_all_due(alias, name, context.clock)

    return wait


def put(alias, number=1, text="", **times):
    """Enqueue a version of the message with that number."""
    times = {name: timedelta(seconds=value) for name, value in times.items()}
    return outbox.enqueue(record(number, data={"text": text}), using=alias, **times)


def test_a_scheduled_record_is_sent_at_its_time_and_not_before(context, alias, later):
    row = put(alias, send_after=60)
    assert (row.state, state_of(row)) == ("scheduled", "scheduled")
    later(59)
    assert seal_all(context) == []
    later(1)
    assert state_of(row) == "pending"
    assert [sealed.members for sealed in seal_all(context)] == [(row.pk,)]
    assert not OutboxDeferral.objects.using(alias).exists()


def test_the_error_of_the_clock_sends_no_record_too_early(context, alias, clock):
    row = put(alias, send_after=60)
    unsure = dataclasses.replace(context.clock, error=lambda: 0.5)
    clock.move(60.4)  # the database's clock may be at 59.9
    assert apply_all_due(alias, "default", unsure) == 0
    clock.move(0.1)
    assert apply_all_due(alias, "default", unsure) == 1
    assert state_of(row) == "pending"


def test_no_record_is_sealed_after_its_expiry_although_sealing_takes_time(context, alias, clock):
    def now():
        clock.move(1)
        return clock.at

    rows = [put(alias, number, expires_at=number) for number in range(1, 12)]
    seal_all(dataclasses.replace(context, clock=dataclasses.replace(context.clock, now=now)))
    states = {state_of(row) for row in rows}
    assert states == {"in_flight", "expired"}
    for row in OutboxRecord.rows.using(alias).filter(batch__isnull=False).select_related("batch"):
        assert row.batch.sealed_at < OutboxDeferral.objects.using(alias).get(pk=row.pk).expires_at


def test_a_record_expires_while_it_waits(context, alias, later):
    row = put(alias, expires_at=60)
    assert state_of(row) == "pending"
    later(60)
    assert state_of(row) == "expired"
    assert seal_all(context) == []


def test_no_expired_record_is_sealed_even_if_no_tick_has_run(context, alias, clock):
    row, other = put(alias, 1, expires_at=60), put(alias, 2)
    clock.move(60)
    assert [sealed.members for sealed in seal_all(context)] == [(other.pk,)]
    assert state_of(row) == "expired"


def test_a_record_that_was_sealed_in_time_is_not_expired(context, alias, later):
    row = put(alias, expires_at=60)
    seal_all(context)
    later(61)
    assert state_of(row) == "in_flight"
    row.read_batch()
    OutboxRecord.rows.using(alias).filter(pk=row.pk).update(batch=None)  # as if its batch was withdrawn
    later(61)
    assert state_of(row) == "expired"


def test_a_record_of_a_withdrawn_batch_is_not_sealed_again_after_its_expiry(context, alias, later):
    row = put(alias, expires_at=60)
    (sealed,) = seal_all(context)
    later(61)  # it is in flight, so it is looked at again later
    OutboxRecord.rows.using(alias).release(sealed.batch)
    assert seal_all(context) == []
    assert state_of(row) == "expired"


def test_a_record_that_was_in_flight_at_its_expiry_is_sent_if_a_person_retries_it(
    context, alias, later, clock
):
    row = put(alias, expires_at=60)
    (sealed,) = seal_all(context)
    later(61)  # it is looked at again later
    message = OutboxRejection.local(row.pk, "X", "wrong", clock.at)
    message.batch_id = sealed.batch.pk
    OutboxRecord.rows.using(alias).reject([message])
    assert retry_records(alias, [row.pk], by="ana").reopened == (row.pk,)
    later(61)
    assert state_of(row) == "pending"


def test_a_version_that_has_expired_replaces_no_older_one(context, alias, later):
    first = put(alias, debounce=30)
    second = put(alias, debounce=60, expires_at=90)
    later(100)  # the workers did not run meanwhile
    assert (state_of(first), state_of(second)) == ("pending", "expired")


def test_no_resume_point_hides_a_record_that_was_enqueued_early(context, alias, later):
    row = put(alias, 1, send_after=60)
    later(60)
    group = (row.type, row.product_id)
    queue = RunQueue(resume_points={group: ResumePoint(context.clock.now(), 10**6)})
    rows = OutboxWorkspace.objects.using(alias)
    put(alias, 2, send_after=1)
    rows.update_or_create(pk="default", defaults={"run_queue": queue.to_json()})
    later(1)
    assert RunQueue.from_json(rows.get(pk="default").run_queue).resume_points == {}


@pytest.mark.parametrize("state", ["scheduled", "held"])
def test_a_newer_version_is_not_purged_while_an_older_one_is_deferred(context, alias, later, clock, state):
    later_90_days = {"send_after": 90 * DAY} if state == "scheduled" else {}
    older = put(alias, 1, "old", **later_90_days)
    if state == "held":
        hold(alias, "default", [older.pk], 7, clock.at + timedelta(days=90))
    newer = put(alias, 1, "new")
    relay(context, 60)
    OutboxBatch.objects.using(alias).update(state="complete", finished_at=clock.at, next_poll_at=None)
    assert state_of(newer) == "delivered"
    clock.move(60 * DAY)
    purge_one_run(alias, context.clock, 30, PurgeProgress())
    assert state_of(newer) == "delivered"
    later(31 * DAY)
    assert seal_all(context) == []
    assert state_of(older) == "superseded"


def test_twenty_edits_in_five_minutes_are_sent_once(context, alias, later):
    rows = []
    for edit in range(20):
        rows.append(put(alias, 1, f"edit {edit}", debounce=30, max_delay=600))
        later(15)
        assert seal_all(context) == []
    later(30)
    assert [sealed.members for sealed in seal_all(context)] == [(rows[-1].pk,)]
    assert [state_of(row) for row in rows] == ["superseded"] * 19 + ["in_flight"]


def test_edits_without_end_are_sent_after_the_maximum_delay(context, alias, later):
    rows = []
    for edit in range(40):
        rows.append(put(alias, 1, f"edit {edit}", debounce=30, max_delay=100))
        later(10)
    assert [edit for edit, row in enumerate(rows) if state_of(row) == "pending"] == [9, 19, 29, 39]


@pytest.mark.parametrize("end", ["expired", "discarded"])
def test_a_plain_version_is_sent_if_the_debounced_ones_after_it_are_not(context, alias, later, end):
    plain = put(alias)
    first = put(alias, debounce=30)
    newest = put(alias, debounce=60, expires_at=90)
    later(30)
    assert (state_of(first), state_of(newest)) == ("superseded", "scheduled")
    if end == "discarded":
        OutboxRecord.objects.using(alias).filter(pk=newest.pk).discard()
    later(60)
    assert state_of(newest) == end
    assert [sealed.members for sealed in seal_all(context)] == [(plain.pk,)]


@pytest.mark.parametrize("product", ["prod-abc", "prod-other"])
def test_an_older_version_is_superseded_when_a_newer_one_is_sealed_that_might_have_expired(
    context, alias, product
):
    older = put(alias)
    newer = outbox.enqueue(record(1, _product_id=product), using=alias, expires_at=timedelta(seconds=90))
    assert [sealed.members for sealed in seal_all(context)] == [(newer.pk,)]
    assert state_of(older) == "superseded"


def test_an_older_version_waits_while_a_newer_one_may_expire(context, alias, later):
    older = put(alias)
    blocker = outbox.enqueue(
        record(1, _product_id="prod-other"), using=alias, expires_at=timedelta(seconds=90)
    )
    pause_group(alias, "default", ("message", "prod-other"), by="ana", reason="wait")
    assert seal_all(context) == []
    assert "may expire" in explain_record(older)
    later(90)
    assert state_of(blocker) == "expired"
    assert [sealed.members for sealed in seal_all(context)] == [(older.pk,)]


def test_a_refused_version_is_sealed_again_while_a_newer_one_may_expire(context, alias, later):
    older = put(alias)
    (sealed,) = seal_all(context)
    newer = put(alias, expires_at=90)
    with sealing_lock(context):
        assert [row.pk for row in prepare_members(context, sealed.batch)] == [older.pk]
    assert (state_of(older), state_of(newer)) == ("in_flight", "pending")


def test_a_version_without_debounce_is_sent_at_once_and_supersedes_those_that_wait(context, alias, later):
    waiting, plain = put(alias, 1, "a", debounce=30), put(alias, 1, "b")
    assert [sealed.members for sealed in seal_all(context)] == [(plain.pk,)]
    later(30)
    seal_all(context)
    assert state_of(waiting) == "superseded"


def test_an_older_version_is_sent_although_a_newer_one_is_scheduled(context, alias, later):
    older, newer = put(alias, 1, "old"), put(alias, 1, "new", send_after=60)
    assert [sealed.members for sealed in seal_all(context)] == [(older.pk,)]
    later(60)
    assert state_of(newer) == "pending"
    assert seal_next(context) is None  # the older version is in flight


def test_a_scheduled_older_version_never_follows_a_newer_one(context, alias, later):
    older, newer = put(alias, 1, "old", send_after=60), put(alias, 1, "new")
    assert [sealed.members for sealed in seal_all(context)] == [(newer.pk,)]
    later(60)
    assert seal_all(context) == []
    assert state_of(older) == "superseded"


def test_many_records_are_scheduled_by_one_call(context, alias, later):
    numbers = range(1_001)
    count = outbox.enqueue_many(
        (record(number) for number in numbers), using=alias, send_after=timedelta(seconds=60)
    )
    assert count == 1_001
    scheduled = OutboxRecord.rows.using(alias).in_state("scheduled")
    assert set(scheduled.values_list("pk", flat=True)) == set(
        OutboxDeferral.objects.using(alias).values_list("pk", flat=True)
    )
    later(60)
    assert OutboxRecord.rows.using(alias).pending().count() == 1_001


def test_many_records_that_expire_have_their_own_rows(context, alias, later):
    enqueue(alias, 1, 2)
    outbox.enqueue_many((record(number) for number in (1, 3)), using=alias, expires_at=timedelta(seconds=60))
    later(60)
    states = OutboxRecord.objects.using(alias).order_by("pk").values_list("state", flat=True)
    assert list(states) == ["pending", "pending", "expired", "expired"]


def test_held_records_are_pending_again_when_their_rule_ends(context, alias, later, clock):
    first, second = enqueue(alias, 1, 2)
    expiring = put(alias, 3, expires_at=60)
    hold(alias, "default", [first.pk, expiring.pk], 7, None)
    assert [sealed.members for sealed in seal_all(context)] == [(second.pk,)]
    later(60)
    assert (state_of(first), state_of(expiring)) == ("held", "expired")
    assert release_held(alias, 7, clock.at, 100) == 1
    later(0)
    assert state_of(first) == "pending"


def test_a_deferred_record_can_be_discarded(context, alias, later):
    row = put(alias, send_after=60)
    assert OutboxRecord.rows.using(alias).filter(pk=row.pk).discard(by="ana") == 1
    later(60)
    assert state_of(row) == "discarded"
    assert not OutboxDeferral.objects.using(alias).exists()


def test_a_held_record_can_be_discarded(context, alias, later):
    (row,) = enqueue(alias, 1)
    hold(alias, "default", [row.pk], 7, None)
    assert OutboxRecord.rows.using(alias).filter(pk=row.pk).discard(by="ana") == 1
    later(60)
    assert state_of(row) == "discarded"


@pytest.mark.commits
def test_a_record_and_its_deferral_are_committed_together(context, alias, monkeypatch):
    monkeypatch.setattr("evermuse_outbox.outbox.insert_deferrals", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        put(alias, send_after=60)
    assert not OutboxRecord.rows.using(alias).exists()


def test_a_record_without_times_costs_no_statement_more(context, alias):
    put(alias, 0)
    with CaptureQueriesContext(
        connections[alias],
    ) as captured:
        put(alias, 1)
    assert len(captured) == 1
    relay(context, 60)
    sealed = dataclasses.replace(context)
    put(alias, 2)
    with CaptureQueriesContext(connections[alias]) as captured:
        seal_next(sealed)
    assert not [
        query for query in captured if "FROM" in query["sql"] and query["sql"].lstrip().startswith("DELETE")
    ]

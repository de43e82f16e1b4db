"""Statuses of accepted batches on every database: written once, never by an older report, rejections located."""

from __future__ import annotations

import dataclasses

import pytest

from evermuse_outbox import outbox
from evermuse_outbox.delivery.loop import poll, relay
from evermuse_outbox.delivery.polling import poll_due_batch
from evermuse_outbox.delivery.settling import apply_status, apply_statuses
from evermuse_outbox.evermuse.api import RecordError, Status
from evermuse_outbox.models import BatchState, OutboxBatch, OutboxRecord
from evermuse_outbox.operations import retry_records
from evermuse_outbox.sandbox import Fault
from evermuse_outbox.upkeep import purge_old_rows
from tests.delivery.polling.test_poll import accept_batches, batch_states
from tests.records import make_invalid, record


def test_an_older_status_never_overwrites_a_newer_one(context, alias, sandbox, clock):
    accept_batches(context, alias, 1)
    stale = OutboxBatch.objects.using(alias).get()
    clock.move(10)
    poll(context, 0.1)
    apply_status(context, stale, Status(stale.remote_id, "PROCESSING", 1, 0, 0, ()))
    assert batch_states(alias) == [(BatchState.COMPLETE, "COMPLETE")]


def test_an_older_page_never_overwrites_a_newer_status(context, alias, sandbox, clock):
    accept_batches(context, alias, 2)
    stale = list(OutboxBatch.objects.using(alias))
    clock.move(10)
    poll(context, 0.1)
    before = list(OutboxBatch.objects.using(alias).values())
    clock.move(10)
    apply_statuses(context, [(batch, Status(batch.remote_id, "PROCESSING", 1, 0, 0, ())) for batch in stale])
    apply_statuses(context, [(batch, Status(batch.remote_id, "FAILED", 1, 0, 0, ())) for batch in stale])
    assert list(OutboxBatch.objects.using(alias).values()) == before


def test_a_page_from_before_completion_changes_nothing_after_it(context, alias, sandbox, clock):
    accept_batches(context, alias, 1)
    stale = OutboxBatch.objects.using(alias).get()
    complete = Status(stale.remote_id, "COMPLETE", 1, 0, 0, (), attachment_status="IN_PROGRESS")
    apply_statuses(context, [(stale, complete)])
    before = OutboxBatch.objects.using(alias).values().get()
    assert (before["state"], before["next_poll_at"] is None) == (BatchState.COMPLETE, False)
    clock.move(10)
    apply_statuses(context, [(stale, Status(stale.remote_id, "LANDED", 1, 0, 0, ()))])
    assert OutboxBatch.objects.using(alias).values().get() == before


def test_a_batch_that_is_not_due_and_has_no_changes_is_not_written(context, alias, sandbox, clock):
    accept_batches(context, alias, 2)
    clock.move(1.2)
    poll(context, 0.1)
    rows = OutboxBatch.objects.using(alias).order_by("pk")
    assert {row.remote_status for row in rows} == {"PROCESSING"}
    rows.filter(pk=rows[0].pk).update(next_poll_at=clock.at)
    assert poll_due_batch(context) == 1
    assert [row.polls for row in rows.all()] == [2, 1]


def test_each_batch_of_a_page_gets_its_own_status(context, alias, sandbox, clock):
    sandbox.fail_next(Fault.failed_batch())
    accept_batches(context, alias, 5)
    space = sandbox._api.workspaces["default"]
    late = ({"index": 0, "code": "LATE", "message": "found late"},)
    rejecting = dataclasses.replace(space.batches[2], accepted=0, rejected=1, total_errors=1, errors=late)
    fetching = dataclasses.replace(
        space.batches[3], attachments=3, created_at=space.batches[3].created_at + 7.8
    )
    space.batches[2:4] = [rejecting, fetching]
    clock.move(10)
    assert poll_due_batch(context) == 5
    rows = OutboxBatch.objects.using(alias).order_by("pk")
    assert [row.state for row in rows] == ["failed", "complete", "complete", "complete", "complete", "sealed"]
    assert [bool(row.next_poll_at) for row in rows] == [False, False, False, True, False, False]
    assert [row.attachment_status for row in rows][2:5] == ["", "IN_PROGRESS", ""]
    assert (rows[2].rejected_count, rows[4].message, rows[4].polls) == (1, "", 1)
    states = OutboxRecord.objects.using(alias).order_by("state").values_list("state", flat=True)
    assert list(states) == ["delivered"] * 3 + ["in_flight", "rejected"]


def test_records_that_complete_names_are_rejected(context, alias, sandbox, clock):
    outbox.enqueue_many((record(n) for n in range(3)), using=alias)
    relay(context, 60)
    batch = OutboxBatch.objects.using(alias).get()
    named = Status(batch.remote_id, "COMPLETE", 2, 1, 1, (RecordError(1, "LATE", "too late"),))
    apply_status(context, batch, named)
    states = OutboxRecord.objects.using(alias).order_by("pk").values_list("state", flat=True)
    assert list(states) == ["delivered", "rejected", "delivered"]


def test_unnamed_rejections_are_isolated(context, alias, sandbox, clock):
    outbox.enqueue_many((record(n) for n in range(4)), using=alias)
    relay(context, 60)
    batch = OutboxBatch.objects.using(alias).get()
    apply_status(context, batch, Status(batch.remote_id, "COMPLETE", 3, 1, 1, ()))
    batches = OutboxBatch.objects.using(alias).order_by("pk").values_list("state", "record_count")
    assert list(batches) == [(BatchState.ISOLATING, 4), (BatchState.SEALED, 2)]


def test_errors_of_more_records_than_were_rejected_reject_none_of_them(context, alias, sandbox, clock):
    """The answer does not say which of the two records was rejected, so both may be good."""
    outbox.enqueue_many((record(n) for n in range(4)), using=alias)
    relay(context, 60)
    batch = OutboxBatch.objects.using(alias).get()
    errors = (RecordError(0, "BAD", "no"), RecordError(2, "BAD", "no"))
    apply_status(context, batch, Status(batch.remote_id, "COMPLETE", 3, 1, 2, errors))
    records = OutboxRecord.objects.using(alias)
    assert not records.filter(state="rejected").exists()
    batches = OutboxBatch.objects.using(alias).order_by("pk").values_list("state", "record_count")
    assert list(batches) == [(BatchState.ISOLATING, 4), (BatchState.SEALED, 2)]


def test_an_unnamed_rejection_in_a_batch_of_one_rejects_its_record(context, alias, sandbox, clock):
    outbox.enqueue(record(1), using=alias)
    relay(context, 60)
    batch = OutboxBatch.objects.using(alias).get()
    apply_status(context, batch, Status(batch.remote_id, "COMPLETE", 0, 1, 1, ()))
    assert OutboxRecord.objects.using(alias).get().state == "rejected"


def test_after_the_last_resend_named_records_are_rejected_and_the_others_go_on(
    context, alias, sandbox, clock, outbox_settings, reopen
):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_RESENDS=0)
    context = reopen()
    outbox.enqueue_many((record(n) for n in range(3)), using=alias)
    relay(context, 60)
    batch = OutboxBatch.objects.using(alias).get()
    errors = (RecordError(1, "BROKEN", "cannot be read"),)
    apply_status(context, batch, Status(batch.remote_id, "FAILED", 3, 0, 1, errors))
    rows = OutboxRecord.objects.using(alias).order_by("pk")
    assert [row.state for row in rows] == ["in_flight", "rejected", "in_flight"]
    assert (rows[1].rejections.get().code, rows[1].rejections.get().message) == ("FAILED", "cannot be read")
    assert OutboxBatch.objects.using(alias).get(parent=batch).record_count == 2


def test_after_the_last_resend_resends_are_counted_from_zero(
    context, alias, sandbox, clock, outbox_settings, reopen
):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_RESENDS=1)
    context = reopen()
    outbox.enqueue_many((record(n) for n in range(3)), using=alias)
    resends = []
    for _ in range(3):
        clock.move(600)
        relay(context, 60)
        batch = OutboxBatch.objects.using(alias).get(state=BatchState.ACCEPTED)
        resends.append((batch.resends, batch.record_count))
        errors = (RecordError(0, "BROKEN", "cannot be read"),)
        apply_status(context, batch, Status(batch.remote_id, "FAILED", batch.record_count, 0, 1, errors))
    # The second failure rejects the named record. The third one is again the first of the other two records.
    assert resends == [(0, 3), (1, 3), (0, 2)]
    last = OutboxBatch.objects.using(alias).latest("pk")
    assert (last.state, last.resends, last.record_count) == (BatchState.SEALED, 1, 2)
    states = OutboxRecord.objects.using(alias).order_by("pk").values_list("state", flat=True)
    assert list(states) == ["rejected", "in_flight", "in_flight"]


def test_a_position_means_the_same_record_after_a_retry_of_another(context, alias, sandbox, clock):
    rows = [outbox.enqueue(record(n), using=alias) for n in range(4)]
    make_invalid(rows[0])
    relay(context, 60)
    batch = OutboxBatch.objects.using(alias).get()
    assert retry_records(alias, [rows[0].pk]).reopened == (rows[0].pk,)
    errors = (RecordError(0, "BAD", "no"), RecordError(2, "LATE", "no"))
    apply_status(context, batch, Status(batch.remote_id, "COMPLETE", 2, 2, 2, errors))
    states = OutboxRecord.objects.using(alias).order_by("pk").values_list("state", flat=True)
    assert list(states) == ["pending", "delivered", "rejected", "delivered"]


@pytest.mark.parametrize("how", ["discard", "supersede"])
def test_a_position_names_no_record_after_a_purge_of_another(context, alias, sandbox, clock, how):
    """The records waited longer than the retention before they were sent, so the closed one is purged at once."""
    rows = [outbox.enqueue(record(n), using=alias) for n in range(4)]
    make_invalid(rows[0])
    clock.move(20 * 86_400)
    OutboxRecord.rows.using(alias).update(enqueued_at=clock.at)
    clock.move(20 * 86_400)
    relay(context, 60)
    batch = OutboxBatch.objects.using(alias).get()
    first = OutboxRecord.rows.using(alias).filter(pk=rows[0].pk)
    if how == "discard":
        first.discard()
    else:
        retry_records(alias, [rows[0].pk])
        first.update(closed_as="superseded")
    purge_old_rows(alias, context.clock, 14)
    errors = (RecordError(0, "BAD", "no"), RecordError(2, "LATE", "no"))
    apply_status(context, batch, Status(batch.remote_id, "COMPLETE", 2, 2, 2, errors))
    states = dict(OutboxRecord.objects.using(alias).values_list("pk", "state"))
    assert "rejected" not in (states[rows[1].pk], states[rows[3].pk])

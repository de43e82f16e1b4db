"""Following accepted batches on every database: few reads, and what Evermuse said last is what counts."""

from __future__ import annotations

import dataclasses

import pytest

from evermuse_outbox import outbox
from evermuse_outbox.delivery.loop import poll, relay
from evermuse_outbox.delivery.polling import poll_due_batch
from evermuse_outbox.delivery.polling import read_budget as budget
from evermuse_outbox.delivery.settling.apply_status import apply_status, apply_statuses
from evermuse_outbox.evermuse.api import Status
from evermuse_outbox.models import BatchState, OutboxAttempt, OutboxBatch, OutboxWorkspace, WorkspaceState
from evermuse_outbox.sandbox import Fault
from tests.records import make_invalid, record


def accept(context, alias, groups):
    """So many accepted batches."""
    first = OutboxBatch.objects.using(alias).count()
    for number in range(first, first + groups):
        outbox.enqueue(record(number, _product_id=f"p{number:03}"), using=alias)
    assert relay(context, 600) == groups


def reads(sandbox):
    return [arrival.path for arrival in sandbox.arrivals if arrival.method == "GET"]


def batch_states(alias):
    return list(OutboxBatch.objects.using(alias).order_by("pk").values_list("state", "remote_status"))


def test_one_listing_stands_for_many_batches(context, alias, sandbox, clock):
    accept(context, alias, 30)
    clock.move(10)
    assert poll_due_batch(context) == 30
    assert len(reads(sandbox)) == 1
    assert set(batch_states(alias)) == {(BatchState.COMPLETE, "COMPLETE")}
    assert poll_due_batch(context) == 0


def test_evermuse_is_asked_again_until_it_is_done(context, alias, sandbox, clock):
    accept(context, alias, 1)
    seen = set()
    for _ in range(40):
        clock.move(0.5)
        poll(context, 0.1)
        seen.add(batch_states(alias)[0])
    assert (BatchState.ACCEPTED, "PROCESSING") in seen
    assert batch_states(alias) == [(BatchState.COMPLETE, "COMPLETE")]


def test_attachments_are_followed_beyond_complete(context, alias, sandbox, clock):
    attachment = {"type": "audio", "vendor_url": "https://example.com/a.mp3"}
    outbox.enqueue(record(1, _attachments=[attachment] * 3), using=alias)
    relay(context, 60)
    clock.move(2.2)
    poll(context, 0.1)
    batch = OutboxBatch.objects.using(alias).get()
    assert (batch.state, batch.attachment_status, batch.attachment_total) == ("complete", "IN_PROGRESS", 3)
    assert batch.next_poll_at is not None
    clock.move(10)
    poll(context, 0.1)
    batch.refresh_from_db()
    assert (batch.attachment_status, batch.attachment_complete, batch.next_poll_at) == ("COMPLETE", 3, None)


def test_one_reads_at_a_time_and_who_never_comes_back_is_waited_for_as_long_as_a_lease(
    context, alias, sandbox, clock
):
    accept(context, alias, 1)
    clock.move(10)
    with pytest.raises(KeyboardInterrupt), budget.reading(context) as mine:
        assert mine
        assert poll_due_batch(context) == 0
        raise KeyboardInterrupt
    assert poll_due_batch(context) == 1
    accept(context, alias, 1)
    clock.move(10)
    OutboxWorkspace.objects.using(alias).claim_read("default", clock.at, context.clock.after(120))
    assert poll_due_batch(context) == 0
    clock.move(121)
    assert poll_due_batch(context) == 1


def test_one_reads_at_a_time_also_where_a_lease_is_long(alias, sandbox, clock, outbox_settings, reopen):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", LEASE=7_200)
    context = reopen()
    OutboxWorkspace.objects.using(alias).ensure_row("default")
    with budget.reading(context) as first, budget.reading(context) as second:
        assert first
        assert not second


def test_an_earlier_word_never_overwrites_a_later_one(context, alias, sandbox, clock):
    accept(context, alias, 1)
    stale = OutboxBatch.objects.using(alias).get()
    clock.move(10)
    poll(context, 0.1)
    apply_status(context, stale, Status(stale.remote_id, "PROCESSING", 1, 0, 0, ()))
    assert batch_states(alias) == [(BatchState.COMPLETE, "COMPLETE")]


@pytest.mark.parametrize(
    "fault",
    [Fault.server_error(on="GET"), Fault.drop_before(on="GET"), Fault(status=200, body="[", on="GET")],
)
def test_a_failed_read_holds_nothing_and_is_made_up_for(context, alias, sandbox, clock, fault):
    accept(context, alias, 1)
    sandbox.fail_next(fault)
    clock.move(10)
    poll(context, 0.1)
    row = OutboxWorkspace.objects.using(alias).get(pk="default")
    assert (row.state, batch_states(alias)[0][0]) == (WorkspaceState.ACTIVE, BatchState.ACCEPTED)
    clock.move(10)
    poll(context, 0.1)
    assert batch_states(alias) == [(BatchState.COMPLETE, "COMPLETE")]


def test_a_429_on_a_read_holds_everybody(context, alias, sandbox, clock):
    accept(context, alias, 1)
    sandbox.fail_next(Fault.too_many(retry_after=20, on="GET"))
    clock.move(10)
    poll(context, 0.1)
    assert context.throttle.held_for == 20


def test_a_key_that_may_only_write_still_sends(context, alias, sandbox, clock):
    sandbox.set_key("em_sk_sandbox", {"api:write"})
    accept(context, alias, 1)
    clock.move(10)
    poll(context, 0.1)
    assert OutboxWorkspace.objects.using(alias).get(pk="default").state == WorkspaceState.ACTIVE
    assert OutboxAttempt.objects.using(alias).latest("pk").outcome == "key_refused"


def test_a_batch_that_evermuse_forgot_is_sent_again(context, alias, sandbox, clock):
    accept(context, alias, 1)
    OutboxBatch.objects.using(alias).update(remote_id="batch_unknown")
    clock.move(10)
    poll(context, 0.1)
    assert batch_states(alias)[0][0] == BatchState.ACCEPTED
    clock.move(16 * 60)
    poll(context, 0.1)
    assert [state for state, _ in batch_states(alias)] == [BatchState.FAILED, BatchState.SEALED]


def test_rejections_told_only_at_the_end_are_found(context, alias, sandbox, clock):
    from evermuse_outbox.evermuse.api import RecordError
    from evermuse_outbox.models import OutboxRecord

    outbox.enqueue_many((record(n) for n in range(3)), using=alias)
    relay(context, 60)
    batch = OutboxBatch.objects.using(alias).get()
    named = Status(batch.remote_id, "COMPLETE", 2, 1, 1, (RecordError(1, "LATE", "too late"),))
    apply_status(context, batch, named)
    states = OutboxRecord.objects.using(alias).order_by("pk").values_list("state", flat=True)
    assert list(states) == ["delivered", "rejected", "delivered"]


def test_rejections_that_are_not_named_are_looked_for(context, alias, sandbox, clock):
    outbox.enqueue_many((record(n) for n in range(4)), using=alias)
    relay(context, 60)
    batch = OutboxBatch.objects.using(alias).get()
    apply_status(context, batch, Status(batch.remote_id, "COMPLETE", 3, 1, 1, ()))
    made = OutboxBatch.objects.using(alias).order_by("pk").values_list("state", "record_count")
    assert list(made) == [(BatchState.ISOLATING, 4), (BatchState.SEALED, 2)]


def test_the_last_one_of_a_batch_with_unnamed_rejections_is_the_culprit(context, alias, sandbox, clock):
    from evermuse_outbox.models import OutboxRecord

    outbox.enqueue(record(1), using=alias)
    relay(context, 60)
    batch = OutboxBatch.objects.using(alias).get()
    apply_status(context, batch, Status(batch.remote_id, "COMPLETE", 0, 1, 1, ()))
    assert OutboxRecord.objects.using(alias).get().state == "rejected"


@pytest.mark.parametrize("cause", ["401", "429"])
def test_a_hold_that_a_read_has_caused_ends_without_anything_to_send(context, alias, sandbox, clock, cause):
    accept(context, alias, 1)
    clock.move(10)
    if cause == "401":
        sandbox.remove_key("em_sk_sandbox")
    else:
        sandbox.fail_next(Fault.too_many(retry_after=20, on="GET"))
    poll(context, 0.1)
    held = OutboxWorkspace.objects.using(alias).get(pk="default")
    assert held.state == {"401": WorkspaceState.PAUSED, "429": WorkspaceState.THROTTLED}[cause]

    sandbox.set_key("em_sk_sandbox", {"api:write", "api:read"})
    context.throttle.held_for = 0
    clock.move(61)
    poll(context, 0.1)
    assert OutboxWorkspace.objects.using(alias).get(pk="default").state == WorkspaceState.ACTIVE
    assert batch_states(alias) == [(BatchState.COMPLETE, "COMPLETE")]


def test_one_listing_settles_all_it_shows_also_those_not_due(context, alias, sandbox, clock):
    accept(context, alias, 6)
    clock.move(10)
    late = OutboxBatch.objects.using(alias).order_by("pk").last()
    OutboxBatch.objects.using(alias).filter(pk=late.pk).update(next_poll_at=context.clock.after(500))
    poll_due_batch(context)
    assert set(batch_states(alias)) == {(BatchState.COMPLETE, "COMPLETE")}
    assert len(reads(sandbox)) == 1


def test_while_sends_take_every_slot_polls_wait_for_company(context, alias, sandbox, clock, monkeypatch):
    accept(context, alias, 1)
    outbox.enqueue(record(9), using=alias)
    monkeypatch.setattr(context.throttle, "wait", lambda: 0.1)
    clock.move(2)
    assert poll_due_batch(context) == 0
    clock.move(5)
    assert poll_due_batch(context) == 1


def test_held_workspaces_are_not_read(context, alias, sandbox, clock):
    accept(context, alias, 1)
    clock.move(10)
    OutboxWorkspace.objects.using(alias).pause("default", context.clock.after(60), "no")
    assert poll_due_batch(dataclasses.replace(context)) == 0
    assert reads(sandbox) == []


def test_after_a_hold_fenced_records_and_the_tracker_do_not_wait_for_each_other(
    context, alias, sandbox, clock
):
    accept(context, alias, 1)
    outbox.enqueue(record(0, _product_id="p000", data={"version": 2}), using=alias)
    OutboxWorkspace.objects.using(alias).back_off_uncounted("default", context.clock.after(5), "down")
    clock.move(10)
    assert relay(context, 60) == 0
    poll(context, 60)
    assert batch_states(alias) == [(BatchState.COMPLETE, "COMPLETE")]
    assert relay(context, 60) == 1


def test_after_the_last_resend_those_that_evermuse_names_are_rejected_and_the_others_go_on(
    context, alias, sandbox, clock, outbox_settings, reopen
):
    from evermuse_outbox.evermuse.api import RecordError
    from evermuse_outbox.models import OutboxRecord

    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_RESENDS=0)
    context = reopen()
    outbox.enqueue_many((record(n) for n in range(3)), using=alias)
    relay(context, 60)
    batch = OutboxBatch.objects.using(alias).get()
    told = (RecordError(1, "BROKEN", "cannot be read"),)
    apply_status(context, batch, Status(batch.remote_id, "FAILED", 3, 0, 1, told))
    rows = OutboxRecord.objects.using(alias).order_by("pk")
    assert [row.state for row in rows] == ["in_flight", "rejected", "in_flight"]
    assert (rows[1].rejections.get().code, rows[1].rejections.get().message) == ("FAILED", "cannot be read")
    assert OutboxBatch.objects.using(alias).get(parent=batch).record_count == 2


def test_reads_that_work_do_not_open_a_workspace_whose_sends_fail(context, alias, sandbox, clock):
    accept(context, alias, 1)
    sandbox.fail_next(Fault.server_error(), count=2)
    outbox.enqueue(record(9), using=alias)
    relay(context, 60)
    held = OutboxWorkspace.objects.using(alias).get(pk="default")
    assert (held.state, held.failures) == (WorkspaceState.BACKING_OFF, 1)
    clock.move(60)
    failing = OutboxBatch.objects.using(alias).filter(state=BatchState.IN_DOUBT)
    failing.update(due_at=context.clock.after(10))  # so that nothing is to be sent while it is read
    poll(context, 60)
    assert batch_states(alias)[0] == (BatchState.COMPLETE, "COMPLETE")
    held.refresh_from_db()
    assert (held.state, held.failures) == (WorkspaceState.BACKING_OFF, 1)
    clock.move(10)
    relay(context, 60)
    clock.move(60)
    relay(context, 60)
    held.refresh_from_db()
    assert (held.state, held.failures) == (WorkspaceState.ACTIVE, 0)


def test_an_index_means_the_same_record_after_another_was_retried(context, alias, sandbox, clock):
    from evermuse_outbox.evermuse.api import RecordError
    from evermuse_outbox.models import OutboxRecord
    from evermuse_outbox.operations.retry import retry

    rows = [outbox.enqueue(record(n), using=alias) for n in range(4)]
    make_invalid(rows[0])
    relay(context, 60)
    batch = OutboxBatch.objects.using(alias).get()
    assert retry(alias, [rows[0].pk]).reopened == (rows[0].pk,)
    errors = (RecordError(0, "BAD", "no"), RecordError(2, "LATE", "no"))
    apply_status(context, batch, Status(batch.remote_id, "COMPLETE", 2, 2, 2, errors))
    states = OutboxRecord.objects.using(alias).order_by("pk").values_list("state", flat=True)
    assert list(states) == ["pending", "delivered", "rejected", "delivered"]


def test_why_nothing_is_known_of_a_batch_is_told(context, alias, sandbox, clock):
    from evermuse_outbox.insight import explain_batch

    sandbox.set_key("em_sk_sandbox", {"api:write"})
    accept(context, alias, 1)
    clock.move(10)
    poll(context, 0.1)
    assert "HTTP 403" in explain_batch(OutboxBatch.objects.using(alias).get())
    sandbox.set_key("em_sk_sandbox", {"api:write", "api:read"})
    clock.move(10)
    poll(context, 0.1)
    assert "403" not in explain_batch(OutboxBatch.objects.using(alias).get())


def test_on_one_page_each_is_settled_by_what_is_said_of_it(context, alias, sandbox, clock):
    from evermuse_outbox.models import OutboxRecord

    sandbox.fail_next(Fault.failed_batch())
    accept(context, alias, 5)
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


def test_a_page_never_overwrites_what_was_said_later(context, alias, sandbox, clock):
    accept(context, alias, 2)
    stale = list(OutboxBatch.objects.using(alias))
    clock.move(10)
    poll(context, 0.1)
    before = list(OutboxBatch.objects.using(alias).values())
    clock.move(10)
    apply_statuses(context, [(batch, Status(batch.remote_id, "PROCESSING", 1, 0, 0, ())) for batch in stale])
    apply_statuses(context, [(batch, Status(batch.remote_id, "FAILED", 1, 0, 0, ())) for batch in stale])
    assert list(OutboxBatch.objects.using(alias).values()) == before


def test_a_page_that_was_read_before_it_was_complete_changes_nothing_afterwards(
    context, alias, sandbox, clock
):
    accept(context, alias, 1)
    stale = OutboxBatch.objects.using(alias).get()
    told = Status(stale.remote_id, "COMPLETE", 1, 0, 0, (), attachment_status="IN_PROGRESS")
    apply_statuses(context, [(stale, told)])
    before = OutboxBatch.objects.using(alias).values().get()
    assert (before["state"], before["next_poll_at"] is None) == (BatchState.COMPLETE, False)
    clock.move(10)
    apply_statuses(context, [(stale, Status(stale.remote_id, "LANDED", 1, 0, 0, ()))])
    assert OutboxBatch.objects.using(alias).values().get() == before


def test_who_is_not_due_and_told_nothing_new_is_not_written(context, alias, sandbox, clock):
    accept(context, alias, 2)
    clock.move(1.2)
    poll(context, 0.1)
    rows = OutboxBatch.objects.using(alias).order_by("pk")
    assert {row.remote_status for row in rows} == {"PROCESSING"}
    rows.filter(pk=rows[0].pk).update(next_poll_at=clock.at)
    assert poll_due_batch(context) == 1
    assert [row.polls for row in rows.all()] == [2, 1]


def test_a_crowd_that_reads_late_learns_nothing_wrong(context, alias, sandbox, clock):
    accept(context, alias, 3)
    clock.move(3_600)
    poll(context, 0.1)
    assert OutboxWorkspace.objects.using(alias).get(pk="default").typical_completion_seconds == 0


@pytest.mark.parametrize("how", ["discard", "supersede"])
def test_an_index_means_the_same_record_after_another_was_purged(context, alias, sandbox, clock, how):
    """Sent after it had waited for longer than the retention, so that it may go as soon as it is set aside."""
    from evermuse_outbox.evermuse.api import RecordError
    from evermuse_outbox.models import OutboxRecord
    from evermuse_outbox.operations.retry import retry
    from evermuse_outbox.upkeep.purge import purge

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
        retry(alias, [rows[0].pk])
        first.update(closed_as="superseded")
    purge(alias, context.clock, 14)
    errors = (RecordError(0, "BAD", "no"), RecordError(2, "LATE", "no"))
    apply_status(context, batch, Status(batch.remote_id, "COMPLETE", 2, 2, 2, errors))
    states = dict(OutboxRecord.objects.using(alias).values_list("pk", "state"))
    assert "rejected" not in (states[rows[1].pk], states[rows[3].pk])

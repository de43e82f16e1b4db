"""Polling on every database: few reads, and every accepted batch reaches its end."""

from __future__ import annotations

import dataclasses

import pytest

from evermuse_outbox import outbox
from evermuse_outbox.delivery.loop import poll, relay
from evermuse_outbox.delivery.polling import poll_due_batch
from evermuse_outbox.insight import explain_batch
from evermuse_outbox.models import BatchState, OutboxBatch, OutboxWorkspace, WorkspaceState
from evermuse_outbox.sandbox import Fault
from tests.records import record


def accept_batches(context, alias, groups):
    """So many accepted batches."""
    first = OutboxBatch.objects.using(alias).count()
    for number in range(first, first + groups):
        outbox.enqueue(record(number, _product_id=f"p{number:03}"), using=alias)
    assert relay(context, 600) == groups


def reads(sandbox):
    return [arrival.path for arrival in sandbox.arrivals if arrival.method == "GET"]


def batch_states(alias):
    return list(OutboxBatch.objects.using(alias).order_by("pk").values_list("state", "remote_status"))


def test_one_read_of_the_listing_covers_many_batches(context, alias, sandbox, clock):
    accept_batches(context, alias, 30)
    clock.move(10)
    assert poll_due_batch(context) == 30
    assert len(reads(sandbox)) == 1
    assert set(batch_states(alias)) == {(BatchState.COMPLETE, "COMPLETE")}
    assert poll_due_batch(context) == 0


def test_a_batch_is_polled_until_it_is_complete(context, alias, sandbox, clock):
    accept_batches(context, alias, 1)
    seen = set()
    for _ in range(40):
        clock.move(0.5)
        poll(context, 0.1)
        seen.add(batch_states(alias)[0])
    assert (BatchState.ACCEPTED, "PROCESSING") in seen
    assert batch_states(alias) == [(BatchState.COMPLETE, "COMPLETE")]


def test_attachments_are_polled_after_the_batch_is_complete(context, alias, sandbox, clock):
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


def test_one_listing_covers_batches_that_are_not_due_yet(context, alias, sandbox, clock):
    accept_batches(context, alias, 6)
    clock.move(10)
    late = OutboxBatch.objects.using(alias).order_by("pk").last()
    OutboxBatch.objects.using(alias).filter(pk=late.pk).update(next_poll_at=context.clock.after(500))
    poll_due_batch(context)
    assert set(batch_states(alias)) == {(BatchState.COMPLETE, "COMPLETE")}
    assert len(reads(sandbox)) == 1


@pytest.mark.parametrize(
    "fault",
    [Fault.server_error(on="GET"), Fault.drop_before(on="GET"), Fault(status=200, body="[", on="GET")],
)
def test_a_failed_read_blocks_nothing_and_is_repeated(context, alias, sandbox, clock, fault):
    accept_batches(context, alias, 1)
    sandbox.fail_next(fault)
    clock.move(10)
    poll(context, 0.1)
    row = OutboxWorkspace.objects.using(alias).get(pk="default")
    assert (row.state, batch_states(alias)[0][0]) == (WorkspaceState.ACTIVE, BatchState.ACCEPTED)
    clock.move(10)
    poll(context, 0.1)
    assert batch_states(alias) == [(BatchState.COMPLETE, "COMPLETE")]


def test_a_batch_that_evermuse_does_not_know_is_sent_again(context, alias, sandbox, clock):
    accept_batches(context, alias, 1)
    OutboxBatch.objects.using(alias).update(remote_id="batch_unknown")
    clock.move(10)
    poll(context, 0.1)
    assert batch_states(alias)[0][0] == BatchState.ACCEPTED
    clock.move(16 * 60)
    poll(context, 0.1)
    assert [state for state, _ in batch_states(alias)] == [BatchState.FAILED, BatchState.SEALED]


def test_the_reason_of_a_failed_poll_is_explained(context, alias, sandbox, clock):
    sandbox.set_key("em_sk_sandbox", {"api:write"})
    accept_batches(context, alias, 1)
    clock.move(10)
    poll(context, 0.1)
    assert "HTTP 403" in explain_batch(OutboxBatch.objects.using(alias).get())
    sandbox.set_key("em_sk_sandbox", {"api:write", "api:read"})
    clock.move(10)
    poll(context, 0.1)
    assert "403" not in explain_batch(OutboxBatch.objects.using(alias).get())


def test_a_blocked_workspace_is_not_polled(context, alias, sandbox, clock):
    accept_batches(context, alias, 1)
    clock.move(10)
    OutboxWorkspace.objects.using(alias).pause("default", context.clock.after(60), "no")
    assert poll_due_batch(dataclasses.replace(context)) == 0
    assert reads(sandbox) == []


@pytest.mark.parametrize("cause", ["401", "429"])
def test_a_block_that_a_read_caused_ends_without_records_to_send(context, alias, sandbox, clock, cause):
    accept_batches(context, alias, 1)
    clock.move(10)
    if cause == "401":
        sandbox.remove_key("em_sk_sandbox")
    else:
        sandbox.fail_next(Fault.too_many(retry_after=20, on="GET"))
    poll(context, 0.1)
    held = OutboxWorkspace.objects.using(alias).get(pk="default")
    assert held.state == {"401": WorkspaceState.PAUSED, "429": WorkspaceState.THROTTLED}[cause]

    sandbox.set_key("em_sk_sandbox", {"api:write", "api:read"})
    context.throttle.blocked_for = 0
    clock.move(61)
    poll(context, 0.1)
    assert OutboxWorkspace.objects.using(alias).get(pk="default").state == WorkspaceState.ACTIVE
    assert batch_states(alias) == [(BatchState.COMPLETE, "COMPLETE")]


def test_after_a_block_a_poll_is_the_probe_if_all_records_wait_for_polled_batches(
    context, alias, sandbox, clock
):
    accept_batches(context, alias, 1)
    outbox.enqueue(record(0, _product_id="p000", data={"version": 2}), using=alias)
    OutboxWorkspace.objects.using(alias).back_off_uncounted("default", context.clock.after(5), "down")
    clock.move(10)
    assert relay(context, 60) == 0
    poll(context, 60)
    assert batch_states(alias) == [(BatchState.COMPLETE, "COMPLETE")]
    assert relay(context, 60) == 1


def test_successful_reads_do_not_end_a_back_off_of_failed_sends(context, alias, sandbox, clock):
    accept_batches(context, alias, 1)
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


def test_a_late_first_poll_teaches_no_completion_time(context, alias, sandbox, clock):
    accept_batches(context, alias, 3)
    clock.move(3_600)
    poll(context, 0.1)
    assert OutboxWorkspace.objects.using(alias).get(pk="default").typical_completion_seconds == 0


NOT_FOUND = Fault(status=404, on="GET")
LISTING_IS_EMPTY = {"batches": [], "nextCursor": None}


def poll_for(context, clock, minutes):
    """Poll for so many simulated minutes."""
    for _ in range(minutes):
        clock.move(60)
        poll(context, 1)


@pytest.fixture
def forgotten(context, alias, sandbox, clock):
    """Return a batch that Evermuse has lost: neither its status nor the listing shows it."""
    accept_batches(context, alias, 1)
    sandbox.reset()
    return OutboxBatch.objects.using(alias).get()


def test_a_batch_is_forgotten_after_two_404_and_a_listing_without_it(
    context, alias, sandbox, clock, forgotten
):
    poll_for(context, clock, 1)
    forgotten.refresh_from_db()
    assert (forgotten.state, forgotten.unknown_since) == (BatchState.ACCEPTED, clock.now())
    poll_for(context, clock, 13)
    forgotten.refresh_from_db()
    assert forgotten.state == BatchState.ACCEPTED
    poll_for(context, clock, 20)
    forgotten.refresh_from_db()
    assert forgotten.state == BatchState.FAILED
    relay(context, 60)
    assert len(sandbox.records()) == 1


def test_a_batch_that_the_listing_shows_is_not_forgotten(context, alias, sandbox, clock):
    accept_batches(context, alias, 1)
    OutboxBatch.objects.using(alias).update(listing_cursor=None, unknown_since=clock.now())
    clock.move(3600)
    sandbox.fail_next(NOT_FOUND, count=1)
    poll(context, 1)
    batch = OutboxBatch.objects.using(alias).get()
    assert (batch.state, batch.unknown_since) == (BatchState.COMPLETE, None)


@pytest.mark.parametrize("status", [401, 403, 404, 429, 502])
def test_a_page_of_a_proxy_only_postpones_polls(context, alias, sandbox, clock, status):
    accept_batches(context, alias, 3)
    sandbox.fail_next(Fault.proxy_page(status, on="GET"), count=None)
    poll_for(context, clock, 60)
    rows = OutboxBatch.objects.using(alias)
    assert set(rows.values_list("state", "unknown_since")) == {(BatchState.ACCEPTED, None)}
    assert OutboxWorkspace.objects.using(alias).get().state == WorkspaceState.ACTIVE
    assert relay(context, 1) == 0
    outbox.enqueue(record(50), using=alias)
    assert relay(context, 1) == 1

    sandbox.clear_faults()
    poll_for(context, clock, 10)
    assert set(batch_states(alias)) == {(BatchState.COMPLETE, "COMPLETE")}


def test_a_complete_batch_that_is_forgotten_is_no_longer_polled(context, alias, clock, forgotten):
    rows = OutboxBatch.objects.using(alias)
    rows.update(state=BatchState.COMPLETE, finished_at=clock.now(), attachment_status="IN_PROGRESS")
    poll_for(context, clock, 60)
    forgotten.refresh_from_db()
    assert (forgotten.state, forgotten.next_poll_at) == (BatchState.COMPLETE, None)
    assert "404" in forgotten.message

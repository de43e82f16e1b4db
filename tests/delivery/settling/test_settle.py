"""Each outcome of a POST, over real HTTP, on every database: what it changes in batch, records and workspace."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import ProgrammingError

from evermuse_outbox.delivery.context import Attempt
from evermuse_outbox.delivery.gates import back_off
from evermuse_outbox.delivery.loop import poll, relay, seal_next
from evermuse_outbox.delivery.settling import settle_batch
from evermuse_outbox.evermuse.api import Accepted
from evermuse_outbox.models import BatchState, OutboxWorkspace, WorkspaceQuerySet, WorkspaceState
from evermuse_outbox.sandbox import Fault
from evermuse_outbox.upkeep import rescue_batches
from tests.delivery.helpers import batches, sent_keys, settle_with, state_of, workspace
from tests.records import enqueue

UNCLEAR = {
    "500": Fault.server_error(),
    "html 502": Fault.bad_gateway(),
    "dropped before": Fault.drop_before(),
    "dropped after": Fault.drop_after(),
    "garbage 202": Fault(status=202, body=b"\x00<html>"),
    "202 of other counts": Fault(
        status=202, body={"batchId": "b", "acceptedCount": 7, "rejectedCount": 0, "totalErrorCount": 0}
    ),
    "202 without an id": Fault(
        status=202, body={"acceptedCount": 1, "rejectedCount": 0, "totalErrorCount": 0}
    ),
    "202 that is a list": Fault(status=202, body=b"[]"),
}


@pytest.mark.parametrize("fault", UNCLEAR.values(), ids=UNCLEAR.keys())
def test_after_an_unclear_answer_the_batch_is_sent_again_with_the_same_key_and_bytes(
    context, alias, sandbox, clock, fault
):
    (row,) = enqueue(alias, 1)
    sandbox.fail_next(fault)
    relay(context, 1)
    (batch,) = batches(alias)
    assert (batch.state, batch.in_doubt, batch.failures) == (BatchState.IN_DOUBT, True, 1)
    assert workspace(alias).state == WorkspaceState.BACKING_OFF
    assert state_of(row) == "in_flight"

    clock.move(context.settings.backoff_cap)
    relay(context, 1)
    (batch,) = batches(alias)
    assert (batch.state, batch.in_doubt, batch.failures) == (BatchState.ACCEPTED, False, 0)
    assert workspace(alias).state == WorkspaceState.ACTIVE
    assert len(set(sent_keys(sandbox))) == 1
    assert len(sent_keys(sandbox)) == 2
    assert [stored.times for stored in sandbox.records()] == [1]
    assert sandbox.violations == []


def test_a_429_blocks_all_senders_and_its_batch_waits_longer(context, alias, sandbox, clock):
    enqueue(alias, 1)
    sandbox.fail_next(Fault.too_many(retry_after=30))
    relay(context, 1)
    (batch,) = batches(alias)
    assert batch.state == BatchState.SEALED
    assert batch.due_at > clock.now() + timedelta(seconds=30)
    assert context.throttle.blocked_for == 30
    assert workspace(alias).state == WorkspaceState.THROTTLED
    relay(context, 1)
    assert len(sent_keys(sandbox)) == 1

    clock.move(32)
    context.throttle.blocked_for = 0
    relay(context, 1)
    assert batches(alias)[0].state == BatchState.ACCEPTED
    assert workspace(alias).state == WorkspaceState.ACTIVE


def test_a_failed_batch_is_sent_again_under_new_keys_a_limited_number_of_times(
    context, alias, sandbox, clock
):
    (row,) = enqueue(alias, 1)
    sandbox.fail_next(Fault(batch_fails=True), count=None)
    for _ in range(20):
        relay(context, 60)
        clock.move(60)
        poll(context, 60)
    assert state_of(row) == "rejected"
    sent = batches(alias)
    assert [batch.state for batch in sent] == [BatchState.FAILED] * 6
    assert [batch.resends for batch in sent] == [0, 1, 2, 3, 4, 5]
    assert len(set(sent_keys(sandbox))) == 6
    assert "FAILED" in sent[-1].message


def test_a_lost_lease_changes_nothing(context, alias, sandbox, clock):
    enqueue(alias, 1)
    sealed = seal_next(context)
    clock.move(context.settings.lease + 1)
    assert rescue_batches(alias, context.clock) == 1
    settle_with(context, sealed, Accepted("remote", 1, 0, 0, ()))
    (batch,) = batches(alias)
    assert (batch.state, batch.remote_id) == (BatchState.IN_DOUBT, "")
    relay(context, 60)
    assert batches(alias)[0].state == BatchState.ACCEPTED
    assert sent_keys(sandbox) == [sealed.batch.key]


def test_an_outcome_without_a_post_does_not_resume_the_workspace(context, alias, clock):
    enqueue(alias, 1)
    sealed = seal_next(context)
    back_off(context, "HTTP 503", 0)
    settle_batch(context, sealed, Accepted("remote", 1, 0, 0, ()), Attempt("ingest", clock.now(), "accepted"))
    assert batches(alias)[0].state == BatchState.ACCEPTED
    assert workspace(alias).state == WorkspaceState.BACKING_OFF


def test_the_answer_is_written_even_if_the_workspace_cannot_be(context, alias, monkeypatch):
    def fail(*args, **kwargs):
        raise ProgrammingError("no such column")

    enqueue(alias, 1)
    sealed = seal_next(context)
    WorkspaceQuerySet(OutboxWorkspace, using=alias).update(failures=1)
    monkeypatch.setattr(WorkspaceQuerySet, "resume_blocked", fail)
    with pytest.raises(ProgrammingError):
        settle_with(context, sealed, Accepted("remote", 1, 0, 0, ()))
    assert batches(alias)[0].state == BatchState.ACCEPTED

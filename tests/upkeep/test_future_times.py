"""Times further in the future than any wait: they are corrected, and all others stay."""

from __future__ import annotations

from datetime import timedelta

import pytest

from evermuse_outbox import outbox
from evermuse_outbox.delivery.loop import poll, relay
from evermuse_outbox.models import (
    ActionKind,
    Decision,
    OutboxAction,
    OutboxBatch,
    OutboxGroup,
    OutboxImport,
    OutboxWorkspace,
)
from evermuse_outbox.sandbox import Fault
from evermuse_outbox.upkeep import correct_future_times, forget_actions, longest_wait, rescue_batches
from tests.delivery.helpers import batches, state_of, workspace
from tests.records import record
from tests.rows import batch_in, group

FAR = timedelta(days=30)


@pytest.mark.parametrize("excess", [timedelta(0), timedelta(seconds=1)])
def test_only_a_time_that_no_wait_leads_to_is_corrected(context, alias, clock, excess):
    at = clock.at + longest_wait() + excess
    workspaces, groups = OutboxWorkspace.objects.using(alias), OutboxGroup.objects.using(alias)
    workspaces.create(name="default", state="backing_off", blocked_until=at)
    unsent = batch_in(alias, "in_doubt", due_at=at)
    polled = batch_in(alias, "accepted", next_poll_at=at)
    group(alias, blocked_until=at)
    is_wrong = bool(excess)
    assert correct_future_times(alias, context.clock) == 4 * is_wrong
    expected = clock.at if is_wrong else at
    unsent.refresh_from_db()
    polled.refresh_from_db()
    assert [
        unsent.due_at,
        polled.next_poll_at,
        workspaces.get().blocked_until,
        groups.get().blocked_until,
    ] == ([expected] * 4)


def test_a_record_is_delivered_although_all_times_are_far_away(context, alias, sandbox, clock):
    row = outbox.enqueue(record(1), using=alias)
    sandbox.fail_next(Fault.drop_before())
    relay(context, 60)
    OutboxWorkspace.objects.using(alias).update(blocked_until=clock.at + FAR, next_read_at=clock.at + FAR)
    OutboxBatch.objects.using(alias).update(due_at=clock.at + FAR)
    assert relay(context, 60) == 0
    correct_future_times(alias, context.clock)
    assert relay(context, 60) == 1
    OutboxBatch.objects.using(alias).update(next_poll_at=clock.at + FAR)
    clock.move(5)
    assert poll(context, 60) == 0
    correct_future_times(alias, context.clock)
    assert poll(context, 60) == 1
    assert state_of(row) == "delivered"
    assert workspace(alias).state == "active"


def test_a_lease_that_is_longer_than_any_lease_is_rescued(context, alias, clock):
    lease = timedelta(seconds=context.settings.lease)
    batch_in(alias, "sending", leased_until=clock.at + lease)
    assert rescue_batches(alias, context.clock) == 0
    OutboxBatch.objects.using(alias).update(leased_until=clock.at + FAR)
    assert rescue_batches(alias, context.clock) == 1
    (batch,) = batches(alias)
    assert (batch.state, batch.due_at) == ("in_doubt", clock.at)
    assert batch.attempts.get().started_at == clock.at


@pytest.mark.parametrize(("days", "kept"), [(364, 1), (366, 0)])
def test_manual_actions_are_kept_for_a_year(context, alias, clock, days, kept):
    rows = OutboxAction.objects.using(alias)
    rows.log(ActionKind.RESUME, Decision("ada"), target="workspace default")
    rows.update(at=clock.at - timedelta(days=days))
    forget_actions(alias, context.clock, retention_days=14)
    assert rows.count() == kept
    rows.update(at=clock.at - timedelta(days=399))
    assert forget_actions(alias, context.clock, retention_days=400) == 0


@pytest.mark.parametrize(("days", "finished", "kept"), [(364, True, 1), (366, True, 0), (366, False, 1)])
def test_finished_imports_are_kept_for_a_year(context, alias, clock, days, finished, kept):
    at = clock.at - timedelta(days=days)
    OutboxImport.objects.using(alias).create(
        scope="s", workspace="default", name="f", sha256="", started_at=at, updated_at=at,
        finished_at=at if finished else None,
    )  # fmt: skip
    forget_actions(alias, context.clock, retention_days=14)
    assert OutboxImport.objects.using(alias).count() == kept

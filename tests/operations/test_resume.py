"""Resume a workspace: what it ends, what it must not end, and that it is recorded."""

from __future__ import annotations

from datetime import timedelta

import pytest

from evermuse_outbox import outbox
from evermuse_outbox.delivery.loop import relay
from evermuse_outbox.models import OutboxAction, OutboxWorkspace, process_user
from evermuse_outbox.operations import NotPossible, resume_group, resume_workspace
from evermuse_outbox.ratelimit import MAX_BLOCK
from evermuse_outbox.sandbox import Fault
from tests.delivery.helpers import batches, posts, state_of, workspace
from tests.records import record
from tests.rows import group


def actions(alias):
    return [
        (row.kind, row.by, row.target, row.reason) for row in OutboxAction.objects.using(alias).order_by("pk")
    ]


def test_a_batch_that_backs_off_is_sent_at_once_after_a_resume(context, alias, sandbox, clock):
    row = outbox.enqueue(record(1), using=alias)
    sandbox.fail_next(Fault(status=503))
    relay(context, 60)
    assert workspace(alias).state == "backing_off"
    resumed = resume_workspace(alias, "default", by="ada", reason="it is up again", clock=context.clock)
    assert resumed
    assert resumed.was == "backing off"
    assert actions(alias) == [("resume", "ada", "workspace default", "it is up again")]
    relay(context, 60)
    assert len(posts(sandbox)) == 2
    assert batches(alias)[0].state == "accepted"
    assert state_of(row) == "in_flight"


def test_an_active_workspace_is_not_resumed_and_nothing_is_recorded(alias):
    OutboxWorkspace.objects.using(alias).ensure_row("default")
    assert resume_workspace(alias, "default") is None
    assert resume_workspace(alias, "never used") is None
    assert actions(alias) == []


@pytest.fixture
def throttle(monkeypatch, context):
    """Return the throttle of the context, which the operation opens, too."""
    monkeypatch.setattr("evermuse_outbox.operations.resume.open_throttle", lambda *_: context.throttle)
    return context.throttle


def test_only_force_ends_a_retry_after_and_it_ends_both_blocks(context, alias, sandbox, clock, throttle):
    outbox.enqueue(record(1), using=alias)
    sandbox.fail_next(Fault(status=429, retry_after=10**9))
    relay(context, 60)
    row = workspace(alias)
    assert (row.state, row.blocked_until) == ("throttled", clock.at + timedelta(seconds=MAX_BLOCK))
    with pytest.raises(NotPossible, match="outbox_resume --workspace default --force"):
        resume_workspace(alias, "default", clock=context.clock)
    assert actions(alias) == []
    assert resume_workspace(alias, "default", force=True, reason="milliseconds", clock=context.clock)
    assert actions(alias) == [("force_resume", process_user(), "workspace default", "milliseconds")]
    assert (workspace(alias).state, throttle.blocked_for) == ("active", 0)
    relay(context, 60)
    assert batches(alias)[0].state == "accepted"


def test_a_retry_after_of_any_length_ends_by_itself_within_an_hour(context, alias, sandbox, clock):
    outbox.enqueue(record(1), using=alias)
    sandbox.fail_next(Fault(status=429, retry_after=10**9))
    relay(context, 60)
    clock.move(MAX_BLOCK + 1)
    context.throttle.unblock()  # its clock stands still in this test; test_backends shows that it ends by itself
    relay(context, 60)
    clock.move(60)
    relay(context, 60)
    assert batches(alias)[0].state == "accepted"


def test_a_workspace_that_is_held_after_a_restore_is_not_resumed(alias):
    OutboxWorkspace.objects.using(alias).mark_restored("default", "older")
    for force in (False, True):
        with pytest.raises(NotPossible, match="outbox_reconcile --workspace default --release"):
            resume_workspace(alias, "default", force=force)
    assert workspace(alias).state == "restored"


@pytest.mark.parametrize("method", ["pause", "pause_without_credits", "back_off_uncounted"])
def test_each_block_ends_by_hand(context, alias, sandbox, clock, method):
    row = outbox.enqueue(record(1), using=alias)
    block = getattr(OutboxWorkspace.objects.using(alias), method)
    block("default", clock.at + timedelta(minutes=50), "for a reason")
    assert relay(context, 60) == 0
    assert resume_workspace(alias, "default", reason="corrected", clock=context.clock)
    assert relay(context, 60) == 1
    assert state_of(row) == "in_flight"


def test_a_resumed_group_is_recorded(alias):
    row = group(alias)
    assert resume_group(alias, row, by="ada", reason="the project exists now")
    assert actions(alias) == [("resume", "ada", "group message · prod-abc", "the project exists now")]
    assert resume_group(alias, row) is None

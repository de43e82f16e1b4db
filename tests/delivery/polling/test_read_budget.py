"""What following costs: a small share of the sends, whatever Evermuse takes for a batch and however many are open."""

from __future__ import annotations

import pytest

from evermuse_outbox.delivery.polling import read_budget as budget
from evermuse_outbox.models import OutboxBatch, OutboxWorkspace
from tests.delivery.busy import BusyWorkspace, rng

MOST = 1.05
"""Requests for a delivered batch."""


def requests_a_batch(workspace, seconds):
    """Under load, for so many seconds."""
    sends, reads = workspace.sent, workspace.reads
    for _ in range(seconds):
        workspace.second_of_load()
    return 1 + (workspace.reads - reads) / (workspace.sent - sends)


def finish(workspace, most):
    """Nothing is sent any more; all are at their end within so many seconds."""
    workspace.end_of_backlog()
    for _ in range(most):
        workspace.quiet_second()
        if not workspace.open:
            return
    raise AssertionError(f"{workspace.open} batches are still open")


def test_a_thousand_open_batches_cost_little_and_all_come_to_their_end(context, alias, sandbox, clock):
    workspace = BusyWorkspace(context, alias, sandbox, clock, seconds=60)
    workspace.send(1_000, over=100)
    assert requests_a_batch(workspace, 60) <= MOST
    finish(workspace, 75)
    assert 1 + workspace.reads / workspace.sent <= MOST
    assert len(workspace.single_reads) <= 2


@pytest.mark.parametrize("seconds", [0, 2, 30, 300])
@pytest.mark.parametrize("is_alike", [True, False], ids=["alike", "anything up to that"])
def test_whatever_evermuse_takes(context, alias, sandbox, clock, seconds, is_alike):
    if alias != "default":
        pytest.skip("what is counted here is the same everywhere")
    workspace = BusyWorkspace(context, alias, sandbox, clock, seconds, rng=None if is_alike else rng())
    assert requests_a_batch(workspace, 120 + seconds) <= MOST
    finish(workspace, 60 + int(1.2 * seconds))
    assert max(workspace.delays()) <= 20 + 1.2 * seconds


def test_once_it_is_known_what_evermuse_takes_nobody_is_asked_about_sooner(context, alias, sandbox, clock):
    workspace = BusyWorkspace(context, alias, sandbox, clock, seconds=60)
    for _ in range(150):
        workspace.second_of_load()
    row = OutboxWorkspace.objects.using(alias).get(pk="default")
    assert 55 <= row.typical_completion_seconds <= 65
    assert max(workspace.delays()) <= 30


def test_a_crowd_that_no_page_has_shown_is_looked_at_before_it_may_be_done(context, alias, sandbox, clock):
    workspace = BusyWorkspace(context, alias, sandbox, clock, seconds=600)
    OutboxWorkspace.objects.using(alias).ensure_row("default")
    OutboxWorkspace.objects.using(alias).update(typical_completion_seconds=600)
    workspace.send(150)
    clock.move(5)
    workspace.look()
    clock.move(5)
    workspace.look()
    assert workspace.reads == 1  # of a hundred; the other fifty are no crowd, and not done yet
    assert len(set(OutboxBatch.objects.using(alias).values_list("listing_cursor", flat=True))) == 2


def test_reads_wait_as_long_as_so_many_sends_take(context, alias, sandbox, clock):
    workspace = BusyWorkspace(context, alias, sandbox, clock, seconds=0)
    workspace.send(30)
    clock.move(5)
    workspace.look()
    assert workspace.reads == 1
    workspace.send(10)
    clock.move(budget.SENDS_A_READ / 10 - 1.1)
    workspace.look()
    assert workspace.reads == 1
    clock.move(3)
    workspace.look()
    assert workspace.reads == 2


def test_a_read_that_brings_little_is_followed_by_a_longer_rest(context, alias, sandbox, clock):
    workspace = BusyWorkspace(context, alias, sandbox, clock, seconds=600)
    workspace.send(30)
    clock.move(5)
    workspace.look()
    row = OutboxWorkspace.objects.using(alias).get(pk="default")
    assert (row.next_read_at - clock.at).total_seconds() == budget.SENDS_A_LEAN_READ / 10


def test_a_next_read_that_only_a_clock_set_back_can_explain_is_not_waited_for(context, alias, sandbox, clock):
    workspace = BusyWorkspace(context, alias, sandbox, clock, seconds=0)
    workspace.send(30)
    clock.move(5)
    OutboxWorkspace.objects.using(alias).ensure_row("default")
    OutboxWorkspace.objects.using(alias).update(next_read_at=context.clock.after(86_400))
    workspace.look()
    assert workspace.reads == 1


# --- a listing that is not what it should be ----------------------------------------------------------


def test_a_listing_that_lags_behind_takes_no_reads_from_the_others(
    context, alias, sandbox, clock, monkeypatch
):
    if alias != "default":
        pytest.skip("what is counted here is the same everywhere")
    workspace = BusyWorkspace(context, alias, sandbox, clock, seconds=60)
    space = sandbox._api.workspaces["default"]
    read = space.list_batches

    def lagging(limit, before):
        listed = [batch for batch in space.batches if batch.created_at <= clock.at.timestamp() - 15]
        return read(limit, len(listed) if before is None else before)

    monkeypatch.setattr(space, "list_batches", lagging)
    assert requests_a_batch(workspace, 200) <= MOST
    assert workspace.open < 1_000 < workspace.sent


def test_those_that_are_in_no_listing_take_no_reads_from_the_others(
    context, alias, sandbox, clock, monkeypatch
):
    if alias != "default":
        pytest.skip("what is counted here is the same everywhere")
    workspace = BusyWorkspace(context, alias, sandbox, clock, seconds=30)
    space = sandbox._api.workspaces["default"]
    read = space.list_batches

    def lacking(limit, before):
        found, following = read(limit, before)
        return [batch for batch in found if int(batch.id[-2:]) % 20], following

    monkeypatch.setattr(space, "list_batches", lacking)
    assert requests_a_batch(workspace, 200) <= MOST
    assert workspace.open < 1_000 < workspace.sent
    finish(workspace, 60)

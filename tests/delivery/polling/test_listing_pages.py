"""Where followed batches are found in the listing, and that those who are not found come to their end all the same."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from evermuse_outbox.delivery.polling import poll_due_batch
from evermuse_outbox.delivery.polling.listing_pages import Member, _place
from evermuse_outbox.evermuse.api import Page, Status
from evermuse_outbox.models import BatchState, OutboxBatch, OutboxWorkspace
from evermuse_outbox.sandbox import Fault
from tests.delivery.busy import BusyWorkspace


@pytest.fixture
def workspace(context, alias, sandbox, clock):
    """Nothing waits to be sent; Evermuse takes half a minute for a batch."""
    made = BusyWorkspace(context, alias, sandbox, clock, seconds=30)
    made.end_of_backlog()
    return made


def cursors(alias):
    """In the order of acceptance, each run of equal ones once, with its length."""
    runs = []
    for cursor in OutboxBatch.objects.using(alias).order_by("pk").values_list("listing_cursor", flat=True):
        if runs and runs[-1][0] == cursor:
            runs[-1][1] += 1
        else:
            runs.append([cursor, 1])
    return runs


def finish(workspace, seconds=120):
    for _ in range(seconds):
        workspace.quiet_second()
    assert workspace.open == 0


def test_a_stretch_is_cut_into_pages_by_being_read(workspace, alias):
    workspace.send(250)
    for _ in range(3):
        workspace.clock.move(1)
        poll_due_batch(workspace.context)
    runs = cursors(alias)
    assert [length for _, length in runs] == [50, 100, 100]
    assert runs[-1][0] == ""
    assert len({cursor for cursor, _ in runs}) == 3


def test_an_old_page_is_read_again_without_those_that_are_newer(workspace, alias, sandbox):
    workspace.send(250)
    for _ in range(3):
        workspace.clock.move(1)
        poll_due_batch(workspace.context)
    workspace.clock.move(30)
    OutboxBatch.objects.using(alias).filter(
        pk__gt=OutboxBatch.objects.using(alias).earliest("pk").pk + 49
    ).update(next_poll_at=workspace.context.clock.after(500))
    before = workspace.reads
    assert poll_due_batch(workspace.context) == 50
    assert workspace.reads == before + 1
    assert workspace.open == 200


def test_a_page_of_complete_batches_costs_as_few_statements_as_one_batch(workspace, alias):
    OutboxWorkspace.objects.using(alias).ensure_row("default")
    counts = []
    for batches in (2, 100):
        workspace.send(batches)
        workspace.clock.move(40)
        with CaptureQueriesContext(
            connections[alias],
        ) as queries:
            assert poll_due_batch(workspace.context) == batches
        counts.append(len(queries))
    assert workspace.open == 0
    assert counts[0] == counts[1] <= 14


@pytest.mark.parametrize("status", [400, 404, 410, 500])
def test_a_cursor_that_is_not_taken_any_more_is_given_up(workspace, alias, sandbox, status):
    workspace.send(150)
    for _ in range(2):
        workspace.clock.move(1)
        poll_due_batch(workspace.context)
    OutboxBatch.objects.using(alias).exclude(listing_cursor="").update(listing_cursor="gone")
    sandbox.fail_next(Fault(status=status, on="GET"))
    later = OutboxBatch.objects.using(alias).filter(listing_cursor="")
    later.update(next_poll_at=workspace.context.clock.after(500))
    workspace.clock.move(10)
    poll_due_batch(workspace.context)
    assert not OutboxBatch.objects.using(alias).filter(listing_cursor="gone").exists()
    finish(workspace, 200)
    assert len(workspace.single_reads) <= 2


@pytest.mark.parametrize(
    "fault",
    [
        Fault.server_error(on="GET"),
        Fault(status=200, body='{"batches": "none"}', on="GET"),
        Fault.drop_before(on="GET"),
    ],
    ids=["500", "garbage", "no answer"],
)
def test_without_a_listing_all_are_asked_about_one_by_one(workspace, alias, sandbox, fault, monkeypatch):
    from evermuse_outbox.delivery.polling import reads

    ask = reads.ask

    def without_listing(context, permit, request):
        if request.func.__name__ == "batches":
            sandbox.fail_next(fault)
        return ask(context, permit, request)

    monkeypatch.setattr(reads, "ask", without_listing)
    workspace.send(5)
    finish(workspace, 300)
    assert 5 < len(workspace.single_reads) <= workspace.reads < 100


def test_those_that_the_listing_does_not_show_are_asked_about_alone(workspace, alias, sandbox):
    workspace.send(5)
    hidden = sandbox._api.workspaces["default"].batches.pop(2)
    workspace.clock.move(35)
    poll_due_batch(workspace.context)
    assert workspace.open == 1
    poll_due_batch(workspace.context)
    left = OutboxBatch.objects.using(alias).get(remote_id=hidden.id)
    assert left.state == BatchState.COMPLETE
    assert [arrival.path.rsplit("/", 1)[1] for arrival in workspace.single_reads] == [hidden.id]


def test_batches_of_others_may_stand_between(workspace, alias, sandbox):
    workspace.send(3)
    mine = OutboxBatch.objects.using(alias).values_list("pk", flat=True)
    theirs = workspace.sent
    workspace.send(220)
    OutboxBatch.objects.using(alias).exclude(pk__in=sorted(mine)[:theirs]).delete()
    finish(workspace)
    assert len(workspace.single_reads) <= 2  # whoever is the last of its page


def test_a_listing_that_leads_in_a_circle_is_left(workspace, alias, sandbox, monkeypatch):
    space = sandbox._api.workspaces["default"]
    workspace.send(3)
    hidden = space.batches[:]
    workspace.send(100)
    OutboxBatch.objects.using(alias).exclude(remote_id__in=[batch.id for batch in hidden]).delete()
    page = space.batches[3:]
    monkeypatch.setattr(space, "list_batches", lambda limit, before: (page, 7))
    finish(workspace)
    assert len(workspace.single_reads) >= 3 > workspace.reads - len(workspace.single_reads)


def test_a_listing_that_never_ends_is_left(workspace, alias, sandbox, monkeypatch):
    space = sandbox._api.workspaces["default"]
    cursors_for_ever = itertools.count(7)
    workspace.send(3)
    monkeypatch.setattr(space, "list_batches", lambda limit, before: ([], next(cursors_for_ever)))
    finish(workspace)
    assert len(workspace.single_reads) >= 3 > workspace.reads - len(workspace.single_reads)


# --- a place, given what a page shows -----------------------------------------------------------------


NOW = 1_772_366_400
"""The clock of the tests, in seconds since the epoch."""


def page(*created, cursor="next"):
    created = created or (NOW,)
    statuses = tuple(
        Status(f"b{n}", "COMPLETE", 1, 0, 0, (), created_at=1_000 * at) for n, at in enumerate(created)
    )
    return Page(statuses, cursor)


@pytest.mark.parametrize(
    ("cursor", "ago", "shown", "newest_ago", "place"),
    [
        ("", 60, page(), None, "next"),
        ("", 60, page(), 30, "next"),
        ("here", 60, page(), 30, "next"),
        ("here", 30, page(), 60, None),
        ("", 30, page(), 60, ""),
        ("", 180, page(), 600, None),
        ("next", 60, page(), 30, None),
        ("", 60, page(cursor=None), 30, None),
        ("", 60, page(10_000), None, None),
        ("", 60, Page((), "next"), None, None),
    ],
    ids=[
        "none of ours is shown",
        "older than what the newest page shows",
        "older than what its page shows",
        "newer than all of its page",
        "not in the newest page yet",
        "not in the newest page after minutes",
        "the cursor leads back to itself",
        "the listing ends",
        "the page is long past it",
        "a page without anything has nothing behind it",
    ],
)
def test_a_place(clock, cursor, ago, shown, newest_ago, place):
    def order(seconds):
        return clock.at - timedelta(seconds=seconds), 10_000 - seconds

    since, pk = order(ago)
    member = Member(pk, "", since, clock.at)
    newest = None if newest_ago is None else order(newest_ago)
    assert _place(cursor, member, shown, newest, clock.at) == place


def test_hosts_may_differ_about_the_time(workspace, alias):
    """The older batches come from a host that is five minutes ahead."""
    workspace.send(250)
    for batch in OutboxBatch.objects.using(alias).order_by("pk")[:150]:
        ahead = batch.accepted_at + timedelta(minutes=5)
        OutboxBatch.objects.using(alias).filter(pk=batch.pk).update(accepted_at=ahead)
    workspace.clock.move(1)
    poll_due_batch(workspace.context)
    assert [length for _, length in cursors(alias)] == [150, 100]
    finish(workspace)
    assert len(workspace.single_reads) <= 3

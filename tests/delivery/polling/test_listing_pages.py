"""Listing pages: where polled batches are found, and how batches end that no page shows."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from evermuse_outbox.delivery.polling import poll_due_batch, reads
from evermuse_outbox.delivery.polling.listing_pages import PolledBatch, _next_cursor
from evermuse_outbox.evermuse.api import Page, Status
from evermuse_outbox.models import BatchState, OutboxBatch, OutboxWorkspace
from evermuse_outbox.sandbox import Fault
from tests.delivery.polling.load import BusyWorkspace


@pytest.fixture
def workspace(context, alias, sandbox, clock):
    """Return a workspace without a backlog. Evermuse takes 30 seconds for a batch."""
    workspace = BusyWorkspace(context, alias, sandbox, clock, seconds=30)
    workspace.end_backlog()
    return workspace


def cursors(alias):
    """Return [cursor, number of batches] for each run of equal cursors, in the order of acceptance."""
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


def test_reads_divide_the_newest_page_into_pages_of_a_hundred(workspace, alias):
    workspace.send(250)
    for _ in range(3):
        workspace.clock.move(1)
        poll_due_batch(workspace.context)
    runs = cursors(alias)
    assert [length for _, length in runs] == [50, 100, 100]
    assert runs[-1][0] == ""
    assert len({cursor for cursor, _ in runs}) == 3


def test_an_old_page_is_read_again_without_the_newer_pages(workspace, alias, sandbox):
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
def test_a_refused_cursor_is_given_up(workspace, alias, sandbox, status):
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
def test_without_a_listing_each_batch_is_polled_alone(workspace, alias, sandbox, fault, monkeypatch):
    send_request = reads.send_request

    def without_listing(context, permit, request):
        if request.func.__name__ == "batches":
            sandbox.fail_next(fault)
        return send_request(context, permit, request)

    monkeypatch.setattr(reads, "send_request", without_listing)
    workspace.send(5)
    finish(workspace, 300)
    assert 5 < len(workspace.single_reads) <= workspace.reads < 100


def test_a_batch_that_the_listing_does_not_show_is_polled_alone(workspace, alias, sandbox):
    workspace.send(5)
    hidden = sandbox._api.workspaces["default"].batches.pop(2)
    workspace.clock.move(35)
    poll_due_batch(workspace.context)
    assert workspace.open == 1
    poll_due_batch(workspace.context)
    unlisted = OutboxBatch.objects.using(alias).get(remote_id=hidden.id)
    assert unlisted.state == BatchState.COMPLETE
    assert [arrival.path.rsplit("/", 1)[1] for arrival in workspace.single_reads] == [hidden.id]


def test_batches_of_other_clients_may_be_listed_between(workspace, alias, sandbox):
    workspace.send(3)
    ours = OutboxBatch.objects.using(alias).values_list("pk", flat=True)
    count = workspace.sent
    workspace.send(220)
    OutboxBatch.objects.using(alias).exclude(pk__in=sorted(ours)[:count]).delete()
    finish(workspace)
    assert len(workspace.single_reads) <= 2  # the last batch of its page


def test_a_listing_whose_cursor_leads_in_a_circle_ends(workspace, alias, sandbox, monkeypatch):
    space = sandbox._api.workspaces["default"]
    workspace.send(3)
    hidden = space.batches[:]
    workspace.send(100)
    OutboxBatch.objects.using(alias).exclude(remote_id__in=[batch.id for batch in hidden]).delete()
    page = space.batches[3:]
    monkeypatch.setattr(space, "list_batches", lambda limit, before: (page, 7))
    finish(workspace)
    assert len(workspace.single_reads) >= 3 > workspace.reads - len(workspace.single_reads)


def test_a_listing_with_endless_cursors_ends(workspace, alias, sandbox, monkeypatch):
    space = sandbox._api.workspaces["default"]
    endless_cursors = itertools.count(7)
    workspace.send(3)
    monkeypatch.setattr(space, "list_batches", lambda limit, before: ([], next(endless_cursors)))
    finish(workspace)
    assert len(workspace.single_reads) >= 3 > workspace.reads - len(workspace.single_reads)


# --- the next cursor of a batch that its page does not show -------------------------------------------


NOW = 1_772_366_400
"""The time of the test clock in seconds since the epoch."""


def page(*created, cursor="next"):
    created = created or (NOW,)
    statuses = tuple(
        Status(f"b{n}", "COMPLETE", 1, 0, 0, (), created_at=1_000 * at) for n, at in enumerate(created)
    )
    return Page(statuses, cursor)


@pytest.mark.parametrize(
    ("cursor", "age", "answer", "newest_age", "next_cursor"),
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
        "no batch of ours is shown",
        "older than all of the newest page",
        "older than all of its page",
        "newer than all of its page",
        "not on the newest page yet",
        "not on the newest page after three minutes",
        "the cursor leads back to itself",
        "the listing ends",
        "the page reaches far behind it",
        "no page follows an empty page",
    ],
)
def test_the_next_cursor(clock, cursor, age, answer, newest_age, next_cursor):
    def order(seconds):
        return clock.at - timedelta(seconds=seconds), 10_000 - seconds

    accepted_at, pk = order(age)
    batch = PolledBatch(pk, "", accepted_at, clock.at)
    newest = None if newest_age is None else order(newest_age)
    assert _next_cursor(cursor, batch, answer, newest, clock.at) == next_cursor


def test_the_clocks_of_hosts_may_differ(workspace, alias):
    """The older batches come from a host with a clock that is five minutes ahead."""
    workspace.send(250)
    for batch in OutboxBatch.objects.using(alias).order_by("pk")[:150]:
        ahead = batch.accepted_at + timedelta(minutes=5)
        OutboxBatch.objects.using(alias).filter(pk=batch.pk).update(accepted_at=ahead)
    workspace.clock.move(1)
    poll_due_batch(workspace.context)
    assert [length for _, length in cursors(alias)] == [150, 100]
    finish(workspace)
    assert len(workspace.single_reads) <= 3

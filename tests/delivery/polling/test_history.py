"""The listing as evidence: a database that lost batches is held, and nothing else raises an alarm."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
from django.utils import timezone

from evermuse_outbox.delivery.context import CLOSED, epoch_name
from evermuse_outbox.delivery.context.epochs import MemoryEpochs
from evermuse_outbox.delivery.loop import relay, relay_with_pool, seal_next
from evermuse_outbox.delivery.polling import (
    ListingUnreadable,
    find_unknown,
    history,
    is_database_known,
    walk_listings,
)
from evermuse_outbox.delivery.sending import post
from evermuse_outbox.delivery.settling import settle
from evermuse_outbox.models import OutboxBatch, OutboxWorkspace, WorkspaceState
from evermuse_outbox.sandbox import Fault
from tests.backup import restore_backup, take_backup
from tests.delivery.helpers import deliver, posts, workspace
from tests.records import enqueue


@pytest.fixture(autouse=True)
def present_time(clock):
    """Records are enqueued at the real time, so the simulated clock begins there."""
    clock.at = timezone.now()


@pytest.fixture
def context(context, alias, sandbox, outbox_settings, reopen):
    """A context of a project that has only one database."""
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", DATABASES=[alias])
    return dataclasses.replace(context, settings=reopen().settings)


@pytest.fixture
def restart(context):
    """Return a function that opens a context as a new process without a store outside of it."""
    return lambda: dataclasses.replace(context, epochs=MemoryEpochs())


def lose(context, alias, clock, *numbers):
    """Deliver records, and restore the database as it was before."""
    backup = take_backup(alias)
    enqueue(alias, *numbers)
    deliver(context, clock)
    restore_backup(alias, backup)


@pytest.fixture
def sent_before(context, alias, clock):
    enqueue(alias, 1, 2, 3)
    deliver(context, clock)


def reads(sandbox):
    return [arrival for arrival in sandbox.arrivals if arrival.method == "GET"]


def test_a_new_process_finds_batches_that_the_database_lost(
    context, alias, clock, sandbox, sent_before, restart
):
    lose(context, alias, clock, 4)
    sent = len(posts(sandbox))
    enqueue(alias, 5)
    assert relay_with_pool(restart(), 1) == 0
    row = workspace(alias)
    assert row.state == WorkspaceState.RESTORED
    assert "1 batches that no database has" in row.reason
    assert len(posts(sandbox)) == sent


def test_the_listing_is_read_once(context, alias, clock, sandbox, sent_before, restart):
    process, before = restart(), len(reads(sandbox))
    assert is_database_known(process)
    assert is_database_known(process)
    assert len(reads(sandbox)) == before + 1
    assert workspace(alias).state == WorkspaceState.ACTIVE


def test_a_new_outbox_reads_nothing(context, alias, sandbox):
    assert is_database_known(context)
    assert reads(sandbox) == []


@pytest.mark.parametrize("fault", [Fault.drop_after(), Fault.server_error()])
def test_an_unclear_attempt_explains_a_batch(context, alias, clock, sandbox, sent_before, restart, fault):
    enqueue(alias, 4, 5)
    sandbox.fail_next(fault)
    relay(context, 0.001)
    clock.move(30)
    assert is_database_known(restart())
    assert workspace(alias).state != WorkspaceState.RESTORED


def test_a_batch_under_way_explains_a_batch(context, alias, clock, sandbox, sent_before, restart):
    enqueue(alias, 4)
    sealed = seal_next(context)
    context.client.ingest(sealed.body, content_type=sealed.content_type, key=sealed.batch.key, format_hint="")
    assert is_database_known(restart())


def test_one_attempt_explains_only_one_batch(context, alias, clock, sandbox, sent_before, restart):
    lose(context, alias, clock, 7)
    enqueue(alias, 4)
    sandbox.fail_next(Fault.drop_after())
    relay(context, 0.001)
    clock.move(30)
    assert not is_database_known(restart())


def test_an_exclusive_listing_can_be_denied(
    context, alias, clock, sent_before, restart, reopen, outbox_settings, sandbox
):
    lose(context, alias, clock, 4)
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", LISTING_IS_EXCLUSIVE=False)
    assert is_database_known(dataclasses.replace(restart(), settings=reopen().settings))


@pytest.mark.parametrize("answers", [1, 3])
def test_a_listing_that_cannot_be_read_blocks_nothing(
    context, alias, clock, sandbox, sent_before, restart, answers
):
    sandbox.fail_next(Fault.server_error(on="GET"), count=answers)
    assert is_database_known(restart())
    assert workspace(alias).state == WorkspaceState.ACTIVE


def test_what_a_person_has_accepted_raises_no_alarm_again(context, alias, clock, sent_before, restart):
    lose(context, alias, clock, 4)
    enqueue(alias, 5)
    assert not is_database_known(restart())
    rows = OutboxWorkspace.objects.using(alias)
    assert rows.end_restored(rows.get(), clock.now())
    assert is_database_known(restart())
    deliver(context, clock)
    clock.move(600)
    lose(context, alias, clock, 6)
    assert not is_database_known(restart())


def test_the_walk_ends_at_the_time_of_the_backup(context, alias, clock, sandbox):
    for number in range(3):
        enqueue(alias, *range(10 * number, 10 * number + 3))
        deliver(context, clock)
        clock.move(600)
    start = OutboxBatch.objects.using(alias).order_by("-pk").first().accepted_at
    pages = list(walk_listings(context, start))
    assert len(pages) == 1
    statuses = pages[0].statuses
    assert find_unknown(context, statuses, start) == ((), ())
    OutboxBatch.objects.using(alias).filter(remote_id=statuses[0].remote_id).update(remote_id="other")
    assert [s.remote_id for s in find_unknown(context, statuses, start - timedelta(days=1)).unexplained] == [
        statuses[0].remote_id
    ]
    assert find_unknown(context, statuses, clock.now()) == ((), ())


def test_a_walk_that_fails_says_why(context, alias, clock, sandbox):
    sandbox.fail_next(Fault.server_error(on="GET"), count=10)
    with pytest.raises(ListingUnreadable, match="500"):
        list(walk_listings(context, clock.now()))


def test_a_closed_epoch_is_noticed_without_the_listing(context, alias, clock, sandbox, sent_before):
    context.epochs.record(epoch_name(workspace(alias).epoch, "default"), CLOSED, "closed")
    enqueue(alias, 9)
    assert relay_with_pool(context, 1) == 0
    assert workspace(alias).state == WorkspaceState.RESTORED


@pytest.mark.parametrize("read", ["_owned_ids", "_count_unclear"])
def test_an_answer_that_is_settled_during_the_comparison_raises_no_alarm(
    context, alias, clock, sent_before, monkeypatch, read
):
    start = clock.now() - timedelta(minutes=1)
    enqueue(alias, 9)
    sealed = seal_next(context)
    outcome, attempt = post(context, sealed, "permit")
    listed = [status for page in walk_listings(context, start) for status in page.statuses]
    original = getattr(history, read)

    def read_and_settle(*arguments):
        result = original(*arguments)
        settle(context, sealed, outcome, attempt, failures=0)
        return result

    monkeypatch.setattr(history, read, read_and_settle)
    assert len(listed) > 1
    assert find_unknown(context, listed, start).unexplained == ()

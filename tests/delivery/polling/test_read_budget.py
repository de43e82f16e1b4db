"""The budget of reads: few requests per batch and bounded delays, however long Evermuse takes."""

from __future__ import annotations

import pytest

from evermuse_outbox.delivery.polling import poll_due_batch
from evermuse_outbox.delivery.polling.read_budget import SENDS_PER_READ, claim_read
from evermuse_outbox.models import OutboxWorkspace
from tests.delivery.polling.load import MAX_REQUESTS_PER_BATCH, BusyWorkspace, make_rng
from tests.delivery.polling.test_poll import accept_batches

pytestmark = pytest.mark.long


def test_a_claim_excludes_other_readers_and_ends_with_the_lease(context, alias, sandbox, clock):
    accept_batches(context, alias, 1)
    clock.move(10)
    with pytest.raises(KeyboardInterrupt), claim_read(context) as run:
        assert run
        assert poll_due_batch(context) == 0
        raise KeyboardInterrupt
    assert poll_due_batch(context) == 1
    accept_batches(context, alias, 1)
    clock.move(10)
    OutboxWorkspace.objects.using(alias).claim_read("default", clock.at, context.clock.after(120))
    assert poll_due_batch(context) == 0
    clock.move(121)
    assert poll_due_batch(context) == 1


def test_a_claim_excludes_other_readers_if_the_lease_is_long(alias, sandbox, clock, outbox_settings, reopen):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", LEASE=7_200)
    context = reopen()
    OutboxWorkspace.objects.using(alias).ensure_row("default")
    with claim_read(context) as first, claim_read(context) as second:
        assert first
        assert not second


def test_a_thousand_open_batches_need_few_reads_and_all_become_complete(context, alias, sandbox, clock):
    workspace = BusyWorkspace(context, alias, sandbox, clock, seconds=60)
    workspace.send(1_000, over=100)
    assert workspace.measure_requests_per_batch(60) <= MAX_REQUESTS_PER_BATCH
    workspace.finish(75)
    assert 1 + workspace.reads / workspace.sent <= MAX_REQUESTS_PER_BATCH
    assert len(workspace.single_reads) <= 2


@pytest.mark.parametrize("seconds", [0, 2, 30, 300])
@pytest.mark.parametrize("is_constant", [True, False], ids=["constant", "random"])
def test_reads_and_delays_are_bounded_for_every_completion_time(
    context, alias, sandbox, clock, seconds, is_constant
):
    if alias != "default":
        pytest.skip("the count does not depend on the database")
    workspace = BusyWorkspace(
        context, alias, sandbox, clock, seconds, rng=None if is_constant else make_rng()
    )
    assert workspace.measure_requests_per_batch(120 + seconds) <= MAX_REQUESTS_PER_BATCH
    workspace.finish(60 + int(1.2 * seconds))
    assert max(workspace.delays()) <= 20 + 1.2 * seconds


def test_the_next_read_waits_for_a_number_of_sends(context, alias, sandbox, clock):
    workspace = BusyWorkspace(context, alias, sandbox, clock, seconds=0)
    workspace.send(30)
    clock.move(5)
    workspace.poll()
    assert workspace.reads == 1
    workspace.send(10)
    clock.move(SENDS_PER_READ / 10 - 1.1)
    workspace.poll()
    assert workspace.reads == 1
    clock.move(3)
    workspace.poll()
    assert workspace.reads == 2


def test_a_next_read_too_far_in_the_future_is_ignored(context, alias, sandbox, clock):
    workspace = BusyWorkspace(context, alias, sandbox, clock, seconds=0)
    workspace.send(30)
    clock.move(5)
    OutboxWorkspace.objects.using(alias).ensure_row("default")
    OutboxWorkspace.objects.using(alias).update(next_read_at=context.clock.after(86_400))
    workspace.poll()
    assert workspace.reads == 1

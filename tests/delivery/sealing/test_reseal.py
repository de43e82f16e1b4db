"""Records that are sealed again, in new batches within the limits of now."""

from __future__ import annotations

from evermuse_outbox.delivery.loop import poll, relay, seal_next
from evermuse_outbox.evermuse.api import Accepted
from evermuse_outbox.models import BatchState
from evermuse_outbox.sandbox import Fault
from tests.delivery.helpers import batches, deliver, settle_with, state_of
from tests.records import enqueue


def test_resealed_records_are_packed_within_the_current_limits(
    context, alias, sandbox, clock, outbox_settings, reopen
):
    rows = enqueue(alias, *range(6))
    sandbox.fail_next(Fault(batch_fails=True))
    relay(context, 60)
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_RECORDS=4)
    clock.move(10)
    poll(reopen(), 0.1)
    assert [batch.record_count for batch in batches(alias)] == [6, 4, 2]
    deliver(reopen(), clock)
    assert {state_of(row) for row in rows} == {"delivered"}


def test_a_part_of_an_isolating_batch_is_packed_within_the_current_limits(
    context, alias, sandbox, outbox_settings, reopen
):
    enqueue(alias, *range(8))
    sealed = seal_next(context)
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_RECORDS=3)
    settle_with(reopen(), sealed, Accepted("remote", 7, 1, 1, ()))
    parent, part = batches(alias)
    assert (parent.state, part.state) == (BatchState.ISOLATING, BatchState.SEALED)
    assert part.record_count == 2, "the eight records are halved until one request takes them"

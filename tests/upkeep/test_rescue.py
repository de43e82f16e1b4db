"""Rescue, and what else is done now and then, on every database."""

from __future__ import annotations

from evermuse_outbox import outbox
from evermuse_outbox.delivery.loop import seal_next
from evermuse_outbox.models import BatchState, OutboxAttempt, OutboxBatch
from evermuse_outbox.upkeep import rescue_batches
from tests.records import record


def test_only_an_expired_lease_is_rescued(context, alias, clock):
    outbox.enqueue(record(1), using=alias)
    seal_next(context)
    clock.move(context.settings.lease - 1)
    assert rescue_batches(alias, context.clock) == 0
    clock.move(2)
    assert rescue_batches(alias, context.clock) == 1
    assert rescue_batches(alias, context.clock) == 0
    batch = OutboxBatch.objects.using(alias).get()
    assert (batch.state, batch.in_doubt, batch.lease_token) == (BatchState.IN_DOUBT, True, None)
    assert OutboxAttempt.objects.using(alias).get().outcome == "lost"

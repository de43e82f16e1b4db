"""The lease of a batch: a batch that can no longer be sent as it was sealed, and a lease that is about to end."""

from __future__ import annotations

from evermuse_outbox.delivery.loop import relay
from evermuse_outbox.models import BatchState, OutboxRecord
from evermuse_outbox.sandbox import Fault
from tests.delivery.helpers import batches, sent_keys
from tests.records import enqueue


def test_a_batch_whose_payloads_were_altered_is_never_sent(context, alias, sandbox, clock):
    (row,) = enqueue(alias, 1)
    sandbox.fail_next(Fault.server_error())
    relay(context, 1)
    OutboxRecord.rows.using(alias).filter(pk=row.pk).update(payload="{}")
    clock.move(context.settings.backoff_cap)
    relay(context, 60)
    assert len(sent_keys(sandbox)) == 1
    assert batches(alias)[0].state == BatchState.FAILED
    assert "bytes" in batches(alias)[0].message


def test_a_sender_that_was_paused_past_its_lease_does_not_send(context, alias, sandbox, clock):
    enqueue(alias, 1)
    acquire = context.throttle.acquire
    context.throttle.acquire = lambda: clock.move(context.settings.lease) or acquire()
    relay(context, 1)
    assert sandbox.arrivals == []
    assert batches(alias)[0].state == BatchState.SEALED

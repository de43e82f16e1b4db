"""The lease of a batch: which batch is leased next, how a lease ends, and batches with altered payloads."""

from __future__ import annotations

from datetime import timedelta

from evermuse_outbox.delivery.loop import relay
from evermuse_outbox.delivery.sending import give_back, has_time_to_send, lease_due
from evermuse_outbox.models import BatchState, OutboxBatch, OutboxRecord
from evermuse_outbox.sandbox import Fault
from tests.delivery.helpers import batches, seal_all, sent_keys
from tests.records import enqueue


def test_the_batch_that_has_waited_longest_is_leased_and_can_be_given_back(
    context, alias, clock, outbox_settings, reopen, sandbox
):
    outbox_settings(API_URL=sandbox.url, API_KEY="em_sk_sandbox", MAX_BATCH_RECORDS=1)
    context = reopen()
    enqueue(alias, 1, 2, 3)
    for sealed in seal_all(context):
        give_back(context, sealed)
    short, long, later = batches(alias)
    for batch, seconds in ((short, -1), (long, -9), (later, 60)):
        due_at = clock.now() + timedelta(seconds=seconds)
        OutboxBatch.objects.using(alias).filter(pk=batch.pk).update(due_at=due_at)
    leased = [lease_due(context), lease_due(context)]
    assert [sealed.batch.pk for sealed in leased] == [long.pk, short.pk]
    assert lease_due(context) is None
    give_back(context, leased[0])
    assert [batch.state for batch in batches(alias)] == [
        BatchState.SENDING,
        BatchState.SEALED,
        BatchState.SEALED,
    ]
    assert lease_due(context).batch.pk == long.pk


def test_a_batch_is_sent_only_if_the_answer_arrives_within_the_lease(context, alias, clock):
    enqueue(alias, 1)
    (sealed,) = seal_all(context)
    clock.move(context.settings.lease - context.settings.timeout - 1)
    assert has_time_to_send(context, sealed)
    clock.move(1)
    assert not has_time_to_send(context, sealed)


def test_a_batch_with_altered_payloads_is_never_sent(context, alias, sandbox, clock):
    (row,) = enqueue(alias, 1)
    sandbox.fail_next(Fault.server_error())
    relay(context, 1)
    OutboxRecord.rows.using(alias).filter(pk=row.pk).update(payload="{}")
    clock.move(context.settings.backoff_cap)
    relay(context, 60)
    assert len(sent_keys(sandbox)) == 1
    (batch,) = batches(alias)
    assert (batch.state, batch.message) == (
        BatchState.SPLIT,
        "Stored lines were altered after the batch was sealed.",
    )
    assert row.rejections.get().code == "NOT_SENDABLE"


def test_a_sender_that_was_paused_past_its_lease_does_not_send(context, alias, sandbox, clock):
    enqueue(alias, 1)
    acquire = context.throttle.acquire
    context.throttle.acquire = lambda: clock.move(context.settings.lease) or acquire()
    relay(context, 1)
    assert sandbox.arrivals == []
    assert batches(alias)[0].state == BatchState.SEALED

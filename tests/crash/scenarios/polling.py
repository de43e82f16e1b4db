"""An accepted batch is polled until Evermuse has finished it."""

from __future__ import annotations

from evermuse_outbox.models import OutboxBatch
from evermuse_outbox.sandbox import Fault

from ..scenario import scenario

DAY = 86_400


def prepare_accepted(env):
    env.enqueue(1, 2, 3)
    env.relay()
    env.clock.move(10)


@scenario(prepare=prepare_accepted, is_main=True, is_paused=True)
def complete(env):
    """COMPLETE."""
    env.poll()


@scenario(prepare=prepare_accepted, sandbox={"batch_seconds": 60})
def not_complete_yet(env):
    """The batch is still processed: it stays accepted and is polled again later."""
    env.poll()


def prepare_many_accepted(env):
    for number in range(20, 24):
        env.enqueue(number, _product_id=f"product-{number}")
    env.relay()
    env.clock.move(10)


@scenario(prepare=prepare_many_accepted, expected="delivered " * 4)
def many_complete(env):
    """One listing page reports many batches."""
    env.poll()


def prepare_unlisted(env):
    prepare_many_accepted(env)
    for batch in OutboxBatch.objects.using(env.alias).all():
        OutboxBatch.objects.using(env.alias).filter(pk=batch.pk).update(remote_id=f"batch_unknown_{batch.pk}")
    env.clock.move(DAY)


@scenario(prepare=prepare_unlisted, expected="delivered " * 4, may_repeat=True)
def unlisted(env):
    """The listing does not show the batches: each is polled alone, and sent again."""
    env.poll()


@scenario(prepare=prepare_many_accepted, faults=[Fault.server_error(on="GET")], expected="delivered " * 4)
def listing_fails(env):
    """500 to the listing: one batch is polled alone, the others later."""
    env.poll()


def prepare_failed(env):
    env.enqueue(1, 2, 3)
    env.sandbox.fail_next(Fault.failed_batch())
    env.relay()
    env.clock.move(10)


@scenario(prepare=prepare_failed, is_paused=True)
def failed(env):
    """FAILED: the records are sealed again under a new key."""
    env.poll()


@scenario(prepare=prepare_failed, settings={"MAX_RESENDS": 0}, expected="rejected rejected rejected")
def failed_too_often(env):
    """FAILED after the last resend: the records are rejected and wait for an operator."""
    env.poll()


def prepare_rejected_later(env):
    prepare_accepted(env)
    env.reject_accepted(1, named=True)


@scenario(prepare=prepare_rejected_later, expected="delivered rejected delivered", is_paused=True)
def complete_with_named_rejection(env):
    """COMPLETE, with the name of a rejected record that the 202 counted as accepted."""
    env.poll()


def prepare_rejected_later_unnamed(env):
    prepare_accepted(env)
    env.reject_accepted(1, named=False)


@scenario(prepare=prepare_rejected_later_unnamed, may_repeat=True)
def complete_with_unnamed_rejection(env):
    """COMPLETE, with a rejected record that is not named: the batch is sent again in parts under new keys."""
    env.poll()


def prepare_forgotten(env):
    prepare_accepted(env)
    first = env.clock.now()
    OutboxBatch.objects.using(env.alias).update(remote_id="batch_unknown", unknown_since=first)
    env.clock.move(DAY)


@scenario(prepare=prepare_forgotten, may_repeat=True)
def forgotten(env):
    """A second 404, and a listing without the batch, count as FAILED."""
    env.poll()


def prepare_complete_forgotten(env):
    prepare_accepted(env)
    env.clock.move(5)
    env.poll()
    OutboxBatch.objects.using(env.alias).update(next_poll_at=env.clock.now(), attachment_status="IN_PROGRESS")
    OutboxBatch.objects.using(env.alias).update(remote_id="batch_unknown", unknown_since=env.clock.now())
    env.clock.move(DAY)


@scenario(prepare=prepare_complete_forgotten)
def complete_forgotten(env):
    """A second 404 for a complete batch with attachments under way: it is not polled any more."""
    env.poll()


@scenario(prepare=prepare_accepted, faults=[Fault.server_error(on="GET")])
def read_fails(env):
    """500 to a read, which does not block the workspace."""
    env.poll()


@scenario(prepare=prepare_accepted, faults=[Fault.too_many(5, on="GET")])
def read_throttled(env):
    """429 to a read, which blocks the workspace."""
    env.poll()


@scenario(prepare=prepare_accepted, faults=[Fault(status=401, on="GET")])
def read_refused(env):
    """401 to a read, which pauses the workspace."""
    env.poll()


def prepare_paused_by_read(env):
    prepare_accepted(env)
    env.sandbox.fail_next(Fault(status=401, on="GET"))
    env.poll()
    env.clock.move(100)


@scenario(prepare=prepare_paused_by_read)
def read_ends_pause(env):
    """The API key works again, and a read is the first request that succeeds."""
    env.poll()

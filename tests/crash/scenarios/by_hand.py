"""A person ends a wait by hand. Each operation is carried out in full with its row of the action log, or not at all."""

from __future__ import annotations

from datetime import timedelta

from evermuse_outbox import operations
from evermuse_outbox.models import GroupState, OutboxAction, OutboxBatch, OutboxGroup, group_key
from evermuse_outbox.sandbox import Fault

from ..environment import Environment
from ..scenario import scenario


def first_batch(env: Environment) -> OutboxBatch:
    """Return the first batch."""
    return OutboxBatch.objects.using(env.alias).order_by("pk")[0]


def prepare_accepted(env):
    """Leave three records in a batch that Evermuse has accepted."""
    env.enqueue(1, 2, 3)
    env.send()


def prepare_in_doubt(env):
    """Leave three records in a batch in doubt that Evermuse does not have."""
    env.sandbox.fail_next(Fault.drop_before())
    prepare_accepted(env)


def check_recorded(env: Environment, states: list[str], changed: str) -> None:
    """Check that the action log has a row if and only if the states are those that the action leads to."""
    was_done = OutboxAction.objects.using(env.alias).exists()
    assert states == [changed if was_done else "delivered"] * 3


def check_given_up(env: Environment, states: list[str]) -> None:
    """Check a batch that was given up."""
    check_recorded(env, states, "rejected")


def check_finished(env: Environment, states: list[str]) -> None:
    """Check that each record was delivered before the batch was given up, or rejected by it."""
    assert set(states) <= {"delivered", "rejected"}


def check_discarded(env: Environment, states: list[str]) -> None:
    """Check records that were discarded."""
    check_recorded(env, states, "discarded")


@scenario(prepare=prepare_in_doubt, expected=check_given_up, is_purging=True)
def given_up_in_doubt(env):
    """An operator gives up a batch in doubt."""
    operations.give_up_batch(env.alias, first_batch(env).pk, clock=env.context.clock)


# Evermuse has the records, so they cannot be compared with the rows.
@scenario(prepare=prepare_accepted, expected=check_given_up, is_purging=True)
def given_up_accepted(env):
    """An operator gives up a batch that Evermuse has accepted."""
    operations.give_up_batch(env.alias, first_batch(env).pk, clock=env.context.clock)


@scenario(prepare=prepare_in_doubt)
def isolated_by_hand(env):
    """An operator isolates a batch."""
    operations.isolate_batch(env.context, first_batch(env).pk)


def prepare_isolating_in_paused_group(env):
    """Isolate a batch in doubt whose group is paused."""
    prepare_in_doubt(env)
    batch = first_batch(env)
    OutboxGroup.objects.using(env.alias).create(
        scope=group_key(batch.workspace, batch.type, batch.product_id),
        workspace=batch.workspace,
        type=batch.type,
        product_id=batch.product_id,
        contract=batch.contract,
        state=GroupState.PAUSED,
        since=env.clock.now(),
        blocked_until=env.clock.now(),
    )
    env.clock.move(100)
    operations.isolate_batch(env.context, batch.pk)


@scenario(prepare=prepare_isolating_in_paused_group, faults=[Fault(status=400)])
def part_refused_in_paused_group(env):
    """The part is refused: the rest of the batch stays in doubt, and its records do not become pending."""
    env.send()


def prepare_isolating(env):
    """Isolate a batch, and let its part wait."""
    prepare_in_doubt(env)
    operations.isolate_batch(env.context, first_batch(env).pk)
    later = env.clock.now() + timedelta(minutes=50)
    OutboxBatch.objects.using(env.alias).update(due_at=later)
    OutboxAction.objects.using(env.alias).all().delete()


@scenario(prepare=prepare_isolating, expected=check_finished, is_purging=True)
def given_up_isolating(env):
    """An operator tries the part of an isolating batch now, and then gives the batch up."""
    clock, pk = env.context.clock, first_batch(env).pk
    operations.retry_batch_now(env.alias, pk, clock=clock)
    operations.give_up_batch(env.alias, pk, clock=clock)


def prepare_waiting(env):
    """Leave a batch in doubt in a workspace that is throttled, with a paused group of another product."""
    prepare_in_doubt(env)
    later = env.clock.now() + timedelta(minutes=50)
    OutboxBatch.objects.using(env.alias).update(due_at=later)
    OutboxGroup.objects.using(env.alias).create(
        scope=group_key("default", "call", "other"),
        workspace="default",
        type="call",
        product_id="other",
        state=GroupState.PAUSED,
        since=env.clock.now(),
        blocked_until=later,
    )


@scenario(prepare=prepare_waiting)
def sent_by_hand(env):
    """An operator resumes a workspace and a group, and sends a batch without the listing."""
    clock = env.context.clock
    operations.resume_workspace(env.alias, "default", force=True, clock=clock)
    for row in OutboxGroup.objects.using(env.alias):
        operations.resume_group(env.alias, row)
    operations.retry_batch_now(env.alias, first_batch(env).pk, without_listing=True, clock=clock)


def prepare_complete(env):
    """Poll a complete batch on, as if its attachments were not fetched yet."""
    env.enqueue(1, 2, 3)
    env.relay()
    env.clock.move(5)
    env.poll()
    OutboxBatch.objects.using(env.alias).update(next_poll_at=env.clock.now() + timedelta(minutes=5))


@scenario(prepare=prepare_complete)
def polled_by_hand(env):
    """An operator polls a batch now, and then stops polling it."""
    clock, pk = env.context.clock, first_batch(env).pk
    operations.retry_batch_now(env.alias, pk, clock=clock)
    operations.give_up_batch(env.alias, pk, clock=clock)


@scenario(expected=check_discarded)
def discarded_by_hand(env):
    """An operator discards what is pending."""
    operations.discard_pending(env.alias, "default")

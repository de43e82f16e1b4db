"""Batches with an expired lease are rescued, and finished rows are purged."""

from __future__ import annotations

from datetime import timedelta

from evermuse_outbox.delivery.loop import seal_next
from evermuse_outbox.models import OutboxBatch, OutboxWorkspace
from evermuse_outbox.sandbox import Fault
from evermuse_outbox.upkeep import CorrectionCursor, correct_future_times, correct_rejected

from ..environment import Environment
from ..scenario import scenario
from .polling import prepare_many_accepted

DAY = 86_400


def prepare_expired_lease(env):
    env.enqueue(1, 2, 3)
    seal_next(env.context)
    env.clock.move(env.context.settings.lease + 1)


@scenario(prepare=prepare_expired_lease, is_main=True)
def rescued(env):
    """The worker of a batch died: the batch becomes in doubt when its lease has expired."""
    env.maintain()


def prepare_far_times(env):
    """Leave a batch in doubt and its workspace with times that a wrong clock has written."""
    env.enqueue(1, 2, 3)
    env.sandbox.fail_next(Fault.drop_before())
    env.send()
    far = env.clock.now() + timedelta(days=30)
    OutboxBatch.objects.using(env.alias).update(due_at=far)
    OutboxWorkspace.objects.using(env.alias).update(blocked_until=far)


def correct_times(env: Environment) -> None:
    """Correct the times, as each worker does from time to time."""
    correct_future_times(env.alias, env.context.clock)


@scenario(prepare=prepare_far_times, repair=correct_times)
def corrected_times(env):
    """Times in the far future are set to now."""
    correct_times(env)


def prepare_corrected(env):
    """Let Evermuse reject a record, and deliver a newer version of it."""
    env.enqueue(1, invalid=(1,))
    env.relay()
    env.enqueue(1, data={"version": 2})
    env.relay()
    env.clock.move(10)
    env.poll()


def correct_records(env: Environment) -> None:
    """Look for rejected records that were corrected, as each worker does from time to time."""
    correct_rejected(env.alias, CorrectionCursor())


@scenario(prepare=prepare_corrected, repair=correct_records, expected="superseded delivered")
def corrected_records(env):
    """A rejected record is superseded by a newer version that Evermuse has."""
    correct_records(env)


def prepare_finished_long_ago(env):
    env.enqueue(1, 2, 3, invalid=(3,))
    env.enqueue(1, data={"version": 2})
    env.relay()
    env.clock.move(10)
    env.enqueue(*range(10, 16))
    prepare_many_accepted(env)
    env.poll()
    env.records.model.rows.using(env.alias).update(enqueued_at=env.clock.now())
    env.clock.move(30 * DAY)


def check_only_rejected_left(env: Environment, states: list[str]) -> None:
    """Check that finished records were deleted, and the record that waits for an operator was kept."""
    assert states == ["rejected"]


@scenario(prepare=prepare_finished_long_ago, expected=check_only_rejected_left, is_purging=True)
def purged(env):
    """Rows that were finished long ago are deleted."""
    env.maintain()

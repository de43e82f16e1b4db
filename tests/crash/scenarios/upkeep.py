"""Batches with an expired lease are rescued, and finished rows are purged."""

from __future__ import annotations

from evermuse_outbox.delivery.loop import seal_next

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

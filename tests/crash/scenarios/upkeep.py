"""What dead workers held is taken from them, and what is over goes."""

from __future__ import annotations

from evermuse_outbox.delivery.loop import seal_next

from ..environment import Life
from ..scenario import scenario
from .polling import many_accepted_before

DAY = 86_400


def lease_expired(life):
    life.enqueue(1, 2, 3)
    seal_next(life.context)
    life.clock.move(life.context.settings.lease + 1)


@scenario(before=lease_expired, main=True)
def rescued(life):
    """A batch whose worker never came back becomes in doubt."""
    life.maintain()


def long_over(life):
    life.enqueue(1, 2, 3, bad=(3,))
    life.enqueue(1, data={"version": 2})
    life.relay()
    life.clock.move(10)
    life.enqueue(*range(10, 16))
    many_accepted_before(life)
    life.track()
    life.records.model.rows.using(life.alias).update(enqueued_at=life.clock.now())
    life.clock.move(30 * DAY)


def only_the_rejected_is_left(life: Life, states: list[str]) -> None:
    """What is over went, and what waits for a person stays."""
    assert states == ["rejected"]


@scenario(before=long_over, ends=only_the_rejected_is_left, purges=True)
def purged(life):
    """What was over long ago goes."""
    life.maintain()

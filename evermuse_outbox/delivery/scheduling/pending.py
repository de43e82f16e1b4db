"""What there is to send."""

from __future__ import annotations

from ...models import OutboxBatch, OutboxRecord
from ...models.record import RecordQuerySet
from ..context.context import Channel
from .scheduler import Group


def has_work(channel: Channel) -> bool:
    """Whether anything waits to be sealed or is due to be sent."""
    due = OutboxBatch.objects.using(channel.using).due(channel.name, channel.clock.now())
    pending = OutboxRecord.rows.using(channel.using).pending().filter(workspace=channel.name)
    # From the young end: at the other lie the traces of those that were taken.
    youngest = pending.order_by("-workspace", "-type", "-product_id", "-enqueued_at", "-pk").values_list("pk")
    return channel.persist(lambda: due.exists() or youngest.first() is not None)


def waiting_in(channel: Channel, group: Group) -> RecordQuerySet:
    """The pending records of the group, the longest waiting first."""
    rows = OutboxRecord.rows.using(channel.using).pending().group(channel.name, *group)
    return rows.order_by("enqueued_at", "pk")

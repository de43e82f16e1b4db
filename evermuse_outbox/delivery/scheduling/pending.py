"""What there is to send."""

from __future__ import annotations

from ...models import OutboxBatch, OutboxRecord
from ...models.record import RecordQuerySet
from ..context.context import DeliveryContext
from .scheduler import Group


def has_work(context: DeliveryContext) -> bool:
    """Whether anything waits to be sealed or is due to be sent."""
    due = OutboxBatch.objects.using(context.using).due(context.workspace_name, context.clock.now())
    pending = OutboxRecord.rows.using(context.using).pending().filter(workspace=context.workspace_name)
    # From the young end: at the other lie the traces of those that were taken.
    youngest = pending.order_by("-workspace", "-type", "-product_id", "-enqueued_at", "-pk").values_list("pk")
    return context.run_with_retries(lambda: due.exists() or youngest.first() is not None)


def waiting_in(context: DeliveryContext, group: Group) -> RecordQuerySet:
    """The pending records of the group, the longest waiting first."""
    rows = OutboxRecord.rows.using(context.using).pending().group(context.workspace_name, *group)
    return rows.order_by("enqueued_at", "pk")

"""Queries for pending records."""

from __future__ import annotations

from ...models import (
    NotBefore,
    OutboxBatch,
    OutboxRecord,
    RecordQuerySet,
)
from ..context import DeliveryContext
from .run_queue import ResumePoint
from .scheduler import Group


def has_work(context: DeliveryContext) -> bool:
    """Return whether the workspace has pending records or a batch that is due."""
    due = OutboxBatch.objects.using(context.using).due(context.workspace_name, context.clock.now())
    pending = OutboxRecord.rows.using(context.using).pending().filter(workspace=context.workspace_name)
    # Read from the newest end of the index: at the oldest end lie dead tuples of sealed records.
    newest = pending.order_by("-workspace", "-type", "-product_id", "-enqueued_at", "-pk").values_list("pk")
    return context.run_with_retries(lambda: due.exists() or newest.first() is not None)


def pending_records(
    context: DeliveryContext, group: Group, since: ResumePoint | None = None
) -> RecordQuerySet:
    """Return the pending records of a group, the longest waiting first, from the resume point ``since`` on.

    A record that was enqueued early and committed late lies before the resume point. The next full scan finds it.
    """
    rows = OutboxRecord.rows.using(context.using).pending().group(context.workspace_name, *group)
    rows = rows.order_by("enqueued_at", "pk")
    if since is None:
        return rows
    # The second condition repeats a part of the first for databases that find no index for the first.
    return rows.filter(NotBefore("enqueued_at", *since), enqueued_at__gte=since.enqueued_at)

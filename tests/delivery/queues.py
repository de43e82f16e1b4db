"""Steps that the tests of scanning and scheduling share."""

from __future__ import annotations

from datetime import timedelta

from evermuse_outbox.delivery.loop import seal_next
from evermuse_outbox.models import OutboxRecord, OutboxWorkspace
from tests.records import enqueue

HOT = "hot"
"""The product id of a group that always has full requests."""


def enqueue_in_group(context, count, product, *, first=0, age=0.0):
    """Enqueue ``count`` records of one group, as if ``age`` seconds ago. ``first`` is the number of the first one."""
    rows = enqueue(
        context.using,
        *(f"{product}-{number}" for number in range(first, first + count)),
        _product_id=product,
    )
    added = OutboxRecord.rows.using(context.using).filter(pk__in=[row.pk for row in rows])
    added.update(enqueued_at=context.clock.now() - timedelta(seconds=age))


def seal(context):
    """Seal the next batch and return its product id, or None if nothing can be sealed."""
    sealed = seal_next(context)
    return sealed and sealed.batch.product_id


def stored_queue(context):
    """Return the run queue as it is stored on the workspace's row."""
    return OutboxWorkspace.objects.using(context.using).get().run_queue

"""Choose what the next read is about: a listing page that is likely to show finished batches.

The guarantee "close to the limit" needs it if more than a hundred batches are polled: then a page covers only a part of
them. If Evermuse takes 300 s, reading the longest due batch first costs 1.17 requests per batch instead of
1.04. The end of a batch is then known 22 s late on average instead of 11 s.
"""

from __future__ import annotations

from datetime import timedelta

from ...evermuse import limits
from ...models import BatchQuerySet, OutboxBatch
from ..context import DeliveryContext
from .read_budget import ReadRun, has_polled_batches

COMPLETION_MARGIN = 1.05
"""A batch is first polled at this multiple of the typical completion time.

The 5 % let its neighbours on the page finish, too.
"""

MAX_OVERDUE = 120.0
"""Seconds after which a due batch is polled although it is probably not complete; half the typical time if less.

Without such polls, an estimate of the typical time that is too high would never be corrected.
"""


def choose_batch(context: DeliveryContext, run: ReadRun) -> OutboxBatch | None:
    """Return the batch to read next together with its listing page, or None if no batch is due."""
    rows, name, now = OutboxBatch.objects.using(context.using), context.workspace_name, context.clock.now()
    due = rows.poll_due(name, now)
    if not has_polled_batches(context, limits.MAX_LISTING + 1):
        return context.run_with_retries(due.first)
    likely_complete = due.filter(
        accepted_at__lte=now - timedelta(seconds=COMPLETION_MARGIN * run.typical_seconds)
    )
    overdue = rows.poll_due(name, now - timedelta(seconds=min(run.typical_seconds / 2, MAX_OVERDUE)))
    return _find_widest_read(context, likely_complete) or _find_widest_read(context, overdue)


def _find_widest_read(context: DeliveryContext, due: BatchQuerySet) -> OutboxBatch | None:
    """Return a due batch that has a listing page, because one read covers up to a hundred batches there.

    Return a batch without a page if it has been due for a hundred times as long. So batches that no listing shows do
    not take the reads of all others.
    """
    unlisted = context.run_with_retries(due.filter(listing_cursor__isnull=True).first)
    listed = context.run_with_retries(due.filter(listing_cursor__isnull=False).first)
    if not (unlisted and listed):
        return unlisted or listed
    now = context.clock.now()
    unlisted_wait, listed_wait = now - (unlisted.next_poll_at or now), now - (listed.next_poll_at or now)
    return unlisted if unlisted_wait > limits.MAX_LISTING * listed_wait else listed

"""Choose what the next read is about: the batch whose listing page is likely to show many finished batches.

With up to a hundred polled batches, one page covers all of them, so the one that has been due for longest is chosen.
With more of them, the order decides how early the end of a batch is known, because the budget of reads is fixed.
CHOICE_REASON
"""

from __future__ import annotations

from datetime import timedelta

from ...evermuse import limits
from ...models import BatchQuerySet, OutboxBatch
from ..context import DeliveryContext
from .listing_pages import NEWEST_PAGE
from .read_budget import ReadRun, has_polled_batches

BUSY_FIRST_POLL_DELAY = timedelta(seconds=2)
"""Extra wait of a due batch while records wait to be sent.

Batches that are accepted during this time share its read.
"""

COMPLETION_MARGIN = 1.05
"""A page is read at this multiple of the typical completion time of its oldest due batch.

The 5 % let the neighbours of the batch on the page finish, too.
"""

MIN_NEW_BATCHES = 90
"""The newest page is read early if it has this many batches that no read has covered yet.

One page shows a hundred batches. The read gives each of them a place in the listing, so that later reads find them.
"""

MIN_EARLY_POLL, MAX_EARLY_POLL = 10.0, 120.0
"""Bounds in seconds for the age at which a batch may be polled before its typical completion time.

The age is half of that time. Without early polls, an estimate that is too high would never be corrected.
"""


def choose_batch(context: DeliveryContext, run: ReadRun) -> OutboxBatch | None:
    """Return the batch to read next together with its listing page, or None if no batch is due."""
    rows, now = OutboxBatch.objects.using(context.using), context.clock.now()
    due = rows.poll_due(context.workspace_name, now - BUSY_FIRST_POLL_DELAY if run.is_busy else now)
    if not has_polled_batches(context, limits.MAX_LISTING + 1):
        return context.run_with_retries(due.first)
    if new_batch := _find_on_page_of_new_batches(context):
        return new_batch
    likely_complete_at = now - timedelta(seconds=COMPLETION_MARGIN * run.typical_seconds)
    early_age = timedelta(seconds=min(max(run.typical_seconds / 2, MIN_EARLY_POLL), MAX_EARLY_POLL))
    return _find_widest_read(context, due.filter(accepted_at__lte=likely_complete_at)) or _find_widest_read(
        context, rows.poll_due(context.workspace_name, now - early_age)
    )


def _find_on_page_of_new_batches(context: DeliveryContext) -> OutboxBatch | None:
    """Return a batch of the newest page if nearly all of the page has never been read."""
    # Batches that a read did not show are not new: a listing that lags behind must not take all reads.
    newest = OutboxBatch.objects.using(context.using).on_listing_page(context.workspace_name, NEWEST_PAGE)
    new_batches = context.run_with_retries(list, newest.filter(remote_status="", polls=0)[:MIN_NEW_BATCHES])
    return new_batches[0] if len(new_batches) == MIN_NEW_BATCHES else None


def _find_widest_read(context: DeliveryContext, due: BatchQuerySet) -> OutboxBatch | None:
    """Return a due batch that has a listing page, because one read covers up to a hundred batches there.

    Return a batch without a page if it has been due for a hundred times as long.
    """
    unlisted = context.run_with_retries(due.filter(listing_cursor__isnull=True).first)
    listed = context.run_with_retries(due.filter(listing_cursor__isnull=False).first)
    if not (unlisted and listed):
        return unlisted or listed
    now = context.clock.now()
    unlisted_wait, listed_wait = now - (unlisted.next_poll_at or now), now - (listed.next_poll_at or now)
    return unlisted if unlisted_wait > limits.MAX_LISTING * listed_wait else listed

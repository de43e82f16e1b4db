"""Listing pages: the polled batches that one page of ``GET /batches`` covers.

The guarantee "close to the limit" needs them: one read covers a hundred batches, also if they are far from the newest.
The alternative is one cursor that moves over the complete listing. If Evermuse takes 60 s, it costs
1.13 requests per batch instead of 1.05. The end of a batch is then known 9 s late on average instead of 3 s.

The listing starts with the newest batches. Each page has up to a hundred of them and the cursor of the next page.
Each polled batch stores the cursor of its page: empty for the newest page, None if the listing has not shown it.

When a page is read, the batches of ours that it does not show are older, so they move to the next cursor. In this way,
reads divide a long newest page into pages of a hundred, and an old page is read again without the newer ones.
A cursor is only expected to lead to older batches. A wrong cursor costs reads, but no batch depends on it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ...evermuse.api import Page
from ...models import OutboxBatch
from ..context import DeliveryContext, poll_delay

NEWEST_PAGE = ""
"""The cursor of the newest page."""

MAX_CLOCK_DIFFERENCE = 3_600.0
"""Seconds by which the clock of Evermuse may differ from ours before a batch is looked for on the wrong page."""

MAX_LISTING_DELAY = timedelta(minutes=2)
"""How long after its acceptance a batch may be missing on the newest page. After that, it is polled alone."""

ROWS_PER_UPDATE = 500
"""Maximum number of rows in one UPDATE, so that it holds their locks only for a short time."""


@dataclass(frozen=True, slots=True)
class PolledBatch:
    """The columns of a polled batch that decide on which page it is expected. ``accepted_at`` is never empty."""

    pk: int
    remote_id: str
    accepted_at: datetime
    next_poll_at: datetime

    @classmethod
    def of(cls, batch: OutboxBatch) -> PolledBatch:
        """Return the columns of ``batch``."""
        accepted_at = batch.accepted_at or batch.sealed_at
        return cls(batch.pk, batch.remote_id, accepted_at, batch.next_poll_at or accepted_at)


@dataclass(frozen=True, slots=True)
class ListingPage:
    """All polled batches with the same cursor, before the page is read."""

    cursor: str | None
    batches: tuple[PolledBatch, ...]
    has_all_keys: bool = True

    @classmethod
    def load(
        cls, context: DeliveryContext, cursor: str | None, only: Mapping[str, str | None] | None = None
    ) -> ListingPage:
        """Read the batches of the page from the database; ``only`` those of one API key, if it is a filter for them."""
        rows = OutboxBatch.objects.using(context.using).on_listing_page(context.workspace_name, cursor)
        rows = rows.filter(**only) if only else rows
        columns = rows.values_list("pk", "remote_id", "accepted_at", "sealed_at", "next_poll_at")
        batches = []
        for pk, remote_id, accepted_at, sealed_at, next_poll_at in context.run_with_retries(list, columns):
            since = accepted_at or sealed_at
            batches.append(PolledBatch(pk, remote_id, since, next_poll_at or since))
        return cls(cursor, tuple(batches), has_all_keys=not only)

    def count_due(self, now: datetime) -> int:
        """Return how many batches of the page are due to be polled."""
        return sum(batch.next_poll_at <= now for batch in self.batches)


def move_missing(
    context: DeliveryContext, page: ListingPage, answer: Page, shown: Iterable[OutboxBatch]
) -> None:
    """Move the batches that the answer for their page does not show. ``shown`` are our batches in the answer."""
    shown_ids = {batch.remote_id for batch in shown}
    newest = _newest([PolledBatch.of(batch) for batch in shown])
    now = context.clock.now()
    by_cursor: dict[str | None, list[PolledBatch]] = defaultdict(list)
    for batch in page.batches:
        if batch.remote_id not in shown_ids:
            by_cursor[_next_cursor(page.cursor, batch, answer, newest, now)].append(batch)
    for cursor, batches in by_cursor.items():
        if cursor == page.cursor:
            postpone(context, batches)
        else:
            set_cursor(context, batches, cursor)


def _newest(batches: list[PolledBatch]) -> tuple[datetime, int] | None:
    """Return the latest ``accepted_at`` and the highest primary key, or None without batches.

    A batch that exceeds both is newer than all of them, even if the clocks of the hosts differ.
    """
    if not batches:
        return None
    return max(batch.accepted_at for batch in batches), max(batch.pk for batch in batches)


def _next_cursor(
    cursor: str | None, batch: PolledBatch, answer: Page, newest: tuple[datetime, int] | None, now: datetime
) -> str | None:
    """Return the cursor of a batch that the page behind ``cursor`` does not show; None to poll it alone."""
    if newest and batch.accepted_at > newest[0] and batch.pk > newest[1]:
        # All later pages are older still. Only the newest page may show the batch a little later.
        may_be_listed_later = cursor == NEWEST_PAGE and now - batch.accepted_at < MAX_LISTING_DELAY
        return NEWEST_PAGE if may_be_listed_later else None
    is_last_page = not answer.statuses or answer.next_cursor == cursor
    if is_last_page or answer.reaches(batch.accepted_at.timestamp() - MAX_CLOCK_DIFFERENCE):
        return None
    return answer.next_cursor


def set_cursor(context: DeliveryContext, batches: Iterable[PolledBatch], cursor: str | None) -> None:
    """Store the cursor of the page on which the batches are expected."""
    rows = OutboxBatch.objects.using(context.using)
    for ids in _chunks(batches):
        context.run_with_retries(rows.set_listing_cursor, ids, cursor)


def postpone(context: DeliveryContext, batches: Iterable[PolledBatch], **columns: Any) -> None:
    """Poll the batches that are due later, because nothing was learned about them. Older ones wait longer."""
    rows, now = OutboxBatch.objects.using(context.using), context.clock.now()
    due = [batch for batch in batches if batch.next_poll_at <= now]
    if due:
        age = (now - max(batch.accepted_at for batch in due)).total_seconds()
        later = context.clock.after(poll_delay(age, context.settings.poll_interval))
        for ids in _chunks(due):
            context.run_with_retries(rows.postpone_polls, ids, now, later, **columns)


def _chunks(batches: Iterable[PolledBatch]) -> Iterable[list[int]]:
    # Sorted, so that two processes that update the same rows cannot deadlock.
    ids = sorted(batch.pk for batch in batches)
    return (ids[start : start + ROWS_PER_UPDATE] for start in range(0, len(ids), ROWS_PER_UPDATE))

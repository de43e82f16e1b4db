"""What Evermuse has and the databases do not: the evidence of the listing that a database was restored.

The listing shows the id, the time, the type and the number of records of each batch, but no product and no identities.
So it can prove that a batch is missing in the database, but not which records the batch had.

A listed batch is *unknown* if no database of the outbox has its id. It is *explained* if an attempt of ours without a
clear answer may have made it. Each such attempt explains one batch of the same type and number of records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import Min

from ...evermuse.api import KeyRefused, Page, Status, Throttled
from ...foreign_text import describe_error, get_logger, headline
from ...models import (
    BatchState,
    OutboxAttempt,
    OutboxBatch,
    OutboxWorkspace,
    WorkspaceQuerySet,
    WorkspaceState,
)
from ...ratelimit import ThrottleUnavailable
from ..connections import release_connections
from ..context import BEGIN, FINGERPRINT_HEAD, DeliveryContext, epoch_name
from ..gates import acquire_permit, hold_restored, keys_of_listings, workspace_circuit
from .reads import Listing, get_listing
from .reconciliation import MAX_CLOCK_SKEW

logger = get_logger(__name__)

READ_ATTEMPTS = 3
"""How often a page of the listing is requested before it counts as unreadable."""

PERMIT_ATTEMPTS = 24
"""How often the walk waits for a permit, each time up to ``MAX_PERMIT_WAIT`` seconds: two minutes for each page."""

READ_PAUSE = 1.0
"""Seconds before a page is requested again."""


class ListingUnreadable(Exception):
    """The listing could not be read to the end. The message says why."""


class UnknownBatches(NamedTuple):
    """Listed batches that no database has: those without an explanation, and those that an unclear attempt explains."""

    unexplained: tuple[Status, ...]
    explained: tuple[Status, ...]


def is_database_known(context: DeliveryContext) -> bool:
    """Return whether senders may start. If the epoch store does not know this database, ask the listing first.

    That happens once: after the first start, after Redis was flushed, and without a store outside of the process after
    each start. If the newest page shows a batch that this database cannot have made, the workspace is held. A listing
    that cannot be read proves nothing, and sending begins.
    """
    row = context.run_with_retries(_rows(context).ensure_row, context.workspace_name)
    if row.state in (WorkspaceState.RESTORED, WorkspaceState.HELD):
        return False
    name = epoch_name(row.epoch, context.workspace_name)
    # First without the circuit, which costs a statement: this is the usual case, and each run begins here.
    with suppress(ThrottleUnavailable):
        if row.batch_count == 0 or context.epochs.latest(name) is not None:
            return True
    with workspace_circuit(context) as circuit:
        if row.batch_count == 0 or context.epochs.latest(name) is not None:
            return True
        if not circuit.allows_requests:
            return False
        if context.settings.listing_is_exclusive:
            listings = keys_of_listings(context, circuit)
            if not listings or not all(_agrees_with_newest_page(keyed, row) for keyed in listings):
                return False
        context.epochs.record(name, row.batch_count, BEGIN)
        return True
    return False  # the throttle backend did not answer


def walk_listing(context: DeliveryContext, since: datetime) -> Iterator[Page]:
    """Yield the pages of the listing from the newest one back to the time ``since``. Each read has a permit.

    Raise :class:`ListingUnreadable` if a page cannot be read.
    """
    cursor = None
    while True:
        listing = _read(context, cursor)
        if listing.page is None:
            raise ListingUnreadable(getattr(listing.error, "message", "no permit was free in time"))
        yield listing.page
        cursor = listing.page.next_cursor
        if cursor is None or listing.page.reaches((since - MAX_CLOCK_SKEW).timestamp()):
            return


def walk_listings(context: DeliveryContext, since: datetime) -> Iterator[Page]:
    """Yield pages that show the batches of all API keys back to the time ``since``, as :func:`walk_listing` does.

    The listing of a key may show only the batches that were sent with it. So the listing of each key is read, until one
    shows a batch that another one has shown: then each shows all of them.
    """
    if not context.pool:
        yield from walk_listing(context, since)
        return
    shown: set[str] = set()
    for key in context.pool:
        ids: set[str] = set()
        try:
            for page in walk_listing(context.with_key(key), since):
                ids |= {status.remote_id for status in page.statuses}
                if not ids.isdisjoint(shown):
                    return
                yield page
        except ListingUnreadable as error:
            raise ListingUnreadable(
                f"with the API key {key[:FINGERPRINT_HEAD]}: {describe_error(error)}"
            ) from error
        shown |= ids


def find_unknown(context: DeliveryContext, listed: Sequence[Status], since: datetime) -> UnknownBatches:
    """Return the listed batches of a workspace that were made after ``since`` and that no database has.

    Read the listing before: a batch that is accepted meanwhile is then found in the database.
    """
    earliest = since.timestamp()
    candidates = [status for status in listed if (status.created_at or 0) / 1000 >= earliest]
    # In this order: a batch whose answer is settled between the two is in both, and otherwise it would be in neither.
    unclear = _count_unclear(context, since)
    owned = _owned_ids(context, [status.remote_id for status in candidates])
    unexplained, explained = [], []
    for status in candidates:
        if status.remote_id in owned:
            continue
        size = status.accepted + status.rejected
        kinds = [kind for kind in unclear if kind[1] == size and status.type in ("", kind[0])]
        if kinds and unclear[kinds[0]] > 0:
            unclear[kinds[0]] -= 1
            explained.append(status)
        else:
            unexplained.append(status)
    return UnknownBatches(tuple(unexplained), tuple(explained))


def _agrees_with_newest_page(context: DeliveryContext, row: OutboxWorkspace) -> bool:
    """Return False if the newest page shows batches that this database cannot have made, and hold the workspace."""
    listing = _read(context, None, permit_attempts=1)
    if listing.page is None:
        if listing.error is None:
            return False  # no permit: the next run tries again
        why = headline(getattr(listing.error, "message", ""))
        logger.warning(
            "workspace %s: it is not known whether this database was restored, because the listing cannot be read: %s",
            context.queue_key,
            why,
            extra=context.log_ids(),
        )
        return not isinstance(listing.error, Throttled)
    since = _oldest_explainable(context, row)
    unknown = find_unknown(context, listing.page.statuses, since).unexplained if since else ()
    if not unknown:
        return True
    newest = max(status.created_at or 0 for status in unknown) / 1000
    at = context.clock.now() + timedelta(seconds=newest - context.clock.now().timestamp())
    hold_restored(
        context,
        f"The listing shows {len(unknown)} batches that no database has; the newest was made at "
        f"{at.isoformat(timespec='seconds')}.",
    )
    return False


def _oldest_explainable(context: DeliveryContext, row: OutboxWorkspace) -> datetime | None:
    """Return the time from which every batch of ours must be in a database; None if there is no batch at all.

    Older ones may have been purged, may be from before this outbox, or were accepted by a person at the last release.
    """
    now = context.clock.now()
    sealed = [
        oldest
        for using in context.settings.databases
        if (oldest := OutboxBatch.objects.using(using).aggregate(at=Min("sealed_at"))["at"])
    ]
    if not sealed:
        return None
    kept = now - timedelta(days=context.settings.retention_days.delivered) + 2 * MAX_CLOCK_SKEW
    released = [row.released_at + MAX_CLOCK_SKEW] if row.released_at else []
    oldest_sealed: datetime = min(sealed)
    return max([oldest_sealed, kept, *released])


def _owned_ids(context: DeliveryContext, ids: Sequence[str]) -> set[str]:
    chunks = [ids[start : start + 500] for start in range(0, len(ids), 500)]
    return {
        remote_id
        for using in context.settings.databases
        for chunk in chunks
        for remote_id in OutboxBatch.objects.using(using)
        .filter(remote_id__in=chunk)
        .values_list("remote_id", flat=True)
    }


def _count_unclear(context: DeliveryContext, since: datetime) -> Counter[tuple[str, int]]:
    """Count by type and number of records what may have reached Evermuse without a clear answer since then."""
    unclear: Counter[tuple[str, int]] = Counter()
    earliest = since - timedelta(seconds=context.settings.lease) - MAX_CLOCK_SKEW
    for using in context.settings.databases:
        # In this order: a batch that is settled between the two queries is then in the second one.
        sending = OutboxBatch.objects.using(using).filter(state=BatchState.SENDING)
        unclear += Counter(sending.values_list("type", "record_count"))
        attempts = OutboxAttempt.objects.using(using).filter(
            call="ingest", outcome__in=("in_doubt", "lost"), started_at__gte=earliest, batch__isnull=False
        )
        unclear += Counter(attempts.values_list("batch__type", "batch__record_count"))
    return unclear


def _read(context: DeliveryContext, cursor: str | None, permit_attempts: int = PERMIT_ATTEMPTS) -> Listing:
    """Read one page; try again after an error that may be gone soon. Page and error are None without a permit."""
    listing = Listing(None, None)
    for attempt in range(READ_ATTEMPTS):
        if attempt:
            release_connections()
            context.clock.sleep(READ_PAUSE)
        permit = None
        for _ in range(permit_attempts):
            permit = acquire_permit(context)
            if permit:
                break
        if permit is None:
            return Listing(None, None)
        listing = get_listing(context, permit, cursor)
        if listing.page or isinstance(listing.error, KeyRefused | Throttled):
            break
    return listing


def _rows(context: DeliveryContext) -> WorkspaceQuerySet:
    return OutboxWorkspace.objects.using(context.using)

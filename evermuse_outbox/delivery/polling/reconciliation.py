"""Reconciliation: find out whether Evermuse has a batch in doubt before the batch is sent again.

The guarantee "effectively once" needs it, because an idempotency key protects a resend only while Evermuse remembers
the key. Evermuse does not publish for how long, so after ``IDEMPOTENCY_KEY_TTL`` the listing is read first.

A listed batch matches if it was created during an unclear attempt of ours and has the same type and number of records.
Its id must belong to no batch that we know. It is ours if it is the only match and no other batch of ours can own it.

Otherwise the batch is sent again with the same key and bytes. A second copy harms no record, because newer versions
wait until it is settled. A batch that is wrongly taken for accepted would be lost.

If the listing cannot be read, the batch stays in doubt. It is sent again in three cases: the API key may not read at
all (403), the listing could not be read for hours, or a person decides it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import Q, QuerySet

from ...evermuse.api import Accepted, KeyRefused, Outcome, Page, Status
from ...models import BatchState, OutboxAttempt, OutboxBatch
from ..context import DeliveryContext
from ..gates import acquire_permit, has_other_key
from .reads import Listing, get_listing

MAX_CLOCK_SKEW = timedelta(minutes=2)
"""How far the clock of Evermuse may differ from ours if a batch is to be recognised by its time of creation."""

MAX_PAGES = 20
"""Maximum number of listing pages that are read for one batch. They show 2,000 batches, which take 200 seconds to send
at the rate limit."""

MAX_FAILED_LISTINGS = 5
"""Failed reads of the listing after which a batch is sent again without it, if they took ``LISTING_PATIENCE``."""

LISTING_PATIENCE = timedelta(hours=6)
"""For how long the listing must have failed. A shorter outage of the listing is waited for, as a second copy costs more
than a wait."""


class ReconciliationDelayed(Exception):
    """No permit was free in time, or the lease was lost. Nothing is known, and the batch keeps waiting."""


def needs_reconciliation(context: DeliveryContext, batch: OutboxBatch) -> bool:
    """Return whether Evermuse may not recognise the idempotency key of a batch in doubt.

    Either it may have forgotten the key by now, or the batch is to be sent with another API key than before.
    """
    if not batch.in_doubt:
        return False
    first = _unclear_starts(context, batch).first()
    if first is None:
        return False
    age_limit = timedelta(seconds=context.settings.idempotency_key_ttl)
    is_needed = context.clock.now() - first > age_limit or has_other_key(context, batch)
    return is_needed and not _is_listing_given_up(context, batch)


def reconcile(context: DeliveryContext, batch: OutboxBatch) -> Outcome | None:
    """Look for a leased batch in the listing.

    Return :class:`Accepted` if Evermuse has the batch, None if the batch must be sent again, or the error if the
    listing could not be read. Raise :class:`ReconciliationDelayed` if no permit was free or the lease was lost.
    """
    starts = list(_unclear_starts(context, batch))
    matches: list[Status] = []
    cursor = None
    for _ in range(MAX_PAGES):
        listing = _read_page(context, batch, cursor)
        if listing.page is None:
            # With a key that may not read (403), sending again is the only way.
            is_write_only = isinstance(listing.error, KeyRefused) and listing.error.status == 403
            return None if is_write_only else listing.error
        matches += _unowned_matches(context, batch, starts, listing.page)
        cursor = listing.page.next_cursor
        if cursor is None or listing.page.reaches((starts[0] - MAX_CLOCK_SKEW).timestamp()):
            return _accept_only_match(context, batch, matches)
    return None


def _read_page(context: DeliveryContext, batch: OutboxBatch, cursor: str | None) -> Listing:
    """Read one page under a renewed lease, because the waits for permits may take longer than one lease."""
    until = context.clock.after(context.settings.lease)
    if not OutboxBatch.objects.using(context.using).renew_lease(batch, until):
        raise ReconciliationDelayed
    batch.leased_until = until
    permit = acquire_permit(context)
    if permit is None:
        raise ReconciliationDelayed
    return get_listing(context, permit, cursor)


def _unowned_matches(
    context: DeliveryContext, batch: OutboxBatch, starts: list[datetime], page: Page
) -> list[Status]:
    """Return the listed batches that match and that no batch of ours has as its ``remote_id``."""
    matches = [status for status in page.statuses if _is_match(context, batch, starts, status)]
    ids = [status.remote_id for status in matches]
    owned = {
        remote_id
        for using in context.settings.databases
        for remote_id in OutboxBatch.objects.using(using)
        .filter(remote_id__in=ids)
        .values_list("remote_id", flat=True)
    }
    return [status for status in matches if status.remote_id not in owned]


def _is_match(context: DeliveryContext, batch: OutboxBatch, starts: list[datetime], status: Status) -> bool:
    if status.type not in ("", batch.type) or status.accepted + status.rejected != batch.record_count:
        return False
    if status.created_at is None:
        return False
    earliest = -MAX_CLOCK_SKEW.total_seconds()
    latest = (_longest_attempt(context) + MAX_CLOCK_SKEW).total_seconds()
    created_at = status.created_at / 1000
    return any(earliest <= created_at - start.timestamp() <= latest for start in starts)


def _accept_only_match(
    context: DeliveryContext, batch: OutboxBatch, matches: list[Status]
) -> Accepted | None:
    """Return the only match as accepted; None if there are several or another batch of ours can own it."""
    if len(matches) != 1 or _has_other_owner(context, batch, matches[0]):
        return None
    (status,) = matches
    return Accepted(status.remote_id, status.accepted, status.rejected, status.total_errors, status.errors)


def _has_other_owner(context: DeliveryContext, batch: OutboxBatch, status: Status) -> bool:
    """Return whether another batch of ours could own the listed one.

    Such a batch has the same type and number of records. It is being sent now, has this id, or had an unclear attempt
    at that time. Its present state does not matter: a resend after its key was forgotten leaves a copy
    at Evermuse without an owner. If batches of that time may have been purged, the answer is also True.
    """
    now = context.clock.now()  # aware or naive, as USE_TZ has it
    created_at = now + timedelta(seconds=(status.created_at or 0) / 1000 - now.timestamp())
    first_start, last_start = (
        created_at - _longest_attempt(context) - MAX_CLOCK_SKEW,
        created_at + MAX_CLOCK_SKEW,
    )
    if first_start <= now - timedelta(days=context.settings.retention_days.delivered):
        return True
    same_size = {"type": batch.type, "record_count": batch.record_count}
    is_current = Q(state=BatchState.SENDING) | Q(remote_id=status.remote_id)
    # In this order: a batch that leaves the first condition between the two queries has logged its unclear attempt.
    return any(
        OutboxBatch.objects.using(using).filter(is_current, **same_size).exclude(key=batch.key).exists()
        or _unclear_attempts(using)
        .filter(started_at__range=(first_start, last_start))
        .filter(**{f"batch__{column}": value for column, value in same_size.items()})
        .exclude(batch__key=batch.key)
        .exists()
        for using in context.settings.databases
    )


def _is_listing_given_up(context: DeliveryContext, batch: OutboxBatch) -> bool:
    """Return whether the batch is sent again without the listing: it failed for hours, or a person has decided it.

    Only what happened since the last attempt to send counts.
    """
    attempts = OutboxAttempt.objects.using(context.using).filter(batch=batch)
    last_send = attempts.filter(call="ingest").order_by("-pk").values_list("pk", flat=True).first()
    reads = attempts.filter(call="listing", pk__gt=last_send or 0).exclude(outcome="accepted").order_by("pk")
    outcomes = list(reads.values_list("outcome", "started_at"))
    if any(outcome == "skipped" for outcome, _ in outcomes):
        return True
    is_often = len(outcomes) >= MAX_FAILED_LISTINGS
    return is_often and context.clock.now() - outcomes[0][1] > LISTING_PATIENCE


def _longest_attempt(context: DeliveryContext) -> timedelta:
    """Return how long after its start an attempt may still reach Evermuse: until its lease ends."""
    return timedelta(seconds=context.settings.lease)


def _unclear_starts(context: DeliveryContext, batch: OutboxBatch) -> QuerySet[OutboxAttempt, datetime]:
    """Return the start times of the batch's unclear attempts, the first one first."""
    attempts = _unclear_attempts(context.using).filter(batch=batch)
    return attempts.order_by("started_at").values_list("started_at", flat=True)


def _unclear_attempts(using: str) -> QuerySet[OutboxAttempt]:
    return OutboxAttempt.objects.using(using).filter(call="ingest", outcome__in=("in_doubt", "lost"))

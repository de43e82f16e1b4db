"""Before a batch that has long been in doubt is sent again: whether Evermuse has it already.

An Idempotency-Key brings the first answer back only as long as Evermuse remembers it, and how long that is, is not
published. Past ``IDEMPOTENCY_KEY_TTL`` the listing is read first, back to the first attempt that was not answered clearly. A
batch there is ours when it was made during such an attempt, has our type and number of records, and is no other
batch's that we know. Where that is true of exactly one, and no other batch of ours can have made it, it is taken for
accepted. Otherwise the batch is sent again, with the same key and bytes: to be taken twice harms no record, as long
as newer versions wait; to be taken for accepted without being there would lose them.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from django.db.models import Q, QuerySet

from ...evermuse.api import Accepted, KeyRefused, Outcome, Page, Status
from ...models import BatchState, OutboxAttempt, OutboxBatch
from ..context import DeliveryContext
from .reads import read_listing

SKEW = timedelta(minutes=2)
"""How far the clock of Evermuse may be from ours for a batch to be recognised."""

PAGES = 20
"""Pages of the listing that are read at most for one batch."""


class ReconciliationDelayed(Exception):
    """No slot was soon, or the lease was lost: nothing is known, and the batch waits on."""


def needs_reconciliation(context: DeliveryContext, batch: OutboxBatch) -> bool:
    """Whether Evermuse may have forgotten the key of a batch that is in doubt."""
    if not batch.in_doubt:
        return False
    first = _doubts(context, batch).values_list("started_at", flat=True).first()
    return first is not None and context.clock.now() - first > timedelta(
        seconds=context.settings.idempotency_key_ttl
    )


def reconcile(context: DeliveryContext, batch: OutboxBatch) -> Outcome | None:
    """:class:`Accepted` where Evermuse has the batch, the trouble where the listing could not be read, and None where
    it is to be sent again. Raises :class:`ReconciliationDelayed`."""
    attempts = list(_doubts(context, batch).values_list("started_at", flat=True))
    found: list[Status] = []
    cursor = None
    for _ in range(PAGES):
        page, trouble = _page(context, batch, cursor)
        if page is None:
            # A key that may not read cannot look: then sending again is all there is.
            return None if isinstance(trouble, KeyRefused) and trouble.status == 403 else trouble
        found += _candidates(context, batch, attempts, page)
        cursor = page.next_cursor
        if cursor is None or page.reaches((attempts[0] - SKEW).timestamp()):
            return _only(context, batch, found)
    return None


def _doubts(context: DeliveryContext, batch: OutboxBatch) -> QuerySet[OutboxAttempt]:
    return _unclear(context.using).filter(batch=batch).order_by("started_at")


def _page(
    context: DeliveryContext, batch: OutboxBatch, cursor: str | None
) -> tuple[Page | None, Outcome | None]:
    until = context.clock.after(context.settings.lease)
    if not OutboxBatch.objects.using(context.using).renew_lease(batch, until):
        raise ReconciliationDelayed
    batch.leased_until = until
    listing = read_listing(context, cursor)
    if listing is None:
        raise ReconciliationDelayed
    return listing.page, listing.trouble


def _candidates(
    context: DeliveryContext, batch: OutboxBatch, attempts: list[datetime], page: Page
) -> Iterator[Status]:
    """Those on the page that may be ours and are no batch that we know."""
    alike = [status for status in page.statuses if _may_be(context, batch, attempts, status)]
    ids = [status.remote_id for status in alike]
    known = {
        remote_id
        for using in context.settings.databases
        for remote_id in OutboxBatch.objects.using(using)
        .filter(remote_id__in=ids)
        .values_list("remote_id", flat=True)
    }
    return (status for status in alike if status.remote_id not in known)


def _may_be(context: DeliveryContext, batch: OutboxBatch, attempts: list[datetime], status: Status) -> bool:
    if status.type not in ("", batch.type) or status.accepted + status.rejected != batch.record_count:
        return False
    if status.created_at is None:
        return False
    begins, ends = (-SKEW).total_seconds(), (_longest(context) + SKEW).total_seconds()
    made = status.created_at / 1000
    return any(begins <= made - attempt.timestamp() <= ends for attempt in attempts)


def _only(context: DeliveryContext, batch: OutboxBatch, found: list[Status]) -> Accepted | None:
    """The one that was found, where no other batch of ours can have made it."""
    if len(found) != 1 or _others(context, batch, found[0]):
        return None
    (status,) = found
    return Accepted(status.remote_id, status.accepted, status.rejected, status.total_errors, status.errors)


def _others(context: DeliveryContext, batch: OutboxBatch, status: Status) -> bool:
    """Whether another batch that looks alike may have made it: one that is under way, has just been told its id, or
    had an unclear attempt then. The end of that one does not matter: sent again after its key was forgotten, it has
    left a batch behind that nobody knows. Nor can those be told of that were purged since."""
    now = context.clock.now()  # with a time zone or without, as the project has it
    made = now + timedelta(seconds=(status.created_at or 0) / 1000 - now.timestamp())
    earliest, latest = made - _longest(context) - SKEW, made + SKEW
    if earliest <= now - timedelta(days=context.settings.retention_days):
        return True
    alike = {"type": batch.type, "record_count": batch.record_count}
    told_now = Q(state=BatchState.SENDING) | Q(remote_id=status.remote_id)
    unclear_then = {f"batch__{name}": value for name, value in alike.items()}
    # In this order: whoever is neither under way nor told by now has left its unclear attempt.
    return any(
        OutboxBatch.objects.using(using).filter(told_now, **alike).exclude(key=batch.key).exists()
        or _unclear(using)
        .filter(started_at__range=(earliest, latest), **unclear_then)
        .exclude(batch__key=batch.key)
        .exists()
        for using in context.settings.databases
    )


def _longest(context: DeliveryContext) -> timedelta:
    """How long after an attempt began Evermuse may still have taken it: as long as the lease lasts."""
    return timedelta(seconds=context.settings.lease)


def _unclear(using: str) -> QuerySet[OutboxAttempt]:
    return OutboxAttempt.objects.using(using).filter(call="ingest", outcome__in=("in_doubt", "lost"))

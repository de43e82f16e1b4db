"""Lease a sealed batch before it is sent, and give it back if it cannot be sent now."""

from __future__ import annotations

from collections.abc import Iterable

from ...foreign_text import get_logger
from ...models import OutboxBatch, PayloadsUnreadable
from ..context import DeliveryContext
from ..gates import has_other_key, sendable_now
from ..sealing import BodyChanged, SealedBatch, open_sealed
from ..settling import split_changed_batch

logger = get_logger(__name__)

LEASE_CANDIDATES = 20
"""Due batches that are read at once. Other senders may lease some of them first."""

PROBE_CANDIDATES = 100
"""Due batches from which a probe is chosen. Only one sender probes, so the number matters little."""


def lease_due(context: DeliveryContext) -> SealedBatch | None:
    """Lease the sealed batch that has waited longest and return it; return None if no batch is due."""
    rows = OutboxBatch.objects.using(context.using)
    due = sendable_now(context, rows.due(context.workspace_name, context.clock.now()))
    return lease_first(context, context.run_with_retries(list, due[:LEASE_CANDIDATES]))


def read_probe_candidates(context: DeliveryContext) -> list[OutboxBatch]:
    """Return the due batches in the order in which a probe tries them: those first that have failed least."""
    rows = OutboxBatch.objects.using(context.using)
    due = sendable_now(context, rows.due(context.workspace_name, context.clock.now()))
    due = due.order_by("failures", "due_at", "pk")
    return context.run_with_retries(list, due[:PROBE_CANDIDATES])


def waiting_groups(context: DeliveryContext) -> frozenset[tuple[str, str]]:
    """Return the groups with a batch that waits to be sent, now or later."""
    rows = OutboxBatch.objects.using(context.using).sendable(context.workspace_name).not_held().order_by()
    groups = rows.values_list("type", "product_id").distinct()
    return frozenset(context.run_with_retries(list, groups))


def lease_first(context: DeliveryContext, batches: Iterable[OutboxBatch]) -> SealedBatch | None:
    """Lease the first of ``batches`` that no other sender has leased, and return it; None if there is none."""
    rows = OutboxBatch.objects.using(context.using)
    for batch in batches:
        until = context.clock.after(context.settings.lease)
        # A batch in doubt keeps its key until it was looked for in the listing.
        key = {} if batch.in_doubt else {"api_key": context.key_fingerprint}
        if context.run_with_retries(rows.lease, batch, until, **key):
            batch.api_key = key.get("api_key", batch.api_key)
            try:
                return context.run_with_retries(open_sealed, context, batch)
            except PayloadsUnreadable:
                context.run_with_retries(rows.give_back, batch)
                raise
            except BodyChanged as error:
                logger.warning(
                    "%s; its records are sealed again", error, extra=context.log_ids(batch=batch.pk)
                )
                context.run_with_retries(split_changed_batch, context, batch)
    return None


def give_back(context: DeliveryContext, sealed: SealedBatch) -> None:
    """End the lease of a batch that was not sent. The batch is as it was before the lease."""
    context.run_with_retries(OutboxBatch.objects.using(context.using).give_back, sealed.batch)


def bind_key(context: DeliveryContext, sealed: SealedBatch) -> bool:
    """Bind a leased batch in doubt to the key of ``context``. Return False if the lease was lost."""
    if not has_other_key(context, sealed.batch):
        return True
    rows, until = OutboxBatch.objects.using(context.using), context.clock.after(context.settings.lease)
    key = context.key_fingerprint
    if not context.run_with_retries(rows.renew_lease, sealed.batch, until, api_key=key):
        return False
    sealed.batch.api_key, sealed.batch.leased_until = key, until
    return True


def has_time_to_send(context: DeliveryContext, sealed: SealedBatch) -> bool:
    """Return whether an answer within ``TIMEOUT`` arrives before the lease ends.

    The process may have been suspended since the lease.
    """
    until = sealed.batch.leased_until
    return until is not None and context.clock.after(context.settings.timeout) < until

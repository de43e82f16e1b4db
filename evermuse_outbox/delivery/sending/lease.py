"""Lease a sealed batch before it is sent, and give it back if it cannot be sent now."""

from __future__ import annotations

from ...foreign_text import get_logger
from ...models import OutboxBatch
from ..context import DeliveryContext
from ..sealing import BodyChanged, SealedBatch, open_sealed
from ..settling import split_changed_batch

logger = get_logger(__name__)

LEASE_CANDIDATES = 20
"""Due batches that are read at once. Other senders may lease some of them first."""


def lease_due(context: DeliveryContext) -> SealedBatch | None:
    """Lease the sealed batch that has waited longest and return it; return None if no batch is due."""
    rows = OutboxBatch.objects.using(context.using)
    due = rows.due(context.workspace_name, context.clock.now())[:LEASE_CANDIDATES]
    for batch in context.run_with_retries(list, due):
        if context.run_with_retries(rows.lease, batch, context.clock.after(context.settings.lease)):
            try:
                return context.run_with_retries(open_sealed, context, batch)
            except BodyChanged as error:
                logger.warning("%s; its records are sealed again", error)
                context.run_with_retries(split_changed_batch, context, batch)
    return None


def give_back(context: DeliveryContext, sealed: SealedBatch) -> None:
    """End the lease of a batch that was not sent. The batch is as it was before the lease."""
    context.run_with_retries(OutboxBatch.objects.using(context.using).give_back, sealed.batch)


def has_time_to_send(context: DeliveryContext, sealed: SealedBatch) -> bool:
    """Return whether an answer within ``TIMEOUT`` arrives before the lease ends.

    The process may have been suspended since the lease.
    """
    until = sealed.batch.leased_until
    return until is not None and context.clock.after(context.settings.timeout) < until

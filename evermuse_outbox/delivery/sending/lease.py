"""Lease a sealed batch before it is sent, and give it back if it cannot be sent now."""

from __future__ import annotations

from collections.abc import Iterable

from ...foreign_text import get_logger
from ...models import OutboxBatch, PayloadsUnreadable
from ..context import DeliveryContext
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
    due = rows.due(context.workspace_name, context.clock.now())[:LEASE_CANDIDATES]
    return lease_first(context, context.run_with_retries(list, due))


def read_probe_candidates(context: DeliveryContext) -> list[OutboxBatch]:
    """Return the due batches in the order in which a probe tries them: those first that have failed least."""
    rows = OutboxBatch.objects.using(context.using)
    due = rows.due(context.workspace_name, context.clock.now()).order_by("failures", "due_at", "pk")
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
        if context.run_with_retries(rows.lease, batch, context.clock.after(context.settings.lease)):
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


def has_time_to_send(context: DeliveryContext, sealed: SealedBatch) -> bool:
    """Return whether an answer within ``TIMEOUT`` arrives before the lease ends.

    The process may have been suspended since the lease.
    """
    until = sealed.batch.leased_until
    return until is not None and context.clock.after(context.settings.timeout) < until

"""Rescue batches with an expired lease: their worker may have sent them, so they are in doubt.

A worker that dies cannot end its lease. Without the rescue, its batch would never be sent again.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction

from ..conf import get_settings
from ..delivery.context import Clock
from ..foreign_text import get_logger, log_ids
from ..models import OutboxAttempt, OutboxBatch

logger = get_logger(__name__)

MESSAGE = "the lease expired before its worker reported a result"

MARGIN = timedelta(seconds=60)
"""How much longer than ``LEASE`` a lease may be. A longer one is from before the clock was set back."""


def rescue_batches(using: str, clock: Clock, limit: int = 100) -> int:
    """Mark up to ``limit`` batches with an expired lease as in doubt; return how many."""
    rows = OutboxBatch.objects.using(using)
    now, lease = clock.now(), timedelta(seconds=get_settings().lease)
    count = 0
    for batch in rows.lease_expired(now, now + lease + MARGIN).order_by("leased_until")[:limit]:
        with transaction.atomic(using=using):
            leased_at = min((batch.leased_until or now) - lease, now)
            if rows.mark_in_doubt(batch, due_at=now, message=MESSAGE):
                _save_lost_attempt(using, batch, leased_at)
                count += 1
    if count:
        logger.warning(
            "%d batches were rescued: their leases expired before the workers reported a result",
            count,
            extra=log_ids(database=using, outcome="in_doubt"),
        )
    return count


def _save_lost_attempt(using: str, batch: OutboxBatch, leased_at: datetime) -> None:
    """Log the attempt of the lost worker. It is only known that it began when the batch was leased, or later."""
    OutboxAttempt(
        batch_id=batch.pk,
        workspace=batch.workspace,
        api_key=batch.api_key,
        call="ingest",
        started_at=leased_at,
        outcome="lost",
        detail=MESSAGE,
    ).save(using=using, force_insert=True)

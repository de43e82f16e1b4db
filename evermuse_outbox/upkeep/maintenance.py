"""Rescue of batches whose worker never came back, and everything else that is done now and then. Bounded and boring."""

from __future__ import annotations

import logging
from collections import defaultdict
from datetime import datetime, timedelta

from django.db import transaction

from ..conf import get_settings
from ..delivery.context import Clock, isolate_database_errors, retry_on_database_error
from ..delivery.gates import CLEARED_FOR
from ..models import (
    GroupState,
    OutboxAttempt,
    OutboxBatch,
    OutboxGroup,
    OutboxRecord,
)
from .postgresql import analyze_unknown
from .purge import Walks, purge_on

logger = logging.getLogger(__name__)

_walks: defaultdict[str, Walks] = defaultdict(Walks)
"""How far this process has come with purging, by database alias."""


def maintain_all(clock: Clock) -> None:
    """Rescue, purge and the like on every database that workers look into."""
    settings = get_settings()
    for using in settings.databases:
        with isolate_database_errors(using):
            retry_on_database_error(using, clock, rescue, using, clock)
            retry_on_database_error(
                using, clock, purge_on, using, clock, settings.retention_days, _walks[using]
            )
            retry_on_database_error(using, clock, forget_groups, using, clock)
            retry_on_database_error(using, clock, analyze_unknown, using)


def rescue(using: str, clock: Clock, limit: int = 100) -> int:
    """Batches whose lease ran out → in doubt: the worker may have sent them. Returns how many."""
    rows = OutboxBatch.objects.using(using)
    now, lease = clock.now(), timedelta(seconds=get_settings().lease)
    count = 0
    for batch in rows.lease_expired(now).order_by("leased_until")[:limit]:
        with transaction.atomic(using=using):
            message = "the worker that held the lease did not come back"
            leased_at = (batch.leased_until or now) - lease
            if rows.mark_in_doubt(batch, due_at=now, message=message):
                _lost(using, batch, leased_at, message)
                count += 1
    if count:
        logger.warning("%d batches rescued from workers that did not come back", count)
    return count


def _lost(using: str, batch: OutboxBatch, leased_at: datetime, message: str) -> None:
    """The attempt of which nobody tells; it began when the batch was leased, or later."""
    OutboxAttempt(
        batch=batch,
        workspace=batch.workspace,
        call="ingest",
        started_at=leased_at,
        outcome="lost",
        detail=message,
    ).save(using=using, force_insert=True)


def forget_groups(using: str, clock: Clock) -> int:
    """Groups in trouble that are none any more: nothing waits in them, or their last trouble is long past."""
    rows = OutboxGroup.objects.using(using)
    past = rows.exclude(state=GroupState.PAUSED).filter(since__lt=clock.now() - CLEARED_FOR)
    empty = [row.pk for row in rows.filter(state=GroupState.PAUSED) if not _waits(using, row)]
    return past.resume() + rows.filter(pk__in=empty).resume()


def _waits(using: str, row: OutboxGroup) -> bool:
    pending = OutboxRecord.rows.using(using).pending()
    return pending.group(row.workspace, row.type, row.product_id).exists()

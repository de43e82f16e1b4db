"""Rescue of batches whose worker never came back, and purge of what is long over. Bounded and boring."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from django.db import models, transaction
from django.db.models import Exists, OuterRef, Q

from ..conf import get_settings
from ..models import (
    BatchState,
    GroupState,
    OutboxAttempt,
    OutboxBatch,
    OutboxGroup,
    OutboxRecord,
    OutboxRejection,
    RecordState,
)
from ..models.record import RecordQuerySet
from .channel import Clock, one_of_many
from .persist import persist
from .systemic import CLEARED_FOR

logger = logging.getLogger(__name__)

OVER = (BatchState.COMPLETE, BatchState.REFUSED, BatchState.SPLIT, BatchState.FAILED, BatchState.WITHDRAWN)
SET_ASIDE = (RecordState.SUPERSEDED, RecordState.DISCARDED)
CHUNK = 1_000


def maintain_all(clock: Clock) -> None:
    """Rescue and purge on every database that workers look into."""
    settings = get_settings()
    for using in settings.databases:
        with one_of_many(using):
            persist(using, clock, rescue, using, clock)
            persist(using, clock, purge, using, clock, settings.retention_days)
            persist(using, clock, forget_groups, using, clock)


def rescue(using: str, clock: Clock, limit: int = 100) -> int:
    """Batches whose lease ran out → in doubt: the worker may have sent them. Returns how many."""
    rows = OutboxBatch.objects.using(using)
    now, lease = clock.now(), timedelta(seconds=get_settings().lease)
    count = 0
    for batch in rows.expired(now).order_by("leased_until")[:limit]:
        with transaction.atomic(using=using):
            message = "the worker that held the lease did not come back"
            leased_at = (batch.leased_until or now) - lease
            if rows.settle(batch, BatchState.IN_DOUBT, in_doubt=True, due_at=now, message=message):
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


def purge(using: str, clock: Clock, retention_days: float, chunks: int = 20) -> int:
    """Deletes what was over before the retention, in small transactions; returns how many records.

    Delivered, superseded and discarded records go, and batches that no record is left in. Rejected
    records stay until a person has retried or discarded them.
    """
    before = clock.now() - timedelta(days=retention_days)
    count = 0
    for batch_ids in _chunks_of_batches(using, before, chunks):
        count += _purge_batches(using, batch_ids)
    for _ in range(chunks):
        deleted = _purge_set_aside(using, before)
        count += deleted
        if deleted < CHUNK:
            break
    _purge_attempts(using, before, chunks)
    return count


def forget_groups(using: str, clock: Clock) -> int:
    """Groups in trouble that are none any more: nothing waits in them, or their last trouble is long past."""
    rows = OutboxGroup.objects.using(using)
    past = rows.exclude(state=GroupState.PAUSED).filter(since__lt=clock.now() - CLEARED_FOR)
    empty = [row.pk for row in rows.filter(state=GroupState.PAUSED) if not _waits(using, row)]
    return past.resume() + rows.filter(pk__in=empty).resume()


def _waits(using: str, row: OutboxGroup) -> bool:
    pending = OutboxRecord.rows.using(using).pending()
    return pending.group(row.workspace, row.type, row.product_id).exists()


def _chunks_of_batches(using: str, before: datetime, chunks: int) -> list[list[int]]:
    over = OutboxBatch.objects.using(using).filter(
        state__in=OVER, finished_at__lt=before, next_poll_at__isnull=True
    )
    inside = OutboxRecord.rows.filter(batch=OuterRef("pk"))
    purgeable = over.filter(Exists(_purgeable(inside)) | ~Exists(inside))
    ids = list(purgeable.order_by("pk").values_list("pk", flat=True)[: chunks * 10])
    return [ids[start : start + 10] for start in range(0, len(ids), 10)]


def _purge_batches(using: str, batch_ids: list[int]) -> int:
    with transaction.atomic(using=using):
        over = OutboxRecord.rows.using(using).filter(batch_id__in=batch_ids)
        count = _delete_records(using, list(_purgeable(over).values_list("pk", flat=True)))
        kept = set(over.values_list("batch_id", flat=True))
        empty = [pk for pk in batch_ids if pk not in kept]
        _raw_delete(OutboxAttempt.objects.using(using).filter(batch_id__in=empty))
        OutboxRejection.objects.using(using).filter(batch_id__in=empty).update(batch=None)
        OutboxBatch.objects.using(using).filter(parent_id__in=empty).update(parent=None)
        _raw_delete(OutboxBatch.objects.using(using).filter(pk__in=empty))
    return count


def _purgeable(over: RecordQuerySet) -> RecordQuerySet:
    """Of records in batches that are over: all but the rejected and the needed."""
    not_rejected = Q(closed_as__isnull=True) | Q(closed_as__in=SET_ASIDE)
    return over.filter(not_rejected, ~_needed())


def _needed() -> Exists:
    """Whether a newer version alone tells that an older one, which still waits for its turn or for a person,
    must not be sent."""
    older = OutboxRecord.rows.filter(identity=OuterRef("identity"), pk__lt=OuterRef("pk"))
    unsent = Q(closed_as=RecordState.REJECTED) | Q(closed_as__isnull=True, batch__isnull=True)
    return Exists(older.filter(unsent))


def _purge_set_aside(using: str, before: datetime) -> int:
    set_aside = OutboxRecord.rows.using(using).filter(closed_as__in=SET_ASIDE, enqueued_at__lt=before)
    with transaction.atomic(using=using):
        return _delete_records(using, list(set_aside.filter(~_needed()).values_list("pk", flat=True)[:CHUNK]))


def _purge_attempts(using: str, before: datetime, chunks: int) -> None:
    """Listing calls belong to no batch and go by age."""
    loose = OutboxAttempt.objects.using(using).filter(batch__isnull=True, started_at__lt=before)
    for _ in range(chunks):
        ids = list(loose.values_list("pk", flat=True)[:CHUNK])
        _raw_delete(OutboxAttempt.objects.using(using).filter(pk__in=ids))
        if len(ids) < CHUNK:
            return


def _delete_records(using: str, ids: list[int]) -> int:
    _raw_delete(OutboxRejection.objects.using(using).filter(record_id__in=ids))
    _raw_delete(OutboxRecord.rows.using(using).filter(pk__in=ids))
    return len(ids)


def _raw_delete(rows: models.QuerySet) -> None:
    """Without the collector: what points here is seen to above, and nothing of ours listens to signals."""
    rows._raw_delete(rows.db)

"""Drop payloads: replace the lines of delivered records by their hashes, before the records themselves are purged.

The oldest batches come first, in small transactions. A batch notes when it was done, so it leaves the index of those
that still have payloads, and no run reads it again.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from django.db import connections, transaction
from django.db.models import QuerySet

from ..conf import Settings
from ..delivery.context import Clock
from ..models import OutboxBatch, OutboxRecord, by_id, disable_jit
from .purge_progress import PurgeProgress

RUN_SECONDS = 0.4
"""Duration of a run; there is one each second, beside the purge. An UPDATE of 1,000 payloads of 1 kB takes about 30 ms
on PostgreSQL, so it keeps up with 10,000 records a second."""

RECORDS_PER_TRANSACTION = 1_000
"""Records whose payloads one transaction drops: those of one full request, or of many small ones."""

BATCHES_PER_PAGE = 100
"""Batches that one query reads."""


def payload_days(settings: Settings) -> float | None:
    """Return after how many days payloads are dropped; None if they are kept as long as their records."""
    days = settings.payload_retention_days
    return days if days is not None and days < settings.retention_days.delivered else None


def drop_payloads_one_run(using: str, clock: Clock, days: float, progress: PurgeProgress) -> int:
    """Drop payloads for ``RUN_SECONDS`` and return how many.

    Return 0 if another run of this process is active, or during the pause after it.
    """
    started = clock.monotonic()
    if not progress.try_start_run(started):
        return 0
    try:
        return drop_old_payloads(using, clock, days, seconds=RUN_SECONDS)
    finally:
        progress.end_run(started, clock.monotonic())


def drop_old_payloads(using: str, clock: Clock, days: float, seconds: float = 60.0) -> int:
    """Drop the payloads of records that were delivered at least ``days`` ago; return how many.

    After ``seconds``, no further transaction begins, except the first one.
    """
    before = clock.now() - timedelta(days=days)
    deadline = clock.monotonic() + seconds
    count, last = 0, None
    # A page that is read again was locked by another process, which drops its payloads.
    while (page := list(oldest_with_payloads(using, before))) != last:
        dropped, is_time_up = _drop_page(using, clock, page, lambda: clock.monotonic() >= deadline)
        count, last = count + dropped, page
        if is_time_up or len(page) < BATCHES_PER_PAGE:
            break
    return count


def oldest_with_payloads(using: str, before: datetime) -> QuerySet[OutboxBatch, tuple[int, int]]:
    """Return the oldest batches that have payloads, each with its number of records. An index has this order."""
    rows = OutboxBatch.objects.using(using).with_payloads().filter(finished_at__lt=before)
    return rows.order_by("finished_at", "pk").values_list("pk", "record_count")[:BATCHES_PER_PAGE]


def _drop_page(
    using: str, clock: Clock, page: list[tuple[int, int]], is_time_up: Callable[[], bool]
) -> tuple[int, bool]:
    """Drop the payloads of a page of batches. Return how many, and whether the time is up."""
    count, chunk, size = 0, list[int](), 0
    for position, (pk, records) in enumerate(page, start=1):
        chunk.append(pk)
        size += records
        if size >= RECORDS_PER_TRANSACTION or position == len(page):
            count += _drop_chunk(using, clock, chunk)
            chunk, size = [], 0
            if is_time_up():
                return count, True
    return count, False


def _drop_chunk(using: str, clock: Clock, pks: list[int]) -> int:
    """Drop the payloads of these batches in one transaction; skip batches that another process has locked."""
    with transaction.atomic(using=using):
        disable_jit(using)
        rows = OutboxBatch.objects.using(using).with_payloads().filter(by_id(pks))
        if connections[using].features.has_select_for_update_skip_locked:
            rows = rows.select_for_update(skip_locked=True)
        locked = list(rows.values_list("pk", flat=True))
        members = OutboxRecord.rows.using(using).filter(batch_id__in=locked, closed_as__isnull=True)
        count = members.drop_payloads()
        OutboxBatch.objects.using(using).filter(by_id(locked)).update(payloads_dropped_at=clock.now())
    return count

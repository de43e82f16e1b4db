"""Purge: delete rows that ended before the retention, the oldest first, in small transactions.

A run takes a short time; the next run continues where it ended. Rows that must stay are skipped. These are batches with
rejected records, and each newer version that proves that an older, unsent version must not be sent. If many rows were
skipped, they are examined again only an hour later, so that not every run reads them.

No query here lets the planner choose between an index and the complete table, because it may have no statistics yet.
Rows are found by their ids or read in the order of an index. What belongs to a row is found by a subquery with LIMIT,
which planners never turn into a join.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import connections, models, transaction
from django.db.models import Exists, F, OuterRef, Q, Subquery, Value
from django.db.models.functions import Coalesce
from django.db.models.lookups import Exact, In

from ..conf import Retention
from ..delivery.context import Clock
from ..models import (
    DEFERRED,
    BatchState,
    ById,
    OutboxAttempt,
    OutboxBatch,
    OutboxRecord,
    OutboxRejection,
    OutboxRuleMatch,
    RecordState,
    by_id,
    disable_jit,
    is_after,
    is_null_unindexed,
)
from ..runs import keep_purged_counts
from ..search import forget_terms
from .purge_progress import PurgeCursor, PurgeProgress

FINISHED = (  # batches in these states do not change any more
    BatchState.COMPLETE,
    BatchState.REFUSED,
    BatchState.SPLIT,
    BatchState.FAILED,
    BatchState.WITHDRAWN,
)
CLOSED = (RecordState.SUPERSEDED, RecordState.DISCARDED, RecordState.EXPIRED, RecordState.REJECTED)
"""Final states that are stored in the records. Each has an index entry, so its old records are found without batch."""

RECORDS_PER_TRANSACTION = 1_000
"""Records that one transaction deletes: those of one full request, or of many small ones."""

BATCHES_PER_PAGE = 100
"""Batches that one query reads."""

RUN_SECONDS = 0.6
"""Duration of a run; there is one each second. It purges 10,000 records per second if 1,000 take less than 60 ms.
``benchmarks/growth.py`` measures 23 ms alone and 50 ms beside a busy relay."""


@dataclass(frozen=True, slots=True)
class Cutoffs:
    """The time before which a record must have ended to be deleted, by ``closed_as``; None is a delivered record.

    A state that is kept for ever has no time.
    """

    times: Mapping[str | None, datetime]

    @classmethod
    def at(cls, now: datetime, retention: Retention) -> Cutoffs:
        """Return the times of a purge that begins now."""
        days = {state: retention.days(state) for state in (None, *CLOSED)}
        return cls({state: now - timedelta(days=n) for state, n in days.items() if n is not None})

    @property
    def delivered(self) -> datetime:
        """The time for delivered records, and for batches."""
        return self.times[None]

    def is_over(self, closed_as: str | None, ended_at: datetime) -> bool:
        """Return whether the retention of a record is over that ended at that time."""
        return closed_as in self.times and ended_at < self.times[closed_as]

    def ends_before_batch(self, state: str) -> bool:
        """Return whether records in that state are deleted before the batches that they belong to."""
        return self.times[state] > self.delivered or state == RecordState.REJECTED


class OldRecord(NamedTuple):
    """An old record. ``older_unsent`` is the id of an older version that must not be sent because of it, or None."""

    pk: int
    batch_id: int | None
    closed_as: str | None
    label_set_id: int | None
    older_unsent: int | None


class OldBatch(NamedTuple):
    """A finished batch with the id of any record in it, and of any record in it that is not rejected."""

    pk: int
    finished_at: datetime
    record_count: int
    any_record: int | None
    any_unrejected: int | None

    @property
    def is_kept(self) -> bool:
        """Whether only rejected records are left in it."""
        return self.any_record is not None and self.any_unrejected is None

    @property
    def weight(self) -> int:
        """Number of records that are deleted with the batch, at most."""
        return self.record_count if self.any_unrejected else 0


def purge_one_run(using: str, clock: Clock, retention: Retention | float, progress: PurgeProgress) -> int:
    """Purge for ``RUN_SECONDS`` and return how many records were deleted.

    The run continues where the last one ended. Return 0 if another run of this process is active, or during the pause
    after it.
    """
    started = clock.monotonic()
    if not progress.try_start_run(started):
        return 0
    try:
        return purge_old_rows(using, clock, retention, seconds=RUN_SECONDS, progress=progress)
    except BaseException:
        # A rollback may have kept rows that the cursors have passed.
        progress.cursors = defaultdict(PurgeCursor)
        raise
    finally:
        progress.end_run(started, clock.monotonic())


def purge_old_rows(
    using: str,
    clock: Clock,
    retention: Retention | float,
    seconds: float = 60.0,
    progress: PurgeProgress | None = None,
) -> int:
    """Delete rows that ended before the retention; return how many records.

    Delivered, superseded and discarded records are deleted, and batches without records. For a superseded or discarded
    record without a batch, the time of enqueueing counts, because the time of its end is not stored. Rejected records
    stay until an operator retries or discards them, unless ``retention`` has days for them. A number means days for all
    states but rejected.

    After ``seconds``, no further transaction begins, except that each kind of row gets at least one.
    """
    progress = progress or PurgeProgress()
    cutoffs = Cutoffs.at(clock.now(), Retention.of(retention))
    deadline = clock.monotonic() + seconds

    def is_time_up() -> bool:
        return clock.monotonic() >= deadline

    count = _purge_batches(using, progress.start_cursor("batches", clock), cutoffs, is_time_up)
    for state in CLOSED:
        if state in cutoffs.times:
            cursor = progress.start_cursor(state, clock)
            count += _purge_closed(using, cursor, cutoffs, state, is_time_up)
    _purge_attempts(using, progress.start_cursor("attempts", clock), cutoffs.delivered, is_time_up)
    return count


# --- batches and their records ------------------------------------------------------------------------


def _purge_batches(using: str, cursor: PurgeCursor, cutoffs: Cutoffs, is_time_up: Callable[[], bool]) -> int:
    count = 0
    while not cursor.is_at_end:
        page = _read_batches(using, cursor, cutoffs.delivered)
        for chunk in _chunks(page):
            ended = {batch.pk: batch.finished_at for batch in chunk if not batch.is_kept}
            deleted, kept = _purge_chunk(using, ended, cutoffs)
            count += deleted
            skipped = kept + sum(batch.is_kept for batch in chunk)
            cursor.advance((chunk[-1].finished_at, chunk[-1].pk), skipped)
            if is_time_up():
                return count
        cursor.is_at_end = len(page) < BATCHES_PER_PAGE
    return count


def _read_batches(using: str, cursor: PurgeCursor, before: datetime) -> list[OldBatch]:
    finished = OutboxBatch.objects.using(using).filter(
        state__in=FINISHED, finished_at__lt=before, next_poll_at__isnull=True
    )
    members = OutboxRecord.rows.filter(batch=OuterRef("pk"))
    unrejected = members.annotate(closed=Coalesce("closed_as", Value(""))).exclude(
        closed=RecordState.REJECTED
    )
    annotated = finished.annotate(
        any_record=Subquery(members.values("pk")[:1]), any_unrejected=Subquery(unrejected.values("pk")[:1])
    )
    rows = _after_cursor(annotated, "finished_at", cursor).values_list(*OldBatch._fields)
    return [OldBatch._make(row) for row in rows[:BATCHES_PER_PAGE]]


def _after_cursor(rows: Any, column: str, cursor: PurgeCursor) -> Any:
    """Return the rows that the cursor has not reached yet, in its order."""
    if cursor.after:
        rows = rows.filter(is_after(column, *cursor.after))
    return rows.order_by(column, "pk")


def _chunks(page: list[OldBatch]) -> Iterator[list[OldBatch]]:
    """Yield neighbours together, up to ``RECORDS_PER_TRANSACTION`` records."""
    chunk: list[OldBatch] = []
    for batch in page:
        if chunk and sum(each.weight for each in chunk) + batch.weight > RECORDS_PER_TRANSACTION:
            yield chunk
            chunk = []
        chunk.append(batch)
    if chunk:
        yield chunk


def _purge_chunk(using: str, ended: Mapping[int, datetime], cutoffs: Cutoffs) -> tuple[int, int]:
    """Delete batches with their records; return how many records were deleted and how many batches stay.

    ``ended`` is the time at which each batch ended, by its id. Rejected records are not deleted here.
    """
    with transaction.atomic(using=using):
        disable_jit(using)
        locked = _lock_batches(using, list(ended))
        records = _read_records(OutboxRecord.rows.using(using).filter(batch_id__in=locked))
        deletable, kept = [], set()
        for record in records:
            is_over = record.closed_as != RecordState.REJECTED and cutoffs.is_over(
                record.closed_as, ended[record.batch_id or 0]
            )
            if is_over and record.older_unsent is None:
                deletable.append(record)
            else:
                kept.add(record.batch_id)
        _delete_records(using, deletable)
        _delete_batches(using, [pk for pk in locked if pk not in kept])
    return len(deletable), len(kept)


def _lock_batches(using: str, batch_ids: list[int]) -> list[int]:
    """Lock these batches and return their ids, without those that another purge has locked."""
    rows = OutboxBatch.objects.using(using).filter(by_id(batch_ids))
    if connections[using].features.has_select_for_update_skip_locked:
        rows = rows.select_for_update(skip_locked=True)
    return list(rows.values_list("pk", flat=True))


def _delete_batches(using: str, pks: list[int]) -> None:
    """Delete batches without records, with their attempts."""
    _raw_delete(OutboxAttempt.objects.using(using).filter(batch_id__in=pks))
    rejections = OutboxRejection.objects.using(using).filter(batch_id__in=pks)
    # The host may have deleted records with SQL, and left their rejections.
    _raw_delete(rejections.filter(~Exists(OutboxRecord.rows.filter(pk=OuterRef("record_id")))))
    rejections.update(batch=None)
    OutboxBatch.objects.using(using).filter(parent_id__in=pks).update(parent=None)
    _raw_delete(OutboxBatch.objects.using(using).filter(pk__in=pks))


# --- closed records, and attempts without a batch ------------------------------------------------------


def _purge_closed(
    using: str, cursor: PurgeCursor, cutoffs: Cutoffs, state: str, is_time_up: Callable[[], bool]
) -> int:
    """Delete old records in ``state``, in the order of their ids.

    A record in a batch is deleted only if the batch is over. Until then its position in the batch must be known,
    because Evermuse may still report errors by position. Most are deleted with their batch.
    """
    count, before = 0, cutoffs.times[state]
    while not cursor.is_at_end:
        page = _read_closed(using, cursor, state)
        old = {pk: batch_id for pk, enqueued_at, batch_id in page if enqueued_at < before}
        deleted = _purge_records(using, _over(using, old, cutoffs, state), state, before)
        count += deleted
        if old:
            cursor.advance(max(old), len(old) - deleted)
        cursor.is_at_end = len(old) < RECORDS_PER_TRANSACTION
        if is_time_up():
            break
    return count


def _read_closed(using: str, cursor: PurgeCursor, state: str) -> list[tuple[int, datetime, int | None]]:
    # A range instead of an equality: with "closed_as = state", the primary key would give the same order. A planner
    # might then use it and read all rows of other states, too.
    rows = OutboxRecord.rows.using(using).filter(closed_as__gte=state, closed_as__lte=state)
    rest = rows.filter(pk__gt=cursor.after or 0).order_by("closed_as", "pk")
    return list(rest.values_list("pk", "enqueued_at", "batch_id")[:RECORDS_PER_TRANSACTION])


def _over(using: str, old: Mapping[int, int | None], cutoffs: Cutoffs, state: str) -> list[int]:
    """Return the records of ``old``, by id with their batch, that are in no batch or whose batch was over in time."""
    batch_ids = (
        {batch_id for batch_id in old.values() if batch_id} if cutoffs.ends_before_batch(state) else set()
    )
    over: set[int | None] = {None}
    if batch_ids:
        rows = OutboxBatch.objects.using(using).filter(by_id(batch_ids), state__in=FINISHED)
        ended = rows.filter(finished_at__lt=cutoffs.times[state], next_poll_at__isnull=True)
        over.update(ended.values_list("pk", flat=True))
    return [pk for pk, batch_id in old.items() if batch_id in over]


def _purge_records(using: str, pks: list[int], state: str, before: datetime) -> int:
    """Delete those of the records that are deletable; return how many."""
    if not pks:
        return 0
    with transaction.atomic(using=using):
        disable_jit(using)
        if state == RecordState.REJECTED:
            pks = _lock_rejected(using, pks, before)
        records = _read_records(OutboxRecord.rows.using(using).filter(by_id(pks)))
        deletable = [record for record in records if record.older_unsent is None]
        _delete_records(using, deletable)
        if state == RecordState.DISCARDED:
            OutboxRuleMatch.objects.using(using).forget([record.pk for record in deletable])
    return len(deletable)


def _lock_rejected(using: str, pks: list[int], before: datetime) -> list[int]:
    """Lock those of the records that are still rejected, for so long, and return their ids.

    Without the lock, a record could be retried between two statements, and be deleted while it is pending.
    """
    still_rejected = Q(Exact(Coalesce(F("closed_as"), Value("")), Value(RecordState.REJECTED.value)))
    rows = OutboxRecord.rows.using(using).filter(by_id(pks), still_rejected)
    if connections[using].features.has_select_for_update_skip_locked:
        rows = rows.select_for_update(skip_locked=True)
    locked = list(rows.values_list("pk", flat=True))
    recent = OutboxRejection.objects.using(using).filter(
        ById(F("record_id"), locked), rejected_at__gte=before
    )
    return sorted(set(locked) - set(recent.values_list("record_id", flat=True)))


def _purge_attempts(
    using: str, cursor: PurgeCursor, before: datetime, is_time_up: Callable[[], bool]
) -> None:
    """Delete old listing calls, which belong to no batch. Attempts of a batch are deleted with it."""
    old = OutboxAttempt.objects.using(using).filter(started_at__lt=before)
    while not cursor.is_at_end:
        rows = _after_cursor(old, "started_at", cursor).values_list("started_at", "pk", "batch_id")
        page = list(rows[:RECORDS_PER_TRANSACTION])
        without_batch = [pk for _, pk, batch_id in page if batch_id is None]
        _raw_delete(OutboxAttempt.objects.using(using).filter(pk__in=without_batch))
        if page:
            cursor.advance(page[-1][:2], len(page) - len(without_batch))
        cursor.is_at_end = len(page) < RECORDS_PER_TRANSACTION
        if is_time_up():
            break


# --- deletable records --------------------------------------------------------------------------------


def _read_records(rows: models.QuerySet[Any]) -> list[OldRecord]:
    annotated = rows.annotate(older_unsent=_older_unsent()).values_list(*OldRecord._fields)
    return [OldRecord._make(row) for row in annotated]


def _older_unsent() -> Subquery:
    """Return an older version that is pending, rejected, scheduled or held.

    The newer version is the only proof that the older one must not be sent, so it is needed.
    """
    # Written so that no partial index matches: the index of identities finds the one or two versions.
    pending = is_null_unindexed("closed_as", never="") & is_null_unindexed("batch_id", never=0)
    closed = Q(In(Coalesce(F("closed_as"), Value("")), [RecordState.REJECTED.value, *DEFERRED]))
    older = OutboxRecord.rows.filter(identity=OuterRef("identity"), pk__lt=OuterRef("pk"))
    return Subquery(older.filter(closed | pending).order_by("identity", "pk").values("pk")[:1])


def _delete_records(using: str, records: list[OldRecord]) -> None:
    """Delete records with their rejections and search terms. Their runs keep the counts."""
    if pks := [record.pk for record in records]:
        keep_purged_counts(using, ((record.label_set_id, record.closed_as) for record in records))
        # At worst, this reads all rejections once. A look-up for each record could read them a thousand times.
        _raw_delete(OutboxRejection.objects.using(using).filter(ById(F("record_id"), pks)))
        forget_terms(using, pks)
        _raw_delete(OutboxRecord.rows.using(using).filter(by_id(pks)))


def _raw_delete(rows: models.QuerySet[Any]) -> None:
    """Delete without Django's collector: the callers delete what refers to these rows, and no signal is needed."""
    rows._raw_delete(rows.db)

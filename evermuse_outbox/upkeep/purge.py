"""Purge: what was over before the retention goes, in small transactions, the oldest first.

A run takes a short time, then others have their turn; the next run goes on where it ended. What must be kept (a
rejected record keeps its batch, a version that is needed keeps itself) is passed over, and looked at again by the
next walk, so that however much is kept, a run need not read it each time.

No query here lets the planner choose between an index and a whole table, for it may know nothing of the table yet.
Rows are named by their ids or read in the order of an index, and what belongs to a row is looked up by a subquery
with LIMIT, which is never turned into a join.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import connections, models, transaction
from django.db.models import F, OuterRef, Q, Subquery, Value
from django.db.models.functions import Coalesce
from django.db.models.lookups import Exact

from ..delivery.context import Clock
from ..models import (
    BatchState,
    ById,
    OutboxAttempt,
    OutboxBatch,
    OutboxRecord,
    OutboxRejection,
    RecordState,
    by_id,
    disable_jit,
    is_after,
    is_null_unindexed,
)

OVER = (BatchState.COMPLETE, BatchState.REFUSED, BatchState.SPLIT, BatchState.FAILED, BatchState.WITHDRAWN)
SET_ASIDE = (RecordState.SUPERSEDED, RecordState.DISCARDED)

CHUNK = 1_000
"""Records that one transaction deletes: those of one full request, or of many small ones."""

PAGE = 100
"""Batches that are looked at together."""

RUN_SECONDS = 0.6
"""How long a run lasts. One comes each second, so that at the ceiling of 10,000 records a second the purge keeps up as
long as 1,000 take less than 60 ms; ``benchmarks/growth.py`` measures 23 alone and 50 beside a busy pipeline."""

REST = 0.5
"""Of the time that a run took, how much passes until the next one may begin."""

FEW = 500
"""Rows that a walk may pass over each time, because looking at them costs next to nothing."""

AGAIN = timedelta(hours=1)
"""After how long a walk that passed over more than that looks at them again."""


@dataclass(slots=True)
class Walk:
    """How far a walk through old rows has come, and how many it had to leave behind."""

    behind: Any = None
    passed: int = 0
    is_at_end: bool = False
    began_at: datetime | None = None

    def start(self, now: datetime) -> None:
        """Begins anew when the last walk is over, unless it passed over many a short while ago."""
        is_fresh = self.began_at is not None and timedelta(0) <= now - self.began_at < AGAIN
        if self.began_at is None or (self.is_at_end and not (is_fresh and self.passed > FEW)):
            self.behind, self.passed, self.began_at = None, 0, now
        self.is_at_end = False

    def step(self, behind: Any, passed: int) -> None:
        """All up to ``behind`` was looked at, and so many of it are kept."""
        self.behind = behind
        self.passed += passed


@dataclass(slots=True)
class Walks:
    """The walks through one database. Runs that go on from one another share these."""

    by_name: defaultdict[str, Walk] = field(default_factory=lambda: defaultdict(Walk))
    is_under_way: bool = False
    last_run: tuple[float, float] = (0.0, 0.0)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def may_run(self, now: float) -> bool:
        """True for the one who is to run now: while that lasts, and for some time afterwards, nobody else is."""
        started, ended = self.last_run
        with self.lock:
            if self.is_under_way or ended <= now < ended + REST * (ended - started):
                return False
            self.is_under_way = True
            return True

    def ran(self, started: float, ended: float) -> None:
        """The run is over."""
        self.last_run, self.is_under_way = (started, ended), False

    def begin(self, name: str, clock: Clock) -> Walk:
        """That walk, ready to be gone on with."""
        walk = self.by_name[name]
        walk.start(clock.now())
        return walk


class Old(NamedTuple):
    """An old record, and what decides whether it may go."""

    pk: int
    batch_id: int | None
    closed_as: str | None
    older: int | None

    @property
    def is_purgeable(self) -> bool:
        """All but the rejected and the needed."""
        return self.older is None and self.closed_as != RecordState.REJECTED


def purge_on(using: str, clock: Clock, retention_days: float, walks: Walks) -> int:
    """A run of :func:`purge` that goes on where the last one ended. Nothing while another one of this process is at
    it, or rests."""
    started = clock.monotonic()
    if not walks.may_run(started):
        return 0
    try:
        return purge(using, clock, retention_days, seconds=RUN_SECONDS, walks=walks)
    except BaseException:
        walks.by_name = defaultdict(Walk)  # who knows what was rolled back
        raise
    finally:
        walks.ran(started, clock.monotonic())


def purge(
    using: str, clock: Clock, retention_days: float, seconds: float = 60.0, walks: Walks | None = None
) -> int:
    """Deletes what was over before the retention; returns how many records. When so many seconds are over, each kind
    of row has had a turn, and no other one is begun.

    Delivered, superseded and discarded records go, and batches that no record is left in. Rejected
    records stay until a person has retried or discarded them.
    """
    walks = walks or Walks()
    before = clock.now() - timedelta(days=retention_days)
    deadline = clock.monotonic() + seconds

    def is_time_up() -> bool:
        return clock.monotonic() >= deadline

    count = _purge_batches(using, walks.begin("batches", clock), before, is_time_up)
    for state in SET_ASIDE:
        count += _purge_set_aside(using, walks.begin(state, clock), before, state, is_time_up)
    _purge_attempts(using, walks.begin("attempts", clock), before, is_time_up)
    return count


# --- batches and their records ------------------------------------------------------------------------


def _purge_batches(using: str, walk: Walk, before: datetime, is_time_up: Callable[[], bool]) -> int:
    count = 0
    while not walk.is_at_end:
        page = _page_of_batches(using, walk, before)
        for chunk in _chunks(page):
            deleted, kept = _purge_chunk(using, [batch.pk for batch in chunk if not batch.is_kept])
            count += deleted
            walk.step((chunk[-1].finished_at, chunk[-1].pk), kept + sum(batch.is_kept for batch in chunk))
            if is_time_up():
                return count
        walk.is_at_end = len(page) < PAGE
    return count


class OldBatch(NamedTuple):
    """A batch that is over: how many records it was sealed with, one that it still has, and one that may go."""

    pk: int
    finished_at: datetime
    record_count: int
    some: int | None
    some_unrejected: int | None

    @property
    def is_kept(self) -> bool:
        """Only rejected records are left in it."""
        return self.some is not None and self.some_unrejected is None

    @property
    def weight(self) -> int:
        """How many records there may be to delete."""
        return self.record_count if self.some_unrejected else 0


def _page_of_batches(using: str, walk: Walk, before: datetime) -> list[OldBatch]:
    over = OutboxBatch.objects.using(using).filter(
        state__in=OVER, finished_at__lt=before, next_poll_at__isnull=True
    )
    inside = OutboxRecord.rows.filter(batch=OuterRef("pk"))
    unrejected = inside.annotate(closed=Coalesce("closed_as", Value(""))).exclude(closed=RecordState.REJECTED)
    told = over.annotate(
        some=Subquery(inside.values("pk")[:1]), some_unrejected=Subquery(unrejected.values("pk")[:1])
    )
    rows = _behind(told, "finished_at", walk).values_list(*OldBatch._fields)
    return [OldBatch._make(row) for row in rows[:PAGE]]


def _behind(rows: Any, by: str, walk: Walk) -> Any:
    """The rows that the walk has not come to yet, in its order."""
    if walk.behind:
        rows = rows.filter(is_after(by, *walk.behind))
    return rows.order_by(by, "pk")


def _chunks(page: list[OldBatch]) -> Iterator[list[OldBatch]]:
    """Neighbours together, up to a chunk of records."""
    chunk: list[OldBatch] = []
    for batch in page:
        if chunk and sum(each.weight for each in chunk) + batch.weight > CHUNK:
            yield chunk
            chunk = []
        chunk.append(batch)
    if chunk:
        yield chunk


def _purge_chunk(using: str, batch_ids: list[int]) -> tuple[int, int]:
    """How many records went, and how many of the batches are kept."""
    with transaction.atomic(using=using):
        disable_jit(using)
        mine = _locked(using, batch_ids)
        records = _old(OutboxRecord.rows.using(using).filter(batch_id__in=mine))
        count = _delete_records(using, records)
        kept = {record.batch_id for record in records if not record.is_purgeable}
        _delete_batches(using, [pk for pk in mine if pk not in kept])
    return count, len(kept)


def _locked(using: str, batch_ids: list[int]) -> list[int]:
    """Those that nobody else purges at this moment."""
    rows = OutboxBatch.objects.using(using).filter(by_id(batch_ids))
    if connections[using].features.has_select_for_update_skip_locked:
        rows = rows.select_for_update(skip_locked=True)
    return list(rows.values_list("pk", flat=True))


def _delete_batches(using: str, pks: list[int]) -> None:
    """Batches that no record is left in."""
    _raw_delete(OutboxAttempt.objects.using(using).filter(batch_id__in=pks))
    OutboxRejection.objects.using(using).filter(batch_id__in=pks).update(batch=None)
    OutboxBatch.objects.using(using).filter(parent_id__in=pks).update(parent=None)
    _raw_delete(OutboxBatch.objects.using(using).filter(pk__in=pks))


# --- records of no batch, and calls for none ----------------------------------------------------------


def _purge_set_aside(
    using: str, walk: Walk, before: datetime, state: str, is_time_up: Callable[[], bool]
) -> int:
    """Records that were set aside in ``state``, in the order of their ids, as long as these are old.

    Who was rejected in a batch and then discarded goes with the batch: as long as Evermuse may speak of the batch,
    the positions in it must be known.
    """
    count = 0
    while not walk.is_at_end:
        page = _page_set_aside(using, walk, state)
        old = [pk for pk, enqueued_at, _ in page if enqueued_at < before]
        loose = [pk for pk, enqueued_at, batch_id in page if enqueued_at < before and batch_id is None]
        deleted = _purge_records(using, loose)
        count += deleted
        if old:
            walk.step(old[-1], len(old) - deleted)
        walk.is_at_end = len(old) < CHUNK
        if is_time_up():
            break
    return count


def _page_set_aside(using: str, walk: Walk, state: str) -> list[tuple[int, datetime, int | None]]:
    # From state to state: where it is said to be equal, the primary key would give the same order, and be read past
    # all that is not set aside.
    rows = OutboxRecord.rows.using(using).filter(closed_as__gte=state, closed_as__lte=state)
    rest = rows.filter(pk__gt=walk.behind or 0).order_by("closed_as", "pk")
    return list(rest.values_list("pk", "enqueued_at", "batch_id")[:CHUNK])


def _purge_records(using: str, pks: list[int]) -> int:
    """How many of these could go."""
    if not pks:
        return 0
    with transaction.atomic(using=using):
        disable_jit(using)
        return _delete_records(using, _old(OutboxRecord.rows.using(using).filter(by_id(pks))))


def _purge_attempts(using: str, walk: Walk, before: datetime, is_time_up: Callable[[], bool]) -> None:
    """Listing calls belong to no batch and go by age; those of a batch go with it."""
    old = OutboxAttempt.objects.using(using).filter(started_at__lt=before)
    while not walk.is_at_end:
        page = list(_behind(old, "started_at", walk).values_list("started_at", "pk", "batch_id")[:CHUNK])
        loose = [pk for _, pk, batch_id in page if batch_id is None]
        _raw_delete(OutboxAttempt.objects.using(using).filter(pk__in=loose))
        if page:
            walk.step(page[-1][:2], len(page) - len(loose))
        walk.is_at_end = len(page) < CHUNK
        if is_time_up():
            break


# --- what may go --------------------------------------------------------------------------------------


def _old(rows: models.QuerySet[Any]) -> list[Old]:
    told = rows.annotate(older=_older_unsent()).values_list(*Old._fields)
    return [Old._make(row) for row in told]


def _older_unsent() -> Subquery:
    """An older version that still waits for its turn or for a person: only the newer one tells that it must not be
    sent, and so is needed."""
    # Said so that no partial index seems to fit: only that of the identity leads to a version or two.
    pending = is_null_unindexed("closed_as", never="") & is_null_unindexed("batch_id", never=0)
    rejected = Q(Exact(Coalesce(F("closed_as"), Value("")), Value(RecordState.REJECTED.value)))
    older = OutboxRecord.rows.filter(identity=OuterRef("identity"), pk__lt=OuterRef("pk"))
    return Subquery(older.filter(rejected | pending).order_by("identity", "pk").values("pk")[:1])


def _delete_records(using: str, records: Iterable[Old]) -> int:
    """Those that may go, and their rejections; returns how many records."""
    gone = [record.pk for record in records if record.is_purgeable]
    if gone:
        # One scan of all rejections at worst, where a look for each record might be a thousand.
        _raw_delete(OutboxRejection.objects.using(using).filter(ById(F("record_id"), gone)))
        _raw_delete(OutboxRecord.rows.using(using).filter(by_id(gone)))
    return len(gone)


def _raw_delete(rows: models.QuerySet[Any]) -> None:
    """Without the collector: what points here is seen to above, and nothing of ours listens to signals."""
    rows._raw_delete(rows.db)

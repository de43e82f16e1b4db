"""Fill the search index: workers read new records in the order of their ids, a limited time in each run.

Ids do not commit in their order: a transaction that is open for long commits a record whose id was passed already. So
there are two resume points. ``indexed_to`` follows the newest records. ``verified_to`` follows an hour later and adds
the records that were committed meanwhile. A record whose transaction was open for longer than that stays without terms.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from datetime import datetime, timedelta
from itertools import takewhile
from typing import NamedTuple

from django.db import connections, transaction
from django.db.models import F
from django.db.models.constants import OnConflict

from ..database_clock import database_now
from ..models import ById, OutboxRecord, OutboxSearchProgress, OutboxTerm, PayloadHead, by_id, disable_jit
from .terms import is_head_complete, read_terms

RUN_SECONDS = 0.3
"""Duration of a run; there is one each second."""

INDEX_SHARE = 0.7
"""Share of a run in which new records are indexed. In the rest, records that were committed late are added."""

RECORDS_PER_TRANSACTION = 500
"""Records that one transaction indexes."""

IDS_PER_TRANSACTION = 2_000
"""Ids that one transaction compares with the index."""

HEAD_LENGTH = 16_000
"""Characters that are read of a payload. They nearly always contain the terms, because ``data`` is the last field."""

MAX_BYTES_READ = 8_000_000
"""Bytes of longer payloads that are in memory at once, or one payload."""

MIN_AGE = timedelta(seconds=2)
"""Age of a record when it is indexed. Most transactions that drew an earlier id have ended by then."""

LATE_AFTER = timedelta(hours=1)
"""Age of a record when the ids before it are compared with the index. A transaction is rarely open for so long."""


class StoredLine(NamedTuple):
    """The columns of a record that the index needs."""

    pk: int
    enqueued_at: datetime
    size: int
    head: str | None


def index_records(using: str, monotonic: Callable[[], float], seconds: float = RUN_SECONDS) -> int:
    """Index new records and those that were committed late. Return how many records were read.

    After ``seconds`` no further transaction begins, except that each kind of work gets at least one.

    Args:
        using: the database alias.
        monotonic: a clock that counts seconds.
        seconds: the duration of the run.
    """
    started = monotonic()
    OutboxSearchProgress.objects.using(using).get_or_create(pk=1)
    count = _repeat(_index_new, using, lambda: monotonic() >= started + seconds * INDEX_SHARE)
    return count + _repeat(_add_late, using, lambda: monotonic() >= started + seconds)


def forget_terms(using: str, pks: Collection[int]) -> None:
    """Delete the terms of records that are deleted or whose payload is erased."""
    if pks:
        OutboxTerm.objects.using(using).filter(ById(F("record_id"), pks))._raw_delete(using)


def stop_indexing(using: str) -> None:
    """Lock the resume points until the transaction ends, so that no worker indexes a record meanwhile.

    Without it, a worker that has read a payload could insert its terms after they were erased.
    """
    if connections[using].features.has_select_for_update:
        list(OutboxSearchProgress.objects.using(using).select_for_update())


def _repeat(step: Callable[[str], int], using: str, is_time_up: Callable[[], bool]) -> int:
    """Repeat a step until it has nothing to do or the time is up. Return the sum of its results."""
    total = 0
    while count := step(using):
        total += count
        if is_time_up():
            break
    return total


def _index_new(using: str) -> int:
    """Index the next records after ``indexed_to``. Return how many."""
    with transaction.atomic(using=using):
        progress = _lock_progress(using)
        if progress is None:
            return 0
        now = database_now(using)
        lines = list(takewhile(lambda line: line.enqueued_at <= now - MIN_AGE, _read(using, progress)))
        if not lines:
            return 0
        indexed_to, verified_to = lines[-1].pk, progress.verified_to
        if verified_to == progress.indexed_to and lines[-1].enqueued_at <= now - LATE_AFTER:
            verified_to = (
                indexed_to  # all of them were committed long ago: the table was filled before the index
            )
        progresses = OutboxSearchProgress.objects.using(using)
        if not progresses.advance(progress, indexed_to=indexed_to, verified_to=verified_to):
            return 0
        _insert_terms(using, lines)
    return len(lines)


def _add_late(using: str) -> int:
    """Compare the next ids after ``verified_to`` with the index, and correct it. Return how many ids."""
    with transaction.atomic(using=using):
        progress = _lock_progress(using)
        if progress is None or progress.verified_to >= progress.indexed_to:
            return 0
        late_before = database_now(using) - LATE_AFTER
        records = OutboxRecord.rows.using(using).filter(
            pk__gt=progress.verified_to, pk__lte=progress.indexed_to
        )
        page = records.order_by("pk").values_list("pk", "enqueued_at")[:IDS_PER_TRANSACTION]
        pks = [pk for pk, _ in takewhile(lambda row: row[1] <= late_before, page)]
        if not pks:
            return 0
        progresses = OutboxSearchProgress.objects.using(using)
        if not progresses.advance(progress, indexed_to=progress.indexed_to, verified_to=pks[-1]):
            return 0
        _correct_terms(using, progress.verified_to, pks)
    return len(pks)


def _correct_terms(using: str, after: int, pks: list[int]) -> None:
    """Add the terms of records that have none, and delete the terms of records that were deleted meanwhile."""
    terms = OutboxTerm.objects.using(using).filter(record_id__gt=after, record_id__lte=pks[-1])
    indexed = set(terms.order_by("record_id").values_list("record_id", flat=True).distinct())
    late = [pk for pk in pks if pk not in indexed]
    if late:
        _insert_terms(using, _lines(OutboxRecord.rows.using(using).filter(by_id(late))))
    forget_terms(using, sorted(indexed.difference(pks)))


def _lock_progress(using: str) -> OutboxSearchProgress | None:
    """Lock and return the resume points; None if another process has locked them."""
    rows = OutboxSearchProgress.objects.using(using)
    if connections[using].features.has_select_for_update_skip_locked:
        rows = rows.select_for_update(skip_locked=True)
    progress = rows.first()
    disable_jit(using)  # not first in the transaction: the first statement carries the deadline of all
    return progress


def _read(using: str, progress: OutboxSearchProgress) -> list[StoredLine]:
    rows = OutboxRecord.rows.using(using).filter(pk__gt=progress.indexed_to)
    return _lines(rows.order_by("pk")[:RECORDS_PER_TRANSACTION])


def _lines(rows: object) -> list[StoredLine]:
    with_head = rows.annotate(head=PayloadHead(HEAD_LENGTH))  # type: ignore[attr-defined]
    return [StoredLine._make(row) for row in with_head.values_list(*StoredLine._fields)]


def _insert_terms(using: str, lines: Iterable[StoredLine]) -> None:
    """Insert the terms of the records; those that exist stay."""
    rows, long = [], []
    for line in lines:
        if line.head is not None and (len(line.head) < HEAD_LENGTH or is_head_complete(line.head)):
            rows += [(term, line.pk) for term in read_terms(line.head)]
        else:
            long.append(line)
    for pk, payload in _read_payloads(using, long):
        rows += [(term, pk) for term in read_terms(payload)]
    if rows:
        _insert_rows(using, rows)


def _read_payloads(using: str, lines: list[StoredLine]) -> Iterable[tuple[int, str]]:
    """Yield the complete payloads of records, a few in each query."""
    part: list[int] = []
    size = 0
    for line in lines:
        if part and size + line.size > MAX_BYTES_READ:
            yield from _payloads(using, part)
            part, size = [], 0
        part.append(line.pk)
        size += line.size
    if part:
        yield from _payloads(using, part)


def _payloads(using: str, pks: list[int]) -> Iterable[tuple[int, str]]:
    return OutboxRecord.rows.using(using).filter(by_id(pks)).values_list("pk", "payload")


def _insert_rows(using: str, rows: list[tuple[int, int]]) -> None:
    """Insert rows of the index with SQL: the ORM takes several times as long to build a statement of 2,000 rows."""
    connection = connections[using]
    quote, ops = connection.ops.quote_name, connection.ops
    insert = ops.insert_statement(on_conflict=OnConflict.IGNORE)
    suffix = ops.on_conflict_suffix_sql((), OnConflict.IGNORE, (), ())
    into = f"{insert} {quote(OutboxTerm._meta.db_table)} ({quote('term')}, {quote('record_id')})"
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":  # two texts instead of thousands of parameters
            columns = [f"{{{','.join([str(row[number]) for row in rows])}}}" for number in (0, 1)]
            cursor.execute(f"{into} SELECT unnest(%s::bigint[]), unnest(%s::bigint[]) {suffix}", columns)
        else:
            cursor.executemany(f"{into} VALUES (%s, %s) {suffix}", rows)

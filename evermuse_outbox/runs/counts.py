"""Count the records of a run by state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from django.db.models import Count, F

from ..models import (
    BatchState,
    ById,
    OutboxBatch,
    OutboxLabelSet,
    OutboxRecord,
    OutboxRun,
    RecordState,
    by_id,
)

IDS_PER_STATEMENT = 500
"""Maximum number of ids in one statement. Old versions of SQLite allow 999 parameters."""

ENDED = (
    RecordState.DELIVERED,
    RecordState.REJECTED,
    RecordState.SUPERSEDED,
    RecordState.DISCARDED,
    RecordState.EXPIRED,
)
"""States in which a record does not wait for the delivery any more."""


@dataclass(frozen=True, slots=True)
class RunStatus:
    """How far a run has come.

    Attributes:
        counts: records by state, purged ones included; every state has an entry.
        expected: how many records the run will have; None if that is not known.
        started_at: when it was started.
        closed_at: since when no more records join it; None if it is open.
        finished_at: when a worker has seen that it is finished; None before.
    """

    counts: dict[str, int]
    expected: int | None
    started_at: datetime
    closed_at: datetime | None
    finished_at: datetime | None

    @property
    def total(self) -> int:
        """The number of its records."""
        return sum(self.counts.values())

    @property
    def ended(self) -> int:
        """The number of its records that do not wait for the delivery any more."""
        return sum(self.counts.get(state, 0) for state in ENDED)

    @property
    def rejected(self) -> int:
        """The number of its records that wait for a person."""
        return self.counts.get(RecordState.REJECTED, 0)

    @property
    def state(self) -> str:
        """Return ``open``, ``closed`` or ``finished``."""
        if self.closed_at is None:
            return "open"
        return "finished" if self.is_finished else "closed"

    @property
    def is_finished(self) -> bool:
        """Whether it is closed, and no record of it waits for the delivery or is in flight."""
        return self.closed_at is not None and self.ended == self.total

    @property
    def is_clean(self) -> bool:
        """Whether it is finished, and no record of it is rejected."""
        return self.is_finished and not self.rejected

    @property
    def progress(self) -> float:
        """The share of its records that have ended, from 0 to 1; of the expected ones as long as it is open."""
        if self.is_finished:
            return 1.0
        total = max(self.total, self.expected or 0) if self.closed_at is None else self.total
        return self.ended / total if total else 0.0


def read_status(using: str, row: OutboxRun) -> RunStatus:
    """Count the records of a run. A run that is finished without failures is not counted again."""
    is_final = row.finished_at is not None and row.count_at is None
    counts = row.counts if is_final else count_records(using, row.pk)
    return status_of(row, counts)


def status_of(row: OutboxRun, counts: dict[str, int]) -> RunStatus:
    """Return the status of a run with these counts."""
    filled = {state.value: counts.get(state.value, 0) for state in RecordState}
    return RunStatus(filled, row.expected, row.started_at, row.closed_at, row.finished_at)


def count_records(using: str, run_id: int) -> dict[str, int]:
    """Return the records of a run by state, those that were purged included.

    A purge that commits meanwhile would make the sum wrong. Then they are counted again.
    """
    purged = _purged(using, run_id)
    while True:
        counts = Counter(purged) + _count_stored(using, run_id)
        before, purged = purged, _purged(using, run_id)
        if purged == before:
            return dict(counts)


def _purged(using: str, run_id: int) -> dict[str, int]:
    return OutboxRun.objects.using(using).values_list("purged", flat=True).filter(pk=run_id).first() or {}


def _count_stored(using: str, run_id: int) -> Counter[str]:
    """Count the stored records by the state of their batch: one row for each batch comes from the database."""
    sets = OutboxLabelSet.objects.using(using).filter(run_id=run_id).values_list("pk", flat=True)
    members: Counter[tuple[str | None, int | None]] = Counter()
    for pks in _in_parts(sets):
        rows = OutboxRecord.rows.using(using).filter(ById(F("label_set_id"), pks)).order_by()
        for closed_as, batch_id, count in rows.values_list("closed_as", "batch_id").annotate(
            count=Count("pk")
        ):
            members[closed_as, None if closed_as else batch_id] += count
    unfinished = _unfinished(using, [batch_id for _, batch_id in members if batch_id])
    counts: Counter[str] = Counter()
    for (closed_as, batch_id), count in members.items():
        counts[_state(closed_as, batch_id, unfinished)] += count
    return counts


def _unfinished(using: str, batch_ids: Sequence[int]) -> set[int]:
    """Return those of the batches that are not complete. A batch that was purged meanwhile was complete."""
    unfinished: set[int] = set()
    for pks in _in_parts(batch_ids):
        rows = OutboxBatch.objects.using(using).filter(by_id(pks)).exclude(state=BatchState.COMPLETE)
        unfinished.update(rows.values_list("pk", flat=True))
    return unfinished


def _state(closed_as: str | None, batch_id: int | None, unfinished: set[int]) -> str:
    if closed_as:
        return closed_as
    if batch_id is None:
        return RecordState.PENDING.value
    return RecordState.IN_FLIGHT.value if batch_id in unfinished else RecordState.DELIVERED.value


def _in_parts(pks: Iterable[int]) -> Iterator[list[int]]:
    rest = iter(pks)
    while part := list(islice(rest, IDS_PER_STATEMENT)):
        yield part

"""The latest version wins: which of the waiting records may go, beside the other versions of their identities.

By plain queries of their own, each a few probes of the index of identities for a record: as subqueries of a locking
read, MariaDB missed versions at times.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from ..models import OutboxBatch, OutboxRecord
from ..models.plans import by_id
from .channel import Channel


class Version(Protocol):
    """What is compared of a record; ids stand in the order of enqueueing."""

    @property
    def pk(self) -> int: ...

    @property
    def identity(self) -> uuid.UUID: ...


V = TypeVar("V", bound=Version)


class Others(NamedTuple):
    """What the other versions mean for one record; see ``RecordQuerySet.with_versions``."""

    newer: int | None
    older_batch: int | None


def latest(channel: Channel, records: Sequence[V]) -> list[V]:
    """Sets the versions that have a newer one aside, and gives the others."""
    return _without_superseded(channel, records, _others(channel, records))


def free_to_go(channel: Channel, records: Sequence[V]) -> list[V]:
    """The latest versions of which no older one is under way; those behind an older one stay pending."""
    others = _others(channel, records)
    newest = _without_superseded(channel, records, others)
    busy = _under_way(channel, {others[record.pk].older_batch for record in newest})
    return [record for record in newest if others[record.pk].older_batch not in busy]


def one_of_each(channel: Channel, records: Sequence[V]) -> list[V]:
    """The newest of these of each identity: a newer one may have been committed between two reads."""
    newest: dict[uuid.UUID, int] = {}
    for record in records:
        newest[record.identity] = max(record.pk, newest.get(record.identity, 0))
    older = {r.pk: newest[r.identity] for r in records if r.pk != newest[r.identity]}
    OutboxRecord.rows.using(channel.using).supersede(older)
    return [record for record in records if record.pk not in older]


def _others(channel: Channel, records: Sequence[Version]) -> dict[int, Others]:
    rows: Any = OutboxRecord.rows.using(channel.using).filter(by_id([record.pk for record in records]))
    told = rows.with_versions().values_list("pk", "newer", "older_batch")
    return {pk: Others(newer, older_batch) for pk, newer, older_batch in told}


def _without_superseded(channel: Channel, records: Sequence[V], others: dict[int, Others]) -> list[V]:
    overtaken = {pk: other.newer for pk, other in others.items() if other.newer}
    OutboxRecord.rows.using(channel.using).supersede(overtaken)
    return [record for record in records if record.pk in others and record.pk not in overtaken]


def _under_way(channel: Channel, batches: Collection[int | None]) -> set[int]:
    """Those of the batches that are not at their end. Only the latest version that was ever taken can be in one."""
    taken = [pk for pk in batches if pk]
    if not taken:
        return set()
    rows = OutboxBatch.objects.using(channel.using).open()
    return set(rows.filter(by_id(taken)).values_list("pk", flat=True))

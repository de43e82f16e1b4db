"""The latest version wins: which of the waiting records may go, beside the other versions of their identities.

By plain queries of their own, each a few probes of the index of identities for a record: as subqueries of a locking
read, MariaDB missed versions at times.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from ...models import OutboxBatch, OutboxRecord
from ...models.query_hints import by_id
from ..context.context import DeliveryContext


class Record(Protocol):
    """What tells of a record here; ids stand in the order of enqueueing."""

    @property
    def pk(self) -> int: ...


R = TypeVar("R", bound=Record)


class Others(NamedTuple):
    """What the other versions mean for one record; see ``RecordQuerySet.with_versions``."""

    newer: int | None
    older_batch: int | None


def supersede_older(context: DeliveryContext, records: Sequence[R]) -> list[R]:
    """Sets the versions that have a newer one aside, and gives the others."""
    return _without_superseded(context, records, _others(context, records))


def supersede_and_select_sendable(context: DeliveryContext, records: Sequence[R]) -> list[R]:
    """The latest versions of which no older one is under way; those behind an older one stay pending."""
    sole_versions = _lone(context, records)
    several = [record for record in records if record.pk not in sole_versions]
    free = (
        sole_versions.union(record.pk for record in _free_of_several(context, several))
        if several
        else sole_versions
    )
    return [record for record in records if record.pk in free]


def supersede_duplicates(context: DeliveryContext, records: Sequence[R]) -> list[R]:
    """The newest of these of each identity: a newer one may have been committed between two reads."""
    rows = OutboxRecord.rows.using(context.using).filter(by_id([record.pk for record in records]))
    identities = dict(rows.order_by("pk").values_list("pk", "identity"))
    newest = {identity: pk for pk, identity in identities.items()}
    older = {pk: newest[identity] for pk, identity in identities.items() if pk != newest[identity]}
    OutboxRecord.rows.using(context.using).supersede(older)
    return [record for record in records if record.pk not in older]


def _lone(context: DeliveryContext, records: Sequence[Record]) -> set[int]:
    """The ids of those of which there is only one version: nearly all, as a rule."""
    rows = OutboxRecord.rows.using(context.using).filter(by_id([record.pk for record in records]))
    return set(rows.sole_versions().values_list("pk", flat=True))


def _free_of_several(context: DeliveryContext, records: Sequence[R]) -> list[R]:
    others = _others(context, records)
    newest = _without_superseded(context, records, others)
    busy = _under_way(context, {others[record.pk].older_batch for record in newest})
    return [record for record in newest if others[record.pk].older_batch not in busy]


def _others(context: DeliveryContext, records: Sequence[Record]) -> dict[int, Others]:
    rows: Any = OutboxRecord.rows.using(context.using).filter(by_id([record.pk for record in records]))
    told = rows.with_versions().values_list("pk", "newer", "older_batch")
    return {pk: Others(newer, older_batch) for pk, newer, older_batch in told}


def _without_superseded(context: DeliveryContext, records: Sequence[R], others: dict[int, Others]) -> list[R]:
    overtaken = {pk: other.newer for pk, other in others.items() if other.newer}
    OutboxRecord.rows.using(context.using).supersede(overtaken)
    return [record for record in records if record.pk in others and record.pk not in overtaken]


def _under_way(context: DeliveryContext, batches: Collection[int | None]) -> set[int]:
    """Those of the batches that are not at their end. Only the latest version that was ever taken can be in one."""
    taken = [pk for pk in batches if pk]
    if not taken:
        return set()
    rows = OutboxBatch.objects.using(context.using).open()
    return set(rows.filter(by_id(taken)).values_list("pk", flat=True))

"""The SQL that reads portions of the pending records of a group from an index. The ORM has no hint for the index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connections

from ...models import OutboxRecord
from ..scheduling import Group

TABLE = OutboxRecord._meta.db_table

PENDING_INDEX = "evermuse_record_pending"
"""The index of pending records: workspace, type, product id, ``enqueued_at``, id."""

PENDING = "batch_id IS NULL AND closed_as IS NULL AND workspace = %s AND type = %s AND product_id = %s"
"""The pending records of a group. The condition of the partial index must be repeated to use the index."""

MAX_PORTIONS = 100
"""Portions in one statement. Old versions of SQLite allow 999 parameters."""


@dataclass(frozen=True, slots=True)
class Portion:
    """Records to read: up to ``count`` from one end of the pending records of a group.

    Attributes:
        share: the number of the share that the records belong to.
        count: the maximum of records.
        is_newest: whether to read from the newest end.
    """

    share: int
    count: int
    is_newest: bool


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A pending record in the order of sealing. The time is as the database's driver returns it."""

    enqueued_at: Any
    pk: int


def read_portions(
    using: str, workspace: str, group: Group, portions: Sequence[Portion]
) -> list[list[Position]]:
    """Return the records of each portion, each from the end at which the portion begins."""
    positions: list[list[Position]] = [[] for _ in portions]
    for start in range(0, len(portions), MAX_PORTIONS):
        chunk = portions[start : start + MAX_PORTIONS]
        statement = " UNION ALL ".join([_select(using, portion) for portion in chunk])
        parameters = [
            value
            for number, portion in enumerate(chunk, start)
            for value in (number, workspace, *group, portion.count)
        ]
        with connections[using].cursor() as cursor:
            cursor.execute(statement, parameters)
            for number, enqueued_at, pk in cursor.fetchall():
                positions[number].append(Position(enqueued_at, pk))
    # UNION ALL promises no order.
    return [
        sorted(rows, reverse=portion.is_newest) for rows, portion in zip(positions, portions, strict=True)
    ]


def _select(using: str, portion: Portion) -> str:
    hint = f"FORCE INDEX ({PENDING_INDEX})" if connections[using].vendor == "mysql" else ""
    direction = "DESC" if portion.is_newest else "ASC"
    return f"""SELECT * FROM (
        SELECT %s AS number, enqueued_at, id FROM {TABLE} {hint} WHERE {PENDING}
        ORDER BY enqueued_at {direction}, id {direction} LIMIT %s) AS portion_{portion.share}"""

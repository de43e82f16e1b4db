"""The SQL that reads portions of the pending records of a group from an index. The ORM has no hint for the index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connections

from ...indexing import SHARES_INDEX
from ...models import OutboxRecord
from ..scheduling import Group

TABLE = OutboxRecord._meta.db_table

PENDING_INDEX = "evermuse_record_pending"
"""The index of pending records: workspace, type, product id, ``enqueued_at``, id."""

PENDING = "batch_id IS NULL AND closed_as IS NULL AND workspace = %s AND type = %s AND product_id = %s"
"""The pending records of a group. The condition of a partial index must be repeated to use the index."""

MAX_PORTIONS = 100
"""Portions in one UNION. Old versions of SQLite allow 999 parameters."""

# PostgreSQL plans a LATERAL join once, and a UNION once for each portion. BETWEEN: see `_condition`.
LATERAL = f"""
SELECT given.number, portion.enqueued_at, portion.id
FROM unnest(%s::integer[], %s::bigint[], %s::bigint[]) AS given(number, label_set, most) CROSS JOIN LATERAL (
  SELECT enqueued_at, id FROM {TABLE} AS record
  WHERE {PENDING} AND record.label_set_id BETWEEN given.label_set AND given.label_set
  ORDER BY {{order}} LIMIT given.most) AS portion
"""


@dataclass(frozen=True, slots=True)
class LabelSet:
    """The records with a label set; None stands for those without labels."""

    pk: int | None


@dataclass(frozen=True, slots=True)
class Portion:
    """Records to read: up to ``count`` from one end of the pending records of a group.

    Attributes:
        count: the maximum of records.
        is_newest: whether to read from the newest end.
        of: the label set of the records; None for all records of the group.
    """

    count: int
    is_newest: bool
    of: LabelSet | None = None


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
    for statement, parameters in _statements(using, workspace, group, list(enumerate(portions))):
        for number, enqueued_at, pk in fetch(using, statement, parameters):
            positions[number].append(Position(enqueued_at, pk))
    # Neither UNION ALL nor a join promises an order.
    return [
        sorted(rows, reverse=portion.is_newest) for rows, portion in zip(positions, portions, strict=True)
    ]


def _statements(
    using: str, workspace: str, group: Group, numbered: Sequence[tuple[int, Portion]]
) -> Iterator[tuple[str, list[Any]]]:
    """Yield the statements that read portions, and the parameters of each."""
    rest = list(numbered)
    if connections[using].vendor == "postgresql":
        rest = [(number, portion) for number, portion in numbered if not (portion.of and portion.of.pk)]
        for is_newest in (False, True):
            joined = [
                (number, portion.of.pk, portion.count)
                for number, portion in numbered
                if portion.of and portion.of.pk and portion.is_newest is is_newest
            ]
            if joined:
                order = _order(order_within_set(using), is_newest=is_newest)
                arrays = [list(column) for column in zip(*joined, strict=True)]
                yield LATERAL.format(order=order), [*arrays, workspace, *group]
    for start in range(0, len(rest), MAX_PORTIONS):
        chunk = rest[start : start + MAX_PORTIONS]
        yield (
            " UNION ALL ".join([_select(using, number, portion) for number, portion in chunk]),
            [value for _, portion in chunk for value in _parameters(workspace, group, portion)],
        )


def fetch(using: str, statement: str, parameters: Sequence[Any]) -> list[Any]:
    """Execute a query and return all rows."""
    with connections[using].cursor() as cursor:
        cursor.execute(statement, parameters)
        return list(cursor.fetchall())


def index_hint(using: str, index: str) -> str:
    """Return what makes the planner use an index that exists. PostgreSQL has no such hint."""
    hints = {"mysql": f"FORCE INDEX ({index})", "sqlite": f"INDEXED BY {index}"}
    return hints.get(connections[using].vendor, "")


def order_within_set(using: str) -> tuple[str, ...]:
    """Return the columns that order the records of a label set so that the planner reads the index of shares.

    PostgreSQL may choose the index of pending records, which has the same order without the first column. MariaDB would
    sort with that column.
    """
    first = () if connections[using].vendor == "mysql" else ("label_set_id",)
    return (*first, "enqueued_at", "id")


def _select(using: str, number: int, portion: Portion) -> str:
    hint = index_hint(using, SHARES_INDEX if portion.of else PENDING_INDEX)
    columns = order_within_set(using) if portion.of else ("enqueued_at", "id")
    order = _order(columns, is_newest=portion.is_newest)
    return f"""SELECT * FROM (
        SELECT {number} AS number, enqueued_at, id FROM {TABLE} {hint} WHERE {PENDING} {_condition(portion)}
        ORDER BY {order} LIMIT %s) AS portion_{number}"""


def _order(columns: Sequence[str], *, is_newest: bool) -> str:
    return ", ".join(f"{column} {'DESC' if is_newest else 'ASC'}" for column in columns)


def _condition(portion: Portion) -> str:
    if portion.of is None:
        return ""
    # With `label_set_id = %s`, PostgreSQL would ignore the column in the order.
    return "AND label_set_id IS NULL" if portion.of.pk is None else "AND label_set_id BETWEEN %s AND %s"


def _parameters(workspace: str, group: Group, portion: Portion) -> list[Any]:
    only = [portion.of.pk] * 2 if portion.of and portion.of.pk is not None else []
    return [workspace, *group, *only, portion.count]

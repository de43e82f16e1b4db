"""Names that the group scan's SQL shares on all databases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ...models import OutboxRecord

TABLE = OutboxRecord._meta.db_table
INDEX = "evermuse_record_pending"
"""The index of pending records: workspace, type, product id, ``enqueued_at``, id."""

PENDING = "batch_id IS NULL AND closed_as IS NULL AND workspace = %s"
"""The condition of the partial index; the query must repeat it to use the index."""

Query = tuple[str, list[Any]]
"""A statement and its parameters."""


class CountedGroup(NamedTuple):
    """A group and where to count its pending records: from a resume point up to ``limit``."""

    type: str
    product_id: str
    limit: int
    enqueued_at: Any
    """As the database's driver expects it."""
    pk: int


def union_of_counts(workspace: str, groups: Sequence[CountedGroup], index_hint: str = "") -> Query:
    """Return one count for each group, joined by UNION ALL, for databases without LATERAL joins."""
    count = f"""
        SELECT %s AS position, COUNT(*) AS count, MIN(enqueued_at) AS oldest FROM (
          SELECT enqueued_at FROM {TABLE} {index_hint} WHERE {PENDING} AND type = %s AND product_id = %s
            AND enqueued_at >= %s
          ORDER BY enqueued_at, id LIMIT %s) AS first
    """
    rows = [
        (position, workspace, group.type, group.product_id, group.enqueued_at, group.limit)
        for position, group in enumerate(groups)
    ]
    return " UNION ALL ".join([count] * len(groups)), [value for row in rows for value in row]


def union_of_positions(
    workspace: str, positions: Sequence[tuple[tuple[str, str], int]], index_hint: str = ""
) -> Query:
    """Return the time of the pending record at each position of its group, joined by UNION ALL."""
    record = f"""
        SELECT * FROM (
          SELECT %s AS number, enqueued_at FROM {TABLE} {index_hint} WHERE {PENDING} AND type = %s AND product_id = %s
          ORDER BY enqueued_at, id LIMIT 1 OFFSET %s) AS record
    """
    rows = [(number, workspace, *group, offset) for number, (group, offset) in enumerate(positions)]
    return " UNION ALL ".join([record] * len(rows)), [value for row in rows for value in row]

"""The group scan on MySQL and MariaDB.

DISTINCT over a prefix of an index is a skip scan there. With MIN in the same query it is not, so the oldest record of
each group comes from a subquery.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..scheduling import Group
from .sql_common import INDEX, PENDING, TABLE, CountedGroup, Query, union_of_counts

INDEX_HINT = f"FORCE INDEX ({INDEX})"

GROUPS = f"""
SELECT type, product_id, (
  SELECT enqueued_at FROM {TABLE} AS record {INDEX_HINT}
  WHERE {PENDING} AND record.type = known.type AND record.product_id = known.product_id
  ORDER BY enqueued_at, id LIMIT 1), 0
FROM (
  SELECT DISTINCT batch_id, closed_as, workspace, type, product_id FROM {TABLE} {INDEX_HINT}
  WHERE {PENDING} AND (type > %s OR type = %s AND product_id > %s) LIMIT %s) AS known
"""


def groups_query(workspace: str, after: Group, limit: int) -> Query:
    """Return the SQL and parameters of a skip scan that starts after the group ``after``.

    The id of the oldest record is given as 0.
    """
    return GROUPS, [workspace, workspace, after[0], *after, limit]


def counts_query(workspace: str, groups: Sequence[CountedGroup]) -> Query:
    """Return the limited count of each group."""
    return union_of_counts(workspace, groups, INDEX_HINT)

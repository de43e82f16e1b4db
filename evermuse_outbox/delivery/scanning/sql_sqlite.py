"""The group scan on SQLite: the same recursive skip scan as on PostgreSQL, without resume points.

SQLite would use the index for the type alone if a step compared ``(type, product_id) > (…)``. So a step first looks
for the next product of the same type, then for the next type.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..scheduling import Group
from .sql_common import PENDING, TABLE, CountedGroup, Query, union_of_counts

FIRST_OF_GROUP = "ORDER BY type, product_id, enqueued_at, id LIMIT 1"

GROUPS = f"""
WITH RECURSIVE walk(id) AS (
  SELECT (SELECT id FROM {TABLE} WHERE {PENDING} AND (type, product_id) > (%s, %s) {FIRST_OF_GROUP})
  UNION ALL
  SELECT COALESCE(
    (SELECT id FROM {TABLE} WHERE {PENDING} AND type = here.type AND product_id > here.product_id
      ORDER BY product_id, enqueued_at, id LIMIT 1),
    (SELECT id FROM {TABLE} WHERE {PENDING} AND type > here.type {FIRST_OF_GROUP}))
  FROM walk JOIN {TABLE} AS here ON here.id = walk.id
) SELECT type, product_id, enqueued_at, oldest.id FROM walk JOIN {TABLE} AS oldest ON oldest.id = walk.id LIMIT %s
"""


def groups_query(workspace: str, after: Group, limit: int) -> Query:
    """Return the SQL and parameters of a skip scan that starts after the group ``after``."""
    return GROUPS, [workspace, *after, workspace, workspace, limit]


def counts_query(workspace: str, groups: Sequence[CountedGroup]) -> Query:
    """Return the limited count of each group."""
    return union_of_counts(workspace, groups)

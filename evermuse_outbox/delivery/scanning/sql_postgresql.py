"""The group scan on PostgreSQL.

PostgreSQL has no index skip scan for DISTINCT. The recursive query does one: each step reads one entry of the index. It
also jumps over the dead tuples before each known resume point, which are index entries of sealed records. There may be
millions of them while an old transaction is open, and each scan would read them again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..scheduling import Group, ResumePoint
from .sql_common import PENDING, TABLE, CountedGroup, Query

FIRST_OF_GROUP = "ORDER BY type, product_id, enqueued_at, id LIMIT 1"

NO_RESUME_POINT = "(NULL::varchar, NULL::varchar, NULL::timestamptz, NULL::bigint)"
"""Gives the VALUES list its types, even if there is no resume point."""

# Three ways to take a step, tried in this order:
#   1. the next group that lies before the next known one,
#   2. the next known group, from its resume point on (its id is NULL if the group is empty),
#   3. after the last known group: the next group.
# `passed` counts the known groups up to the current one.
GROUPS = f"""
WITH RECURSIVE known AS (
  SELECT *, row_number() OVER (ORDER BY type, product_id) AS number
  FROM (VALUES {{resume_points}}) AS given(type, product_id, since, pk) WHERE type IS NOT NULL
),
walk AS (
  SELECT start.*, NULL::timestamptz AS enqueued_at, NULL::bigint AS id,
    (SELECT COUNT(*) FROM known WHERE (known.type, known.product_id) <= (start.type, start.product_id)) AS passed
  FROM (VALUES (%s::varchar, %s::varchar)) AS start(type, product_id)
  UNION ALL
  SELECT step.* FROM walk LEFT JOIN known AS next ON next.number = walk.passed + 1
  CROSS JOIN LATERAL (
    (SELECT type, product_id, enqueued_at, id, walk.passed FROM {TABLE} WHERE {PENDING}
      AND (type, product_id) > (walk.type, walk.product_id) AND (type, product_id) < (next.type, next.product_id)
      {FIRST_OF_GROUP})
    UNION ALL
    (SELECT next.type, next.product_id, first.enqueued_at, first.id, next.number
      FROM (VALUES (1)) AS one_row LEFT JOIN LATERAL (
      SELECT enqueued_at, id FROM {TABLE} WHERE {PENDING}
        AND type = next.type AND product_id = next.product_id AND (enqueued_at, id) >= (next.since, next.pk)
      ORDER BY enqueued_at, id LIMIT 1) AS first ON TRUE WHERE next.type IS NOT NULL)
    UNION ALL
    (SELECT type, product_id, enqueued_at, id, walk.passed FROM {TABLE} WHERE {PENDING}
      AND next.type IS NULL AND (type, product_id) > (walk.type, walk.product_id)
      {FIRST_OF_GROUP})
    LIMIT 1) AS step
) SELECT type, product_id, enqueued_at, id FROM walk WHERE id IS NOT NULL LIMIT %s
"""

# A LATERAL join is planned once. A UNION of counts is planned once for each group.
COUNTS = f"""
SELECT position, counted.count, counted.oldest
FROM (VALUES {{groups}}) AS given(position, type, product_id, most, since, pk) CROSS JOIN LATERAL (
  SELECT COUNT(*) AS count, MIN(enqueued_at) AS oldest FROM (
    SELECT enqueued_at FROM {TABLE} AS record
    WHERE {PENDING} AND record.type = given.type AND record.product_id = given.product_id
      AND (enqueued_at, id) >= (given.since, given.pk)
    ORDER BY enqueued_at, id LIMIT given.most) AS first) AS counted
"""


def groups_query(
    workspace: str, after: Group, limit: int, resume_points: Mapping[Group, ResumePoint]
) -> Query:
    """Return the SQL and parameters of a skip scan that starts after the group ``after``."""
    values = ", ".join([NO_RESUME_POINT, *["(%s, %s, %s, %s)"] * len(resume_points)])
    known = [value for group, point in resume_points.items() for value in (*group, *point)]
    return GROUPS.format(resume_points=values), [*known, *after, workspace, workspace, workspace, limit]


def counts_query(workspace: str, groups: Sequence[CountedGroup]) -> Query:
    """Return the limited count of each group."""
    values = ", ".join(["(%s, %s, %s, %s, %s::timestamptz, %s::bigint)"] * len(groups))
    rows = [value for position, group in enumerate(groups) for value in (position, *group)]
    return COUNTS.format(groups=values), [*rows, workspace]

"""The SQL that finds the label sets of the pending records of a group.

With the index of shares, it is a skip scan: one step for each set, however many records are pending. Without it, it
reads a bounded number of records from both ends of the group.
"""

from __future__ import annotations

from typing import Any

from django.db import connections

from ...indexing import SHARES_INDEX
from ..scheduling import Group
from .sql_portions import PENDING, PENDING_INDEX, TABLE, fetch, index_hint, order_within_set

FIRST_OF_SET = "ORDER BY label_set_id, enqueued_at, id LIMIT 1"

WALK = f"""
WITH RECURSIVE walk(id) AS (
  SELECT (SELECT id FROM {TABLE} {{hint}} WHERE {PENDING} AND label_set_id > %s {FIRST_OF_SET})
  UNION ALL
  SELECT (SELECT id FROM {TABLE} {{hint}} WHERE {PENDING} AND label_set_id > here.label_set_id {FIRST_OF_SET})
  FROM walk JOIN {TABLE} AS here ON here.id = walk.id
) SELECT label_set_id, enqueued_at FROM (SELECT id FROM walk WHERE id IS NOT NULL LIMIT %s) AS steps
JOIN {TABLE} AS first ON first.id = steps.id
"""

# DISTINCT over a prefix of an index is a skip scan in MySQL and MariaDB, and recursive queries have no LIMIT inside.
DISTINCT = f"""
SELECT label_set_id, (
  SELECT enqueued_at FROM {TABLE} AS record {{hint}} WHERE {PENDING} AND record.label_set_id = known.label_set_id
  ORDER BY enqueued_at, id LIMIT 1)
FROM (
  SELECT DISTINCT batch_id, closed_as, workspace, type, product_id, label_set_id FROM {TABLE} {{hint}}
  WHERE {PENDING} AND label_set_id > %s ORDER BY label_set_id LIMIT %s) AS known
"""

WITHOUT_LABELS = f"""
SELECT label_set_id, enqueued_at FROM {TABLE} {{hint}} WHERE {PENDING} AND label_set_id IS NULL
ORDER BY {{order}} LIMIT 1
"""

SAMPLE = f"""
SELECT label_set_id, enqueued_at, id FROM {TABLE} {{hint}} WHERE {PENDING}
ORDER BY enqueued_at {{direction}}, id {{direction}} LIMIT %s
"""


def read_label_sets(using: str, workspace: str, group: Group, after: int, limit: int) -> list[Any]:
    """Return up to ``limit`` label sets with a larger id than ``after``, each with its oldest time. Needs the index."""
    is_mysql = connections[using].vendor == "mysql"
    statement = (DISTINCT if is_mysql else WALK).format(hint=index_hint(using, SHARES_INDEX))
    names = [workspace, *group]
    parameters = [*names, *names, after, limit] if is_mysql else [*names, after, *names, limit]
    return sorted(fetch(using, statement, parameters))


def read_oldest_without_labels(using: str, workspace: str, group: Group) -> list[Any]:
    """Return the label set None with the time of its oldest record; nothing if all have labels. Needs the index."""
    order = ", ".join(order_within_set(using))
    statement = WITHOUT_LABELS.format(hint=index_hint(using, SHARES_INDEX), order=order)
    return fetch(using, statement, [workspace, *group])


def read_sample(using: str, workspace: str, group: Group, limit: int, *, is_newest: bool) -> list[Any]:
    """Return the label set, time and id of the records at one end of a group."""
    direction = "DESC" if is_newest else "ASC"
    statement = SAMPLE.format(hint=index_hint(using, PENDING_INDEX), direction=direction)
    return fetch(using, statement, [workspace, *group, limit])

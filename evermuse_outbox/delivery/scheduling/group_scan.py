"""Which groups have pending records, since when, and whether these fill a request: by steps through the index of
pending records, however many there are.

A group costs one step. The databases need to be told so, each in its own words: left to themselves they walk the index
from end to end to find the groups in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

from django.conf import settings
from django.db import connections

from ...models import OutboxRecord
from ..context.context import DeliveryContext
from .run_queue import Head
from .scheduler import Group

TABLE = OutboxRecord._meta.db_table
INDEX = "evermuse_record_pending"
PENDING = "batch_id IS NULL AND closed_as IS NULL AND workspace = %s"
BY_GROUP = "ORDER BY type, product_id, enqueued_at, id LIMIT 1"

NO_HEAD = "(NULL::varchar, NULL::varchar, NULL::timestamptz, NULL::bigint)"

POSTGRESQL = f"""
WITH RECURSIVE known AS (
  SELECT *, row_number() OVER (ORDER BY type, product_id) AS number
  FROM (VALUES {{heads}}) AS told(type, product_id, since, pk) WHERE type IS NOT NULL
),
walk AS (
  SELECT after.*, NULL::timestamptz AS enqueued_at, NULL::bigint AS id,
    (SELECT COUNT(*) FROM known WHERE (known.type, known.product_id) <= (after.type, after.product_id)) AS passed
  FROM (VALUES (%s::varchar, %s::varchar)) AS after(type, product_id)
  UNION ALL
  SELECT step.* FROM walk LEFT JOIN known AS next ON next.number = walk.passed + 1
  CROSS JOIN LATERAL (
    (SELECT type, product_id, enqueued_at, id, walk.passed FROM {TABLE} WHERE {PENDING}
      AND (type, product_id) > (walk.type, walk.product_id) AND (type, product_id) < (next.type, next.product_id)
      {BY_GROUP})
    UNION ALL
    (SELECT next.type, next.product_id, first.enqueued_at, first.id, next.number
      FROM (VALUES (1)) AS one LEFT JOIN LATERAL (
      SELECT enqueued_at, id FROM {TABLE} WHERE {PENDING}
        AND type = next.type AND product_id = next.product_id AND (enqueued_at, id) >= (next.since, next.pk)
      ORDER BY enqueued_at, id LIMIT 1) AS first ON TRUE WHERE next.type IS NOT NULL)
    UNION ALL
    (SELECT type, product_id, enqueued_at, id, walk.passed FROM {TABLE} WHERE {PENDING}
      AND next.type IS NULL AND (type, product_id) > (walk.type, walk.product_id)
      {BY_GROUP})
    LIMIT 1) AS step
) SELECT type, product_id, enqueued_at, id FROM walk WHERE id IS NOT NULL LIMIT %s
"""
"""The loose index scan that PostgreSQL does not do by itself. A step goes to the next group before the next one of
which the head is known, or else to that head, or behind the last of them to the next group; ``passed`` counts the
known ones. So it goes past the traces that lie before a head, of which there may be millions."""

SQLITE = f"""
WITH RECURSIVE walk(id) AS (
  SELECT (SELECT id FROM {TABLE} WHERE {PENDING} AND (type, product_id) > (%s, %s) {BY_GROUP})
  UNION ALL
  SELECT COALESCE(
    (SELECT id FROM {TABLE} WHERE {PENDING} AND type = here.type AND product_id > here.product_id
      ORDER BY product_id, enqueued_at, id LIMIT 1),
    (SELECT id FROM {TABLE} WHERE {PENDING} AND type > here.type {BY_GROUP}))
  FROM walk JOIN {TABLE} AS here ON here.id = walk.id
) SELECT type, product_id, enqueued_at, found.id FROM walk JOIN {TABLE} AS found ON found.id = walk.id LIMIT %s
"""
"""The same; with (type, product_id) > (here.type, …) it would use the index for the type alone."""

MYSQL = f"""
SELECT type, product_id, (
  SELECT enqueued_at FROM {TABLE} AS one FORCE INDEX ({INDEX})
  WHERE {PENDING} AND one.type = known.type AND one.product_id = known.product_id
  ORDER BY enqueued_at, id LIMIT 1), 0
FROM (
  SELECT DISTINCT batch_id, closed_as, workspace, type, product_id FROM {TABLE} FORCE INDEX ({INDEX})
  WHERE {PENDING} AND (type > %s OR type = %s AND product_id > %s) LIMIT %s) AS known
"""
"""DISTINCT over a beginning of the index is a loose index scan there; with MIN beside it, it is none."""


BEGINNING = datetime(1970, 1, 2, tzinfo=UTC)
"""Before any record was enqueued, in any time zone."""


class Oldest(NamedTuple):
    """A group, and the longest waiting of its records."""

    group: Group
    head: Head


class Depth(NamedTuple):
    """How many records wait in a group, counted no further than was asked, and since when."""

    records: int
    enqueued_at: datetime | None


def scan_groups(
    context: DeliveryContext, after: Group, most: int, heads: Mapping[Group, Head]
) -> list[Oldest]:
    """The groups with pending records behind ``after``, ``most`` of them, in the order of the index.

    ``heads`` is where to begin in groups of which it is known; only PostgreSQL heeds it, as it keeps traces for long.
    """
    rows = _rows(context, *_walk(context, after, most, heads))
    read = _reader_of_moments(context)
    return [Oldest((kind, product), Head(read(at), pk)) for kind, product, at, pk in rows if at is not None]


def count_pending(
    context: DeliveryContext, most: Mapping[Group, int], heads: Mapping[Group, Head]
) -> dict[Group, Depth]:
    """How many records wait in each of these groups, counted up to the given number, in one query.

    ``heads`` is where to begin, for groups of which it is known.
    """
    if not most:
        return {}
    groups, first = list(most), Head(_beginning(), 0)
    is_postgres = connections[context.using].vendor == "postgresql"
    write = _writer_of_moments(context)
    wanted = [
        (*group, most[group], write(head.enqueued_at), head.pk)
        for group in groups
        for head in (heads.get(group, first),)
    ]
    query = (_by_lateral_join if is_postgres else _by_union)(context, wanted)
    read = _reader_of_moments(context)
    return {groups[number]: Depth(count, read(moment)) for number, count, moment in _rows(context, *query)}


def _walk(
    context: DeliveryContext, after: Group, most: int, heads: Mapping[Group, Head]
) -> tuple[str, list[Any]]:
    name = context.workspace_name
    match connections[context.using].vendor:
        case "postgresql":
            known = [value for group, head in heads.items() for value in (*group, *head)]
            query = POSTGRESQL.format(heads=", ".join([NO_HEAD, *["(%s, %s, %s, %s)"] * len(heads)]))
            return query, [*known, *after, name, name, name, most]
        case "sqlite":
            return SQLITE, [name, *after, name, name, most]
        case _:
            return MYSQL, [name, name, after[0], *after, most]


Wanted = tuple[str, str, int, Any, int]
"""``_type``, ``_product_id``, up to how many to count, and the moment and id from where on."""


def _by_lateral_join(context: DeliveryContext, wanted: Sequence[Wanted]) -> tuple[str, list[Any]]:
    """Planned once, not once a group."""
    values = ", ".join(["(%s, %s, %s, %s, %s::timestamptz, %s::bigint)"] * len(wanted))
    query = f"""
        SELECT number, deep.count, deep.oldest
        FROM (VALUES {values}) AS wanted(number, type, product_id, most, since, pk) CROSS JOIN LATERAL (
          SELECT COUNT(*) AS count, MIN(enqueued_at) AS oldest FROM (
            SELECT enqueued_at FROM {TABLE} AS one
            WHERE {PENDING} AND one.type = wanted.type AND one.product_id = wanted.product_id
              AND (enqueued_at, id) >= (wanted.since, wanted.pk)
            ORDER BY enqueued_at, id LIMIT wanted.most) AS first) AS deep
    """
    told = [value for number, one in enumerate(wanted) for value in (number, *one)]
    return query, [*told, context.workspace_name]


def _by_union(context: DeliveryContext, wanted: Sequence[Wanted]) -> tuple[str, list[Any]]:
    hint = f"FORCE INDEX ({INDEX})" if connections[context.using].vendor == "mysql" else ""
    one = f"""
        SELECT %s AS number, COUNT(*) AS count, MIN(enqueued_at) AS oldest FROM (
          SELECT enqueued_at FROM {TABLE} {hint} WHERE {PENDING} AND type = %s AND product_id = %s
            AND enqueued_at >= %s
          ORDER BY enqueued_at, id LIMIT %s) AS first
    """
    told = [
        (number, context.workspace_name, kind, product, since, most)
        for number, (kind, product, most, since, _) in enumerate(wanted)
    ]
    return " UNION ALL ".join([one] * len(wanted)), [value for values in told for value in values]


def _rows(context: DeliveryContext, query: str, told: Iterable[Any]) -> list[Any]:
    with connections[context.using].cursor() as cursor:
        cursor.execute(query, list(told))
        return list(cursor.fetchall())


def _beginning() -> datetime:
    """As the project has its moments: where it knows no time zones, most databases take none."""
    return BEGINNING if settings.USE_TZ else BEGINNING.replace(tzinfo=None)


def _writer_of_moments(context: DeliveryContext) -> Any:
    """What Django does with a moment that it hands to that database."""
    field = OutboxRecord._meta.get_field("enqueued_at")
    return partial(field.get_db_prep_value, connection=connections[context.using])


def _reader_of_moments(context: DeliveryContext) -> Any:
    """What Django does with a moment that it reads from that database."""
    connection = connections[context.using]
    field = OutboxRecord._meta.get_field("enqueued_at")
    column = field.get_col(TABLE)
    converters = [*connection.ops.get_db_converters(column), *field.get_db_converters(connection)]

    def read(value: Any) -> Any:
        for convert in converters:
            value = convert(value, column, connection)
        return value

    return read

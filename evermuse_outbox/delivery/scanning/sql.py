"""Choose the SQL of the group scan by the database's vendor.

Django's ORM has no recursive query and no LATERAL join. Without them, a database reads every pending record to find the
groups among them. So this one query is raw SQL, with one module for each database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from django.db import NotSupportedError

from ..scheduling import Group, ResumePoint
from . import sql_mysql, sql_postgresql, sql_sqlite
from .sql_common import CountedGroup, Query, union_of_positions

NOT_SUPPORTED = "Workers cannot read a database of the vendor {!r}: use PostgreSQL, MariaDB, MySQL or SQLite."


def groups_query(
    vendor: str, workspace: str, after: Group, limit: int, resume_points: Mapping[Group, ResumePoint]
) -> Query:
    """Return the query for the groups with pending records after the group ``after``, in the order of the index.

    It gives ``limit`` rows at most: type, product id, ``enqueued_at`` and id of the group's oldest pending record.
    Only PostgreSQL uses ``resume_points``, because only PostgreSQL keeps dead tuples in the index for long.
    """
    match vendor:
        case "postgresql":
            return sql_postgresql.groups_query(workspace, after, limit, resume_points)
        case "sqlite":
            return sql_sqlite.groups_query(workspace, after, limit)
        case "mysql":  # Django's name for MariaDB, too
            return sql_mysql.groups_query(workspace, after, limit)
        case _:
            raise NotSupportedError(NOT_SUPPORTED.format(vendor))


def counts_query(vendor: str, workspace: str, groups: Sequence[CountedGroup]) -> Query:
    """Return the query for the number of pending records of each group, counted up to the group's limit.

    It gives one row for each group: the position in ``groups``, the number, and the oldest ``enqueued_at``.
    """
    match vendor:
        case "postgresql":
            return sql_postgresql.counts_query(workspace, groups)
        case "sqlite":
            return sql_sqlite.counts_query(workspace, groups)
        case "mysql":
            return sql_mysql.counts_query(workspace, groups)
        case _:
            raise NotSupportedError(NOT_SUPPORTED.format(vendor))


def positions_query(vendor: str, workspace: str, positions: Sequence[tuple[Group, int]]) -> Query:
    """Return the query for the pending records at positions of their groups, the oldest at 0.

    It gives a row for each position that exists: its number in ``positions``, and ``enqueued_at``.
    """
    return union_of_positions(workspace, positions, sql_mysql.INDEX_HINT if vendor == "mysql" else "")

"""The SQL of the group scan: one module for each database.

It must not be used for anything else; every other query of the package goes through the ORM.
Its public interface is ``groups_query`` and ``counts_query``, which choose the module by the database's vendor.

Django's ORM has no recursive query and no LATERAL join. Without them, a database reads every pending record to find the
groups among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..run_queue import ResumePoint
from ..scheduler import Group
from . import mysql, postgresql, sqlite
from .common import INDEX, TABLE, CountedGroup, Query

__all__ = ["INDEX", "TABLE", "CountedGroup", "Query", "counts_query", "groups_query"]


def groups_query(
    vendor: str, workspace: str, after: Group, limit: int, resume_points: Mapping[Group, ResumePoint]
) -> Query:
    """Return the query for the groups with pending records after the group ``after``, in the order of the index.

    It gives ``limit`` rows at most: type, product id, ``enqueued_at`` and id of the group's oldest pending record.
    Only PostgreSQL uses ``resume_points``, because only PostgreSQL keeps dead tuples in the index for long.
    """
    match vendor:
        case "postgresql":
            return postgresql.groups_query(workspace, after, limit, resume_points)
        case "sqlite":
            return sqlite.groups_query(workspace, after, limit)
        case _:
            return mysql.groups_query(workspace, after, limit)


def counts_query(vendor: str, workspace: str, groups: Sequence[CountedGroup]) -> Query:
    """Return the query for the number of pending records of each group, counted up to the group's limit.

    It gives one row for each group: the position in ``groups``, the number, and the oldest ``enqueued_at``.
    """
    match vendor:
        case "postgresql":
            return postgresql.counts_query(workspace, groups)
        case "sqlite":
            return sqlite.counts_query(workspace, groups)
        case _:
            return mysql.counts_query(workspace, groups)

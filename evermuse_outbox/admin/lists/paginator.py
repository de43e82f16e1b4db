"""Paging that never counts a whole table."""

from __future__ import annotations

from math import ceil
from typing import Any

from django.conf import settings
from django.core.paginator import Paginator
from django.db import DatabaseError, connections, models, transaction
from django.utils.functional import cached_property
from django.utils.translation import gettext as _

LIMIT = 10_000
"""Rows that are counted and paged through at most."""


class Rough(int):
    """A count that is not exact, and says so wherever it is shown.

    Where the project groups thousands, the plain number is shown: the sign would be taken for a digit.
    """

    sign = "{}+"

    def __str__(self) -> str:
        plain = int.__repr__(self)
        return plain if settings.USE_THOUSAND_SEPARATOR else self.sign.format(plain)


class Estimate(Rough):
    """What the database's statistics believe."""

    sign = "~{}"


class LimitedPaginator(Paginator):  # type: ignore[type-arg]
    """The unfiltered list by PostgreSQL's own estimate, everything else up to :data:`LIMIT` rows."""

    @cached_property
    def count(self) -> int:
        """The number of rows: exact up to :data:`LIMIT`, a :class:`Rough` one beyond."""
        rows: Any = self.object_list
        estimated = estimate(rows)
        if estimated > LIMIT:
            return Estimate(estimated)
        counted = rows.order_by().values("pk")[: LIMIT + 1].count()
        return Rough(LIMIT) if counted > LIMIT else counted

    @cached_property
    def num_pages(self) -> int:
        """Pages that can be reached: a page far behind costs as much as all rows before it."""
        return ceil(max(1, min(self.count, LIMIT)) / self.per_page)

    @property
    def note(self) -> str:
        """What to tell below a list that goes on behind its last page."""
        if not isinstance(self.count, Rough):
            return ""
        return _("Only the first %(limit)s can be paged through; filter or search for the others.") % {
            "limit": f"{LIMIT:,}"
        }


def estimate(rows: Any) -> int:
    """PostgreSQL's estimate of a table's rows; 0 where there is none, or where ``rows`` is not all of it."""
    if not isinstance(rows, models.QuerySet) or rows.query.where or rows.query.is_sliced:
        return 0
    connection = connections[rows.db]
    if connection.vendor != "postgresql":
        return 0
    table = connection.ops.quote_name(rows.model._meta.db_table)
    try:
        with transaction.atomic(using=rows.db), connection.cursor() as cursor:
            cursor.execute("SELECT reltuples::bigint FROM pg_class WHERE oid = %s::regclass", [table])
            found = cursor.fetchone()
    except DatabaseError:
        return 0
    return max(int(found[0]), 0) if found else 0

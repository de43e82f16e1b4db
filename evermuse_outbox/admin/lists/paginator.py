"""A paginator that never counts an entire large table."""

from __future__ import annotations

from math import ceil
from typing import Any

from django.conf import settings
from django.core.paginator import Paginator
from django.db import DatabaseError, connections, models, transaction
from django.utils.functional import cached_property
from django.utils.translation import gettext as _

MAX_ROWS = 10_000
"""Maximum number of rows that are counted and that pages can show. A query for a late page reads all rows before it."""


class LowerBound(int):
    """A count that is at least this number, shown as ``10000+``.

    With Django's setting ``USE_THOUSAND_SEPARATOR``, the number is shown without the sign, because Django would treat
    the sign as a digit.
    """

    sign = "{}+"

    def __str__(self) -> str:
        plain = int.__repr__(self)
        return plain if settings.USE_THOUSAND_SEPARATOR else self.sign.format(plain)


class Estimate(LowerBound):
    """A count from the statistics of the database, shown as ``~1234567``."""

    sign = "~{}"


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Count at most :data:`MAX_ROWS` rows; use PostgreSQL's estimate for an unfiltered list."""

    @cached_property
    def count(self) -> int:
        """The number of rows: exact up to :data:`MAX_ROWS`, otherwise a :class:`LowerBound`."""
        rows: Any = self.object_list
        estimate = estimate_rows(rows)
        if estimate > MAX_ROWS:
            return Estimate(estimate)
        count = rows.order_by().values("pk")[: MAX_ROWS + 1].count()
        return LowerBound(MAX_ROWS) if count > MAX_ROWS else count

    @cached_property
    def num_pages(self) -> int:
        """The number of pages that the list links to."""
        return ceil(max(1, min(self.count, MAX_ROWS)) / self.per_page)

    @property
    def note(self) -> str:
        """The hint below a list that has more rows than its pages show; empty for other lists."""
        if not isinstance(self.count, LowerBound):
            return ""
        return _("Pages show only the first %(limit)s rows. Filter or search to find the others.") % {
            "limit": f"{MAX_ROWS:,}"
        }


def estimate_rows(rows: Any) -> int:
    """Return PostgreSQL's estimate of the rows in a table.

    Returns 0 if there is no estimate, or if ``rows`` is only a part of the table.
    """
    if not isinstance(rows, models.QuerySet) or rows.query.where or rows.query.is_sliced:
        return 0
    connection = connections[rows.db]
    if connection.vendor != "postgresql":
        return 0
    table = connection.ops.quote_name(rows.model._meta.db_table)
    try:
        with transaction.atomic(using=rows.db), connection.cursor() as cursor:
            cursor.execute("SELECT reltuples::bigint FROM pg_class WHERE oid = %s::regclass", [table])
            row = cursor.fetchone()
    except DatabaseError:
        return 0
    return max(int(row[0]), 0) if row else 0

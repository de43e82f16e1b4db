"""Upper limits of the rows that a filter reads.

Columns without an index would make a filter read the complete table. Such a filter reads the newest rows only.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext as _

from ...models import CLOSING, RecordState

MAX_SKEW = timedelta(seconds=30)
"""Maximum difference between the order of ids and the order of ``enqueued_at``.

Both are the database's. They differ because a record gets them at slightly different times, and after a failover to a
server with another clock.
"""

MAX_SCANNED = 200_000
"""Maximum number of records that a filter without an index reads. It reads the newest ones."""

CLOSED = {state.value for state in CLOSING}
"""States of records that have an index of their own."""

NARROWING = {
    "state": {state.value for state in RecordState} - {RecordState.DELIVERED.value},
    "age": {"hour", "day", "week"},
}
"""Values of filters that leave few records. Most records are delivered, so this state is not among them."""

NARROWING_PARAMETERS = (
    "q",
    "batch__id__exact",
    "code",
    "signature",
    "error",
    "again",
    "attachments",
    "since",
    "run",
    "label",
    "rule",
)
"""Parameters that leave few records with any value."""


def is_narrowed(request: HttpRequest) -> bool:
    """Return whether another filter of the list leaves few records."""
    parameters = request.GET
    if any(parameters.get(name) for name in NARROWING_PARAMETERS):
        return True
    return any(parameters.get(name) in values for name, values in NARROWING.items())


def bounded_title(title: Any, *, is_bounded: bool) -> Any:
    """Return the title of a filter, and how many rows it reads if that is limited."""
    if not is_bounded:
        return title
    return _("%(title)s, among the newest %(newest)s") % {"title": title, "newest": f"{MAX_SCANNED:,}"}


def newest(rows: Any) -> Any:
    """Return those of the records that are among the newest :data:`MAX_SCANNED` of all."""
    ids = rows.model.rows.using(rows.db).order_by("-pk").values_list("pk", flat=True)
    return rows.filter(pk__gt=(ids.first() or 0) - MAX_SCANNED)


def with_closed_state(rows: Any, state: str) -> Any:
    """Return the records in a state of :data:`CLOSED`, for the order :data:`CLOSED_ORDER`.

    The condition is a range. With an equality, planners leave the state out of the order, and then read the primary key
    from its end, through all records in other states.
    """
    return rows.filter(closed_as__gte=state, closed_as__lte=state)


CLOSED_ORDER = ("-closed_as", "-pk")
"""The newest first among the records of one closed state: the order of their index."""


def first_id_since(rows: Any, at: datetime) -> int:
    """Return the lowest id of the records that were enqueued at ``at`` or later.

    It assumes that ids and times have the same order, so the true time can differ by up to :data:`MAX_SKEW`. A binary
    search over the ids costs about 20 small queries for a million records.
    """
    table = rows.model.rows.using(rows.db)
    ids = table.order_by("pk").values_list("pk", flat=True)
    low, high = ids.first() or 1, (ids.last() or 0) + 1
    while low < high:
        middle = (low + high) // 2
        row = table.filter(pk__gte=middle).order_by("pk").values_list("pk", "enqueued_at").first()
        if row is None or row[1] >= at:
            high = middle
        else:
            low = row[0] + 1
    return low

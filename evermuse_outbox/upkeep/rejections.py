"""Rejected records that a newer version has corrected, and the signatures of older rejections.

A rejected record counts as a failure until an operator ends it. If Evermuse has a newer version of it, there is nothing
left to do. No batch pays for this: the rejected records are read in parts, one part in each run.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from django.db.models import OuterRef, Subquery

from ..models import OutboxRecord, OutboxRejection, RecordState, signature_of

RECORDS_PER_RUN = 500
"""Rejected records that one run examines."""

REJECTIONS_PER_RUN = 500
"""Rejections without a signature that one run completes."""

PASS_INTERVAL = 30.0
"""Seconds of this process between the end of a pass over all rejected records and the next one."""


@dataclass(slots=True)
class CorrectionCursor:
    """How far this process has examined the rejected records of one database.

    ``rests_until`` is a time of the monotonic clock. If the cursor is lost, the next pass begins again.
    """

    after: int = 0
    rests_until: float = float("-inf")


_cursors: dict[str, CorrectionCursor] = {}


def correct_rejected_sometimes(using: str) -> int:
    """Examine the next part of the rejected records, unless a pass ended a short time ago; return how many changed."""
    cursor = _cursors.setdefault(using, CorrectionCursor())
    now = time.monotonic()
    if now < cursor.rests_until:
        return 0
    return correct_rejected(using, cursor, now)


def correct_rejected(using: str, cursor: CorrectionCursor, now: float = 0.0) -> int:
    """Change the next rejected records to superseded if Evermuse has a newer version of them. Return how many.

    Args:
        using: the database alias.
        cursor: the resume point.
        now: the time of the monotonic clock.
    """
    page = _read_rejected(using, cursor.after)
    count = OutboxRecord.rows.using(using).correct({pk: newer for pk, newer in page if newer})
    if len(page) < RECORDS_PER_RUN:
        cursor.after, cursor.rests_until = 0, now + PASS_INTERVAL
    else:
        cursor.after = page[-1][0]
    return count


def _read_rejected(using: str, after: int) -> list[tuple[int, int | None]]:
    """Return ids of rejected records, each with its newest delivered later version or None."""
    records = OutboxRecord.rows.using(using)
    later = OutboxRecord.rows.filter(identity=OuterRef("identity"), pk__gt=OuterRef("pk")).delivered()
    # A range instead of an equality, as in the purge: the order then leads every planner to the index.
    state = RecordState.REJECTED
    rejected: Any = records.filter(closed_as__gte=state, closed_as__lte=state, pk__gt=after)
    newer = Subquery(later.order_by("-pk").values("pk")[:1])
    rows = rejected.order_by("closed_as", "pk").annotate(newer_delivered=newer)
    return list(rows.values_list("pk", "newer_delivered")[:RECORDS_PER_RUN])


def complete_signatures(using: str) -> int:
    """Fill the signature of older rejections, which were stored before there was one. Return how many."""
    rows = OutboxRejection.objects.using(using)
    page = list(rows.filter(signature="").only("pk", "message")[:REJECTIONS_PER_RUN])
    if not page:
        return 0
    for row in page:
        row.signature = signature_of(row.message)
    return rows.bulk_update(page, ["signature"], batch_size=REJECTIONS_PER_RUN)

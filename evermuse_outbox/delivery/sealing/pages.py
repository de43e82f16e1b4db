"""Read pages of pending records and lock them.

One statement reads all that sealing needs to know of a page: the records with their lines, which of them have other
versions, whether the group is paused, whether a standing rule applies, and where the page ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from django.db import connections
from django.db.models import Exists, ExpressionWrapper, F, Field, OuterRef, Subquery

from ...evermuse import limits
from ...models import (
    STILL_PENDING,
    OutboxDeferral,
    OutboxGroup,
    OutboxRecord,
    RecordQuerySet,
    as_datetime,
    by_id,
    is_after,
)
from ..context import DeliveryContext
from ..ordering import ChooseRecords
from ..rules import has_rules
from ..scheduling import Group, ResumePoint
from .batches import PAYLOAD_IF_SMALL, PendingRecord
from .versions import sole_versions

MAX_PAGES, PAGE_GROWTH = 5, 4
"""Pages of pending records that are read for one batch. Records that are blocked by an earlier version may fill the
first ones. The first page is one request. Each further page is four times as large, up to
``limits.MAX_BATCH_RECORDS``."""

UNCONVERTED_TIME: Any = ExpressionWrapper(F("enqueued_at"), output_field=Field())
"""``enqueued_at`` as the driver returns it. Of a page, only one or two values are converted."""

COLUMNS = len(PendingRecord._fields)


@dataclass(frozen=True, slots=True)
class Page:
    """Locked pending records in the order of sealing.

    ``sole`` has the ids of the records without another version. ``is_paused`` says whether the group is paused or held.
    ``is_any_due`` says whether a deferral of the workspace is due, so that a record of the page may have expired.
    ``has_rules`` says whether an active standing rule applies to the workspace.
    """

    using: str
    records: list[PendingRecord]
    sole: set[int]
    is_paused: bool
    is_any_due: bool
    has_rules: bool
    _times: dict[int, Any]

    def position_of(self, record: PendingRecord) -> ResumePoint:
        """Return where a record of the page is in the order of sealing."""
        return ResumePoint(as_datetime(self.using, self._times[record.pk]), record.pk)


def read_locked_pages(
    context: DeliveryContext, group: Group, waiting: RecordQuerySet, size: int
) -> Iterator[Page]:
    """Yield the waiting records of a group page by page and lock them. The first page has up to ``size`` records.

    Skip records that another transaction has locked. Needs the sealing lock.
    """
    rows = waiting = _locked(context, waiting)
    for _ in range(MAX_PAGES):
        page = read_page(context, group, rows[:size])
        count = len(page.records)
        yield _exactly_of(group, page)
        if count < size:
            return
        last = page.position_of(page.records[-1])
        rows = waiting.filter(is_after("enqueued_at", last.enqueued_at, last.pk))
        size = min(PAGE_GROWTH * size, limits.MAX_BATCH_RECORDS)


def read_chosen_pages(
    context: DeliveryContext, group: Group, choose: ChooseRecords, size: int
) -> Iterator[Page]:
    """Do what :func:`read_locked_pages` does, with the records of another order."""
    read: set[int] = set()
    for _ in range(MAX_PAGES):
        chosen = [pk for pk in choose(len(read) + size) if pk not in read]
        if not chosen:
            return
        rows = OutboxRecord.rows.using(context.using).filter(by_id(chosen), STILL_PENDING).order_by("pk")
        page = read_page(context, group, _locked(context, rows))
        rank = {pk: number for number, pk in enumerate(chosen)}
        page.records.sort(key=lambda record: rank[record.pk])
        yield _exactly_of(group, page)
        if len(chosen) < size:
            return
        read.update(chosen)
        size = min(PAGE_GROWTH * size, limits.MAX_BATCH_RECORDS)


def _locked(context: DeliveryContext, rows: RecordQuerySet) -> RecordQuerySet:
    """Let the query lock its rows and skip those that another transaction has locked, if the database can."""
    if connections[context.using].features.has_select_for_update_skip_locked:
        return rows.select_for_update(skip_locked=True)
    return rows


def read_page(context: DeliveryContext, group: Group, rows: RecordQuerySet) -> Page:
    """Read a page of records of a group, and what sealing needs to know of them."""
    contract = context.workspace.contract
    stops = OutboxGroup.objects.using(context.using).stops(context.workspace_name, *group, contract=contract)
    due = OutboxDeferral.objects.using(context.using).due(context.workspace_name, context.clock.now())
    columns = {
        "time": UNCONVERTED_TIME,
        "stop": Subquery(stops.values("state")[:1]),
        "due": Exists(due.order_by()),
        "rules": has_rules(context.workspace_name),
    }
    # On MySQL and MariaDB, a locking read finds rows that were committed after it began, and its subqueries do not.
    # Two versions that were committed meanwhile would both count as sole versions.
    sees_versions = connections[context.using].vendor != "mysql"
    if sees_versions:
        # As `sole_versions` of the QuerySet does; but here a record with another version is read, too.
        others = OutboxRecord.rows.filter(identity=OuterRef("identity")).exclude(pk=OuterRef("pk"))
        columns["other"] = Subquery(others.order_by().values("pk")[:1])
    rows = rows.annotate(line=PAYLOAD_IF_SMALL, **columns)
    read = list(rows.values_list(*PendingRecord._fields, *columns))
    records = [PendingRecord._make(row[:COLUMNS]) for row in read]
    alone = {row[0] for row in read if row[-1] is None} if sees_versions else sole_versions(context, records)
    is_paused = bool(read) and read[0][COLUMNS + 1] is not None
    is_any_due = bool(read) and bool(read[0][COLUMNS + 2])
    is_ruled = bool(read) and bool(read[0][COLUMNS + 3])
    times = {row[0]: row[COLUMNS] for row in read}
    return Page(context.using, records, alone, is_paused, is_any_due, is_ruled, times)


def _exactly_of(group: Group, page: Page) -> Page:
    """Return the page with the records of exactly this group.

    A database may compare without regard to case; Evermuse does not.
    """
    records = [record for record in page.records if (record.type, record.product_id) == group]
    return replace(page, records=records)

"""The filters of the lists.

Their choices come from code and settings, never from a ``SELECT DISTINCT``, which would read the entire table.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.contrib.admin import SimpleListFilter
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from ...conf import get_settings
from ...database_clock import database_now
from ...evermuse.records import OPENAPI_TYPES
from ...models import BatchState, RecordState
from .search import parse_id

MAX_SKEW = timedelta(minutes=10)
"""Maximum difference between the order of ids and the order of ``enqueued_at``.

They differ because the clocks of hosts differ, and because a record gets both values at slightly different times.
"""

MAX_SCANNED = 500_000
"""Maximum number of records that a filter without an index reads. It reads the newest ones."""

Rows = QuerySet[Any]
Choices = Iterable[tuple[Any, Any]]


class RecordStateFilter(SimpleListFilter):
    """Filter records by state. An index serves the condition of each state."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return RecordState.choices

    def queryset(self, request: HttpRequest, queryset: Any) -> Rows:
        rows: Rows = queryset.in_state(self.value()) if self.value() in RecordState.values else queryset
        return rows


class BatchStateFilter(SimpleListFilter):
    """Filter batches by state."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return BatchState.choices

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        return queryset.filter(state=self.value()) if self.value() in BatchState.values else queryset


class TypeFilter(SimpleListFilter):
    """Filter by the record types of the published contract."""

    title = _("type")
    parameter_name = "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [(name, name) for name in OPENAPI_TYPES]

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        return queryset.filter(type=self.value()) if self.value() else queryset


class WorkspaceFilter(SimpleListFilter):
    """Filter by the workspaces of the settings; hidden if there is only one."""

    title = _("workspace")
    parameter_name = "workspace"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        names = sorted(get_settings().workspaces)
        return [(name, name) for name in names] if len(names) > 1 else []

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        return queryset.filter(workspace=self.value()) if self.value() else queryset


class _NewestRecordsFilter(SimpleListFilter):
    """A filter by a column without an index.

    If no other filter narrows the list, it reads only the newest :data:`MAX_SCANNED` records and says so in its
    title.
    """

    narrowing = {
        "state": {state.value for state in RecordState} - {RecordState.DELIVERED.value},
        "age": {"hour", "day", "week"},
    }
    """Values of other filters that leave few records. Most records are delivered, so this state is not among them."""

    def __init__(self, request: HttpRequest, params: Any, model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        self.is_bounded = bool(self.value()) and not self._is_narrowed(request)
        if self.is_bounded:
            self.title = _("%(title)s, among the newest %(newest)s") % {
                "title": self.title,
                "newest": f"{MAX_SCANNED:,}",
            }

    def queryset(self, request: HttpRequest, queryset: Any) -> Rows:
        rows = super().queryset(request, queryset)
        if not self.is_bounded or rows is None:
            return rows  # type: ignore[return-value]
        ids = queryset.model.rows.using(queryset.db).order_by("-pk").values_list("pk", flat=True)
        return rows.filter(pk__gt=(ids.first() or 0) - MAX_SCANNED)

    def _is_narrowed(self, request: HttpRequest) -> bool:
        parameters = request.GET
        if parameters.get("q") or parameters.get(BatchFilter.parameter_name):
            return True
        return any(parameters.get(name) in values for name, values in self.narrowing.items())


class RecordTypeFilter(_NewestRecordsFilter, TypeFilter):
    """Filter records by type."""


class RecordWorkspaceFilter(_NewestRecordsFilter, WorkspaceFilter):
    """Filter records by workspace."""


class BatchFilter(SimpleListFilter):
    """Filter records by batch; shown only if a link has set it, so that the user can remove it."""

    title = _("batch")
    parameter_name = "batch__id__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        batch = self.value()
        return [(batch, f"#{batch}")] if batch else []

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        batch = self.value()
        return queryset.filter(batch=parse_id(batch)) if batch else queryset


class AgeFilter(SimpleListFilter):
    """Filter by the time of enqueueing. That column has no index, so the filter searches for the matching ids."""

    title = _("age")
    parameter_name = "age"
    ages = {
        "hour": (_("Past hour"), timedelta(hours=1)),
        "day": (_("Past 24 hours"), timedelta(days=1)),
        "week": (_("Past 7 days"), timedelta(days=7)),
        "older": (_("Older than 7 days"), timedelta(days=7)),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [(name, label) for name, (label, _age) in self.ages.items()]

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        name = self.value()
        if name not in self.ages:
            return queryset
        at = database_now(queryset.db) - self.ages[name][1]
        if name == "older":
            return queryset.filter(pk__lt=first_id_since(queryset, at + MAX_SKEW), enqueued_at__lt=at)
        return queryset.filter(pk__gte=first_id_since(queryset, at - MAX_SKEW), enqueued_at__gte=at)


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

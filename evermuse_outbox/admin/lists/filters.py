"""Filters of the lists. Their choices come from code and settings, never from a ``SELECT DISTINCT``."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.contrib.admin import SimpleListFilter
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ...conf import get_settings
from ...evermuse.records import OPENAPI_TYPES
from ...models import BatchState, RecordState
from .search import as_id

SKEW = timedelta(minutes=10)
"""How far the order of ids and the order of time may differ: clocks of hosts, long transactions."""

NEWEST = 500_000
"""Records that a filter without an index reads at most, by their ids."""

Rows = QuerySet[Any]
Choices = Iterable[tuple[Any, Any]]


class RecordStateFilter(SimpleListFilter):
    """By the state of records, each by the predicate that an index serves."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return RecordState.choices

    def queryset(self, request: HttpRequest, queryset: Any) -> Rows:
        rows: Rows = queryset.in_state(self.value()) if self.value() in RecordState.values else queryset
        return rows


class BatchStateFilter(SimpleListFilter):
    """By the state of batches."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return BatchState.choices

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        return queryset.filter(state=self.value()) if self.value() in BatchState.values else queryset


class TypeFilter(SimpleListFilter):
    """By the types that Evermuse knows."""

    title = _("type")
    parameter_name = "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [(name, name) for name in OPENAPI_TYPES]

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        return queryset.filter(type=self.value()) if self.value() else queryset


class WorkspaceFilter(SimpleListFilter):
    """By the workspaces of the settings; not there where there is only one."""

    title = _("workspace")
    parameter_name = "workspace"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        names = sorted(get_settings().workspaces)
        return [(name, name) for name in names] if len(names) > 1 else []

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        return queryset.filter(workspace=self.value()) if self.value() else queryset


class _Bounded(SimpleListFilter):
    """A column without an index: where nothing else narrows the list, only the newest records are read."""

    narrowing = {
        "state": {state.value for state in RecordState} - {RecordState.DELIVERED.value},
        "age": {"hour", "day", "week"},
    }

    def __init__(self, request: HttpRequest, params: Any, model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        self.is_bounded = bool(self.value()) and not self._is_narrowed(request)
        if self.is_bounded:
            self.title = _("%(title)s, among the newest %(newest)s") % {
                "title": self.title,
                "newest": f"{NEWEST:,}",
            }

    def queryset(self, request: HttpRequest, queryset: Any) -> Rows:
        rows = super().queryset(request, queryset)
        if not self.is_bounded or rows is None:
            return rows  # type: ignore[return-value]
        last = (
            queryset.model.rows.using(queryset.db).order_by("-pk").values_list("pk", flat=True).first() or 0
        )
        return rows.filter(pk__gt=last - NEWEST)

    def _is_narrowed(self, request: HttpRequest) -> bool:
        chosen = request.GET
        if chosen.get("q") or chosen.get(BatchFilter.parameter_name):
            return True
        return any(chosen.get(name) in values for name, values in self.narrowing.items())


class RecordTypeFilter(_Bounded, TypeFilter):
    """By type, among records."""


class RecordWorkspaceFilter(_Bounded, WorkspaceFilter):
    """By workspace, among records."""


class BatchFilter(SimpleListFilter):
    """By one batch; shown where a link has chosen one, so that it can be left again."""

    title = _("batch")
    parameter_name = "batch__id__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        chosen = self.value()
        return [(chosen, f"#{chosen}")] if chosen else []

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        chosen = self.value()
        return queryset.filter(batch=as_id(chosen)) if chosen else queryset


class AgeFilter(SimpleListFilter):
    """By the time of enqueueing, which has no index of its own: ids grow with it, so they are searched."""

    title = _("age")
    parameter_name = "age"
    ages = {
        "hour": (_("Past hour"), timedelta(hours=1)),
        "day": (_("Past 24 hours"), timedelta(days=1)),
        "week": (_("Past 7 days"), timedelta(days=7)),
        "older": (_("Older than 7 days"), timedelta(days=7)),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [(name, label) for name, (label, _length) in self.ages.items()]

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        name = self.value()
        if name not in self.ages:
            return queryset
        at = timezone.now() - self.ages[name][1]
        if name == "older":
            return queryset.filter(pk__lt=first_since(queryset, at + SKEW), enqueued_at__lt=at)
        return queryset.filter(pk__gte=first_since(queryset, at - SKEW), enqueued_at__gte=at)


def first_since(rows: Any, at: datetime) -> int:
    """The id where records enqueued at ``at`` begin, within :data:`SKEW`; found by bisection over ids."""
    table = rows.model.rows.using(rows.db)
    ends = table.order_by("pk").values_list("pk", flat=True)
    low, high = ends.first() or 1, (ends.last() or 0) + 1
    while low < high:
        middle = (low + high) // 2
        found = table.filter(pk__gte=middle).order_by("pk").values_list("pk", "enqueued_at").first()
        if found is None or found[1] >= at:
            high = middle
        else:
            low = found[0] + 1
    return low

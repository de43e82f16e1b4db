"""The filters of the lists.

Their choices come from code and settings, never from a ``SELECT DISTINCT``, which would read the entire table.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.contrib.admin import SimpleListFilter
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from ...conf import get_settings
from ...database_clock import database_now
from ...evermuse.records import OPENAPI_TYPES
from ...models import BatchState, OutboxOperationMember, OutboxWorkspace, RecordState
from ...search import parse_id
from .bounds import CLOSED, MAX_SKEW, bounded_title, first_id_since, is_narrowed, newest, with_closed_state

MAX_BATCHES = 50_000
"""Newest batches that a filter by their end reads. Ten requests per second send 36,000 in an hour."""

Rows = QuerySet[Any]
Choices = Iterable[tuple[Any, Any]]


class RecordStateFilter(SimpleListFilter):
    """Filter records by state. An index serves the condition of each state."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return RecordState.choices

    def queryset(self, request: HttpRequest, queryset: Any) -> Rows:
        state = self.value()
        if state not in RecordState.values:
            return queryset  # type: ignore[no-any-return]
        rows: Rows = with_closed_state(queryset, state) if state in CLOSED else queryset.in_state(state)
        return rows

    @classmethod
    def is_closed(cls, request: HttpRequest) -> bool:
        """Return whether the filter shows records of one state in ``closed_as``."""
        return request.GET.get(cls.parameter_name) in CLOSED


class BatchStateFilter(SimpleListFilter):
    """Filter batches by state."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return BatchState.choices

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        return queryset.filter(state=self.value()) if self.value() in BatchState.values else queryset


class BatchTimeFilter(SimpleListFilter):
    """Filter batches by their end. It reads only the newest batches, because the index has only some of them."""

    title = _("ended")
    parameter_name = "time"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [("hour", _("Past hour"))]

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        if self.value() != "hour":
            return queryset
        ids = queryset.model._default_manager.using(queryset.db).order_by("-pk").values_list("pk", flat=True)
        newest = queryset.filter(pk__gt=(ids.first() or 0) - MAX_BATCHES)
        return newest.filter(finished_at__gte=database_now(queryset.db) - timedelta(hours=1))


class BatchAttachmentFilter(SimpleListFilter):
    """Filter batches by what Evermuse says about their attachments."""

    title = _("attachments")
    parameter_name = "attachments"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [("progress", _("in progress")), ("failed", _("some have failed"))]

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        if self.value() == "progress":
            return queryset.filter(next_poll_at__isnull=False, attachment_total__gt=0)
        return queryset.filter(attachment_failed__gt=0) if self.value() == "failed" else queryset


class TypeFilter(SimpleListFilter):
    """Filter by the record types of the published contract."""

    title = _("type")
    parameter_name = "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [(name, name) for name in OPENAPI_TYPES]

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        return queryset.filter(type=self.value()) if self.value() else queryset


class WorkspaceFilter(SimpleListFilter):
    """Filter by the workspaces of the settings, and by those that have left them; hidden if there is only one."""

    title = _("workspace")
    parameter_name = "workspace"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        stored = OutboxWorkspace.objects.using(model_admin.get_queryset(request).db).values_list(
            "pk", flat=True
        )
        names = sorted({*get_settings().workspaces, *stored})
        return [(name, name) for name in names] if len(names) > 1 else []

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        return queryset.filter(workspace=self.value()) if self.value() else queryset


class _NewestRecordsFilter(SimpleListFilter):
    """A filter by a column without an index.

    If no other filter narrows the list, it reads only the newest records and says so in its title.
    """

    def __init__(self, request: HttpRequest, params: Any, model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        self.is_bounded = bool(self.value()) and not is_narrowed(request)
        self.title = bounded_title(self.title, is_bounded=self.is_bounded)

    def queryset(self, request: HttpRequest, queryset: Any) -> Rows:
        rows = super().queryset(request, queryset)
        return newest(rows) if self.is_bounded and rows is not None else rows  # type: ignore[return-value]


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


class JobFilter(SimpleListFilter):
    """Filter records by a job that has them as members; shown only if a link has set it."""

    title = _("job")
    parameter_name = "job"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        job = self.value()
        return [(job, f"#{job}")] if job else []

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        job = self.value()
        if not job:
            return queryset
        members = OutboxOperationMember.objects.using(queryset.db).filter(operation=parse_id(job))
        return queryset.filter(pk__in=members.values("target"))


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

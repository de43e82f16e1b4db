"""The lists of workers, incidents and attempts: they can be filtered and read."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _

from ...database_clock import database_now
from ...models import OUTCOME_LABELS, IncidentKind, OutboxAttempt, OutboxIncident, OutboxWorker
from ...monitoring import MISSING_AFTER
from .. import html
from ..lists import ReadOnlyAdmin, WorkspaceFilter

Rows = QuerySet[Any]
Choices = Iterable[tuple[Any, Any]]

MAX_SCANNED = 100_000
"""Newest attempts that a filter without an index reads."""

SPANS = {
    "minute": (_("Past minute"), timedelta(minutes=1)),
    "hour": (_("Past hour"), timedelta(hours=1)),
    "day": (_("Past 24 hours"), timedelta(days=1)),
}
"""Value of a filter by time → its label and its length."""


class _SpanFilter(admin.SimpleListFilter):
    """Filter by a time with an index."""

    title = _("time")
    parameter_name = "time"
    field = ""

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Return the choices."""
        return [(name, label) for name, (label, _length) in SPANS.items()]

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        """Return the rows of that time."""
        name = self.value() or ""
        if name not in SPANS:
            return queryset
        return queryset.filter(**{f"{self.field}__gte": database_now(queryset.db) - SPANS[name][1]})


class StartedFilter(_SpanFilter):
    """Filter attempts by their time."""

    field = "started_at"


class CallFilter(admin.SimpleListFilter):
    """Filter attempts by the kind of call."""

    title = _("call")
    parameter_name = "call"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Return the choices."""
        return OutboxAttempt.Call.choices

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        """Return the attempts of that kind, among the newest ones."""
        return _newest(queryset).filter(call=self.value()) if self.value() else queryset


class OutcomeFilter(admin.SimpleListFilter):
    """Filter attempts by their outcome."""

    title = _("outcome")
    parameter_name = "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Return the choices."""
        return OUTCOME_LABELS.items()

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        """Return the attempts with that outcome, among the newest ones."""
        return _newest(queryset).filter(outcome=self.value()) if self.value() else queryset


class StatusFilter(admin.SimpleListFilter):
    """Filter attempts by their HTTP status; shown only if a link has set it."""

    title = _("HTTP status")
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Return the value that a link has set."""
        value = request.GET.get(self.parameter_name, "")
        return [(value, value)] if value else []

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        """Return the attempts with that status, among the newest ones; ``none`` stands for no answer."""
        value = self.value() or ""
        if not value:
            return queryset
        return _newest(queryset).filter(status=int(value) if value.isdecimal() and len(value) < 4 else None)


def _newest(rows: Rows) -> Rows:
    """Return only the newest rows, because no index serves the filter."""
    ids = rows.model._default_manager.using(rows.db).order_by("-pk").values_list("pk", flat=True)
    return rows.filter(pk__gt=(ids.first() or 0) - MAX_SCANNED)


class AtWorkFilter(admin.SimpleListFilter):
    """Filter workers by whether they were seen lately."""

    title = _("seen")
    parameter_name = "seen"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Return the choices."""
        return [("now", _("in the last 3 minutes")), ("before", _("not in the last 3 minutes"))]

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        """Return the workers that were seen then."""
        since = database_now(queryset.db) - MISSING_AFTER
        conditions = {"now": {"last_seen_at__gte": since}, "before": {"last_seen_at__lt": since}}
        return queryset.filter(**conditions.get(self.value() or "", {}))


class OpenFilter(admin.SimpleListFilter):
    """Filter incidents by whether they have ended."""

    title = _("state")
    parameter_name = "open"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Return the choices."""
        return [("1", _("open")), ("0", _("ended"))]

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        """Return the open or the ended incidents."""
        if self.value() not in ("0", "1"):
            return queryset
        return queryset.filter(ended_at__isnull=self.value() == "1")


class KindFilter(admin.SimpleListFilter):
    """Filter incidents by kind."""

    title = _("kind")
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Return the choices."""
        return IncidentKind.choices

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        """Return the incidents of that kind."""
        return queryset.filter(kind=self.value()) if self.value() else queryset


@admin.register(OutboxWorker)
class OutboxWorkerAdmin(ReadOnlyAdmin):
    """The processes that deliver, with the time of their last heartbeat."""

    ordering = ("-last_seen_at",)
    list_display = ("process", "activity", "last_seen", "started", "version")
    list_display_links = ("process",)
    list_filter = (AtWorkFilter,)
    sortable_by = ()
    fields = ("host", "pid", "command", "version", "activity", "started", "last_seen")
    readonly_fields = ("started", "last_seen")

    @admin.display(description=_("process"))
    def process(self, row: OutboxWorker) -> SafeString:
        """Return the command, the host and the process id."""
        return html.two_lines(row.command, f"{row.host} · {row.pid}")

    @admin.display(description=_("last seen"))
    def last_seen(self, row: OutboxWorker) -> SafeString | str:
        """Return the time of the last heartbeat."""
        return html.time_tag(row.last_seen_at)

    @admin.display(description=_("started"))
    def started(self, row: OutboxWorker) -> SafeString | str:
        """Return the time of the first heartbeat."""
        return html.time_tag(row.started_at)

    def get_page_context(self, request: HttpRequest, obj: OutboxWorker) -> dict[str, Any]:
        """Return whether the process is at work."""
        if obj.last_seen_at >= database_now(obj._state.db) - MISSING_AFTER:
            return {"explanation": _now("At work: it was seen in the last 3 minutes.")}
        return {
            "explanation": _now(
                "It was not seen for 3 minutes. It has ended, or it does not reach the database."
            )
        }


@admin.register(OutboxIncident)
class OutboxIncidentAdmin(ReadOnlyAdmin):
    """What went wrong: from when to when, and why."""

    ordering = ("-started_at",)
    list_display = ("incident", "workspace", "started", "ended", "lasted", "reason")
    list_display_links = ("incident",)
    list_filter = (OpenFilter, KindFilter, WorkspaceFilter)
    sortable_by = ()
    fields = ("kind", "workspace", "subject", "started", "ended", "lasted", "reason", "peak")
    readonly_fields = ("started", "ended", "lasted")

    @admin.display(description=_("incident"))
    def incident(self, row: OutboxIncident) -> SafeString:
        """Return the kind, and the group or machine."""
        return html.two_lines(row.get_kind_display(), row.subject)

    @admin.display(description=_("began"))
    def started(self, row: OutboxIncident) -> SafeString | str:
        """Return the time of the beginning."""
        return html.time_tag(row.started_at)

    @admin.display(description=_("ended"))
    def ended(self, row: OutboxIncident) -> SafeString | str:
        """Return the time of the end."""
        return html.time_tag(row.ended_at) if row.ended_at else _now("open")

    @admin.display(description=_("lasted"))
    def lasted(self, row: OutboxIncident) -> str:
        """Return the length."""
        return html.duration((row.ended_at or database_now(row._state.db)) - row.started_at)

    def get_page_context(self, request: HttpRequest, obj: OutboxIncident) -> dict[str, Any]:
        """Return the reason and whether it is over."""
        is_over = _now("It is over.") if obj.ended_at else _now("It is not over.")
        return {"explanation": f"{obj.get_kind_display()}. {obj.reason} {is_over}"}


@admin.register(OutboxAttempt)
class OutboxAttemptAdmin(ReadOnlyAdmin):
    """The HTTP calls: time, duration, status and answer."""

    list_display = (
        "id",
        "started",
        "call",
        "http_status",
        "outcome_label",
        "seconds",
        "workspace",
        "of_batch",
    )
    list_filter = (StartedFilter, CallFilter, OutcomeFilter, StatusFilter, WorkspaceFilter)
    fields = ("call", "started", "http_status", "outcome_label", "seconds", "workspace", "of_batch", "detail")
    readonly_fields = ("started", "http_status", "outcome_label", "of_batch")

    @admin.display(description=_("time"))
    def started(self, row: OutboxAttempt) -> SafeString | str:
        """Return the time of the call."""
        return html.time_tag(row.started_at)

    @admin.display(description=_("outcome"))
    def outcome_label(self, row: OutboxAttempt) -> str:
        """Return the outcome in words."""
        return row.outcome_label

    @admin.display(description=_("HTTP status"))
    def http_status(self, row: OutboxAttempt) -> str:
        """Return the status, without a thousand separator."""
        return str(row.status) if row.status else _now("no answer")

    @admin.display(description=_("batch"))
    def of_batch(self, row: OutboxAttempt) -> SafeString | str:
        """Return a link to the batch."""
        if row.batch_id is None:
            return html.EMPTY
        model = OutboxAttempt._meta.get_field("batch").related_model
        return html.link_to(model, row.batch_id, f"#{row.batch_id}", self.admin_site.name)

    def get_page_context(self, request: HttpRequest, obj: OutboxAttempt) -> dict[str, Any]:
        """Return the call in one sentence."""
        return {"explanation": f"{obj.get_call_display()} → {obj.outcome_label}"}

"""Manual actions: who did what, when and why."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from ...models import OutboxAction
from .. import html
from ..lists import ReadOnlyAdmin, WorkspaceFilter


@admin.register(OutboxAction)
class OutboxActionAdmin(ReadOnlyAdmin):
    """The manual actions, the newest first."""

    list_display = ("id", "time", "by", "kind", "target", "records", "reason", "workspace")
    list_filter = ("kind", WorkspaceFilter)
    search_fields = ("by",)
    search_help_text = _("Enter a user, or a part of a target or reason, for instance: batch #17")
    fields = ("time", "by", "kind", "workspace", "target", "records", "reason", "result")
    readonly_fields = ("time",)

    @admin.display(description=_("time"))
    def time(self, row: OutboxAction) -> SafeString | str:
        """Return the time of the action."""
        return html.time_tag(row.at)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Return the actions whose user, target or reason contains the term, and False: no duplicates."""
        term = search_term.strip().replace("\0", "")
        matches = Q(by__icontains=term) | Q(target__icontains=term) | Q(reason__icontains=term)
        return (queryset.filter(matches) if term else queryset), False

    def get_page_context(self, request: HttpRequest, obj: OutboxAction) -> dict[str, Any]:
        """Return the action in one sentence."""
        return {"explanation": f"{obj.by}: {obj}"}

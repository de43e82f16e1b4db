"""Workspaces: what holds each API key back, what it delivered lately, and a button that ends a hold."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _

from ...conf import Workspace, get_settings
from ...insight.explain import explain_workspace
from ...models import OutboxWorkspace, WorkspaceState
from .. import html
from ..actions.resume import ResumeAdmin
from .throughput import last_hour


@admin.register(OutboxWorkspace)
class OutboxWorkspaceAdmin(ResumeAdmin):
    """One API key by its name; the key itself is in no table and on no page."""

    ordering = ("pk",)
    list_display = ("name", "state_chip", "until", "reason", "failures")
    list_display_links = ("name",)
    sortable_by = ()
    fieldsets = (
        (None, {"fields": (("state_chip", "until", "failures"), "reason")}),
        (_("Settings"), {"fields": ("api_url", ("contract", "rate_limit"), "api_key")}),
        (_("Sealing"), {"fields": ("next_groups", "seal_count")}),
    )
    readonly_fields = ("state_chip", "until", "api_url", "contract", "rate_limit", "api_key", "next_groups")

    # --- columns ----------------------------------------------------------------------------------

    @admin.display(description=_("state"))
    def state_chip(self, row: OutboxWorkspace) -> SafeString:
        """The state in its colour."""
        return html.chip(WorkspaceState(row.state))

    @admin.display(description=_("until"))
    def until(self, row: OutboxWorkspace) -> SafeString | str:
        """When it is tried again."""
        return html.moment(row.blocked_until)

    @admin.display(description=_("address"))
    def api_url(self, row: OutboxWorkspace) -> str:
        """Where it sends to."""
        found = _settings_of(row)
        return found.api_url if found else _now("This workspace is no longer in the settings.")

    @admin.display(description=_("contract"))
    def contract(self, row: OutboxWorkspace) -> str:
        """The contract its records are written in."""
        found = _settings_of(row)
        return found.contract if found else html.NOTHING

    @admin.display(description=_("requests a second"))
    def rate_limit(self, row: OutboxWorkspace) -> str:
        """At most, in any sliding second."""
        found = _settings_of(row)
        return f"{found.rate_limit:g}" if found else html.NOTHING

    @admin.display(description=_("API key"))
    def api_key(self, row: OutboxWorkspace) -> str:
        """Whether there is one, and nothing more."""
        found = _settings_of(row)
        return _now("set") if found and found.api_key else _now("not set")

    @admin.display(description=_("next groups"))
    def next_groups(self, row: OutboxWorkspace) -> str:
        """The agenda: whose turn it is next, and why."""
        planned = row.run_queue.get("next", []) if isinstance(row.run_queue, dict) else []
        return ", ".join(f"{kind} · {product} ({why})" for kind, product, why in planned) or html.NOTHING

    # --- pages ------------------------------------------------------------------------------------

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The list with the last hour of all workspaces."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        using = self.get_queryset(request).db
        hour = last_hour(using) if request.method == "GET" else None
        return super().changelist_view(request, {"hour": hour, **(extra_context or {})})

    def page(self, request: HttpRequest, obj: OutboxWorkspace) -> dict[str, Any]:
        """What holds it, its last hour, and whether the button is there."""
        return {
            "why": explain_workspace(obj),
            "hour": last_hour(obj._state.db, obj.pk),
            "may_resume": obj.state != WorkspaceState.ACTIVE and self.has_resume_permission(request),
        }

    # --- resuming ---------------------------------------------------------------------------------

    def resume(self, using: str, row: OutboxWorkspace) -> bool:
        """Ends whatever holds the workspace, but for a ``retryAfter``."""
        return bool(OutboxWorkspace.objects.using(using).resume(row.pk, timezone.now()))

    def workspace_of(self, row: OutboxWorkspace) -> str:
        """Itself."""
        return row.pk


def _settings_of(row: OutboxWorkspace) -> Workspace | None:
    return get_settings().workspaces.get(row.pk)

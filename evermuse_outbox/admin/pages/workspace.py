"""Workspaces: why an API key sends or does not send, what it delivered lately, and a button to resume."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ...conf import Workspace, get_settings
from ...database_clock import database_now
from ...insight import explain_workspace, list_keys
from ...models import OutboxWorkspace, WorkspaceState
from ...operations import pause_workspace, resume_workspace
from .. import html
from ..actions import PAUSE, RESUME, Exit, ResumeAdmin
from .throughput import throughput_of_last_hour

FORCE = Exit(
    "force",
    _("Resume before the end of retryAfter"),
    _("Send the next request at once, although Evermuse asked for a later time. It may answer 429 again."),
    is_final=True,
)


@admin.register(OutboxWorkspace)
class OutboxWorkspaceAdmin(ResumeAdmin):
    """The workspaces, one for each API key. No table and no page contains the key itself."""

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
        """Return the state in its colour."""
        return html.state_chip(WorkspaceState(row.state))

    @admin.display(description=_("until"))
    def until(self, row: OutboxWorkspace) -> SafeString | str:
        """Return the time of the next probe, or the end of the ``retryAfter`` that Evermuse sent."""
        return html.time_tag(row.blocked_until)

    @admin.display(description=_("API URL"))
    def api_url(self, row: OutboxWorkspace) -> str:
        """Return the base URL in the settings."""
        workspace = _settings_of(row)
        return workspace.api_url if workspace else gettext("This workspace is no longer in the settings.")

    @admin.display(description=_("contract"))
    def contract(self, row: OutboxWorkspace) -> str:
        """Return the published contract in the settings."""
        workspace = _settings_of(row)
        return workspace.contract if workspace else html.EMPTY

    @admin.display(description=_("requests a second"))
    def rate_limit(self, row: OutboxWorkspace) -> str:
        """Return the maximum number of requests in any sliding second."""
        workspace = _settings_of(row)
        return f"{workspace.rate_limit:g}" if workspace else html.EMPTY

    @admin.display(description=_("API key"))
    def api_key(self, row: OutboxWorkspace) -> str:
        """Return whether the settings have an API key, and the fingerprints of several; never a key."""
        workspace = _settings_of(row)
        if workspace and (keys := list_keys(row.pk)):
            return ", ".join(keys.values())
        return gettext("set") if workspace and workspace.has_key else gettext("not set")

    @admin.display(description=_("run queue"))
    def next_groups(self, row: OutboxWorkspace) -> str:
        """Return the groups that are sealed next, each with the reason."""
        groups = row.run_queue.get("next", []) if isinstance(row.run_queue, dict) else []
        return ", ".join(f"{kind} · {product} ({reason})" for kind, product, reason in groups) or html.EMPTY

    # --- pages ------------------------------------------------------------------------------------

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Return the list with the throughput of all workspaces in the last hour."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        using = self.get_queryset(request).db
        throughput = throughput_of_last_hour(using) if request.method == "GET" else None
        return super().changelist_view(request, {"throughput": throughput, **(extra_context or {})})

    def get_page_context(self, request: HttpRequest, obj: OutboxWorkspace) -> dict[str, Any]:
        """Return the explanation, the throughput, and the buttons that resume the workspace."""
        return {
            "explanation": explain_workspace(obj),
            "throughput": throughput_of_last_hour(obj._state.db, obj.pk),
            **self.exit_context(request, obj),
        }

    # --- resume -----------------------------------------------------------------------------------

    def exits_of(self, row: OutboxWorkspace) -> list[Exit]:
        """Return the buttons that pause or resume the workspace; none if it is held after a restore."""
        match row.state:
            case WorkspaceState.RESTORED:
                return []
            case WorkspaceState.ACTIVE:
                return [PAUSE]
            case WorkspaceState.HELD:
                return [RESUME]
        until = row.blocked_until if row.state == WorkspaceState.THROTTLED else None
        return [FORCE if until and until > database_now(row._state.db) else RESUME, PAUSE]

    def resume_row(
        self, using: str, row: OutboxWorkspace, *, by: str, reason: str, force: bool = False
    ) -> bool:
        """Make the workspace active. Return False if it is active already."""
        return resume_workspace(using, row.pk, by=by, reason=reason, force=force) is not None

    def pause_row(self, using: str, row: OutboxWorkspace, *, by: str, reason: str) -> None:
        """Send nothing of the workspace until a person resumes it."""
        pause_workspace(using, row.pk, by=by, reason=reason)

    def workspace_of(self, row: OutboxWorkspace) -> str:
        """Return the name of the workspace."""
        return row.pk


def _settings_of(row: OutboxWorkspace) -> Workspace | None:
    return get_settings().workspaces.get(row.pk)

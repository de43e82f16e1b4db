"""Workspaces: what holds each API key back, what it delivered lately, and a button that ends a hold."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.db import router
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _

from ..conf import Workspace, get_settings
from ..explain import explain_workspace
from ..kick import kick_on_commit
from ..models import Hold, OutboxWorkspace
from . import marks
from .base import LookOnlyAdmin
from .throughput import last_hour


@admin.register(OutboxWorkspace)
class OutboxWorkspaceAdmin(LookOnlyAdmin):
    """One API key by its name; the key itself is in no table and on no page."""

    ordering = ("pk",)
    list_display = ("name", "state_chip", "until", "reason", "failures")
    list_display_links = ("name",)
    sortable_by = ()
    actions = ("resume_chosen",)
    fieldsets = (
        (None, {"fields": (("state_chip", "until", "failures"), "reason")}),
        (_("Settings"), {"fields": ("api_url", ("contract", "rate_limit"), "api_key")}),
        (_("Sealing"), {"fields": (("last_type", "last_product_id"), "turns")}),
    )
    readonly_fields = ("state_chip", "until", "api_url", "contract", "rate_limit", "api_key")

    def has_resume_permission(self, request: HttpRequest) -> bool:
        """Whether a hold may be ended: whoever may change workspaces."""
        return bool(request.user.has_perm("evermuse_outbox.change_outboxworkspace"))

    def get_urls(self) -> list[URLPattern]:
        """Also the view behind the button."""
        view = self.admin_site.admin_view(self.resume_view)
        name = self.url_name("resume").removeprefix("admin:")
        return [path("<path:object_id>/resume/", view, name=name), *super().get_urls()]

    # --- columns ----------------------------------------------------------------------------------

    @admin.display(description=_("state"))
    def state_chip(self, row: OutboxWorkspace) -> SafeString:
        """The state in its colour."""
        return marks.chip(Hold(row.state))

    @admin.display(description=_("until"))
    def until(self, row: OutboxWorkspace) -> SafeString | str:
        """When it is tried again."""
        return marks.moment(row.held_until)

    @admin.display(description=_("address"))
    def api_url(self, row: OutboxWorkspace) -> str:
        """Where it sends to."""
        found = _settings_of(row)
        return found.api_url if found else _now("This workspace is no longer in the settings.")

    @admin.display(description=_("contract"))
    def contract(self, row: OutboxWorkspace) -> str:
        """The contract its records are written in."""
        found = _settings_of(row)
        return found.contract if found else marks.NOTHING

    @admin.display(description=_("requests a second"))
    def rate_limit(self, row: OutboxWorkspace) -> str:
        """At most, in any sliding second."""
        found = _settings_of(row)
        return f"{found.rate_limit:g}" if found else marks.NOTHING

    @admin.display(description=_("API key"))
    def api_key(self, row: OutboxWorkspace) -> str:
        """Whether there is one, and nothing more."""
        found = _settings_of(row)
        return _now("set") if found and found.api_key else _now("not set")

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
            "may_resume": obj.state != Hold.OPEN and self.has_resume_permission(request),
        }

    # --- resuming ---------------------------------------------------------------------------------

    def resume_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ends the hold of one workspace."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_resume_permission(request):
            raise PermissionDenied
        row = self.get_object(request, unquote(object_id))
        if row is None:
            raise Http404
        self._resume(request, row)
        return redirect(
            reverse(self.url_name("change"), args=[quote(row.pk)], current_app=self.admin_site.name)
        )

    @admin.action(description=_("Resume chosen workspaces now"), permissions=["resume"])
    def resume_chosen(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Ends the holds of these workspaces."""
        for row in queryset:
            self._resume(request, row)

    def _resume(self, request: HttpRequest, row: OutboxWorkspace) -> None:
        using = router.db_for_write(OutboxWorkspace, instance=row)
        if not OutboxWorkspace.objects.using(using).resume(row.pk, timezone.now()):
            self.message_user(request, _now("%s was open already.") % row.pk, messages.INFO)
            return
        kick_on_commit(using, row.pk)
        self.log_change(request, row, _now("Resumed."))
        self.message_user(request, _now("%s is open again; the workers go on.") % row.pk, messages.SUCCESS)


def _settings_of(row: OutboxWorkspace) -> Workspace | None:
    return get_settings().workspaces.get(row.pk)

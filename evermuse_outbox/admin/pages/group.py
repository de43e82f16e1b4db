"""Groups of which Evermuse refuses every record: the reason, advice, and a button to resume."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import router
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from ...conf import get_settings
from ...evermuse.records import OPENAPI_TYPES
from ...insight import explain_group
from ...models import GroupState, OutboxGroup, OutboxRecord
from ...operations import NotPossible, pause_group, resume_group
from .. import html
from ..actions import PAUSE, RESUME, Exit, ResumeAdmin
from ..lists import WorkspaceFilter, posted_reason

MAX_COUNTED = 100_000
"""Maximum number of waiting records that the page of a group counts."""


@admin.register(OutboxGroup)
class OutboxGroupAdmin(ResumeAdmin):
    """The groups with repeated refusals. A group is one ``_type`` and one ``_product_id`` in one workspace.

    A group without refusals has no row.
    """

    ordering = ("-since",)
    list_display = ("group", "state_chip", "workspace", "refused_since", "refusals", "reason", "next_probe")
    list_display_links = ("group",)
    list_filter = (WorkspaceFilter,)
    sortable_by = ()
    is_deleted_by_resume = True
    fieldsets = (
        (
            None,
            {"fields": (("type", "product_id", "workspace"), ("state_chip", "refused_since", "next_probe"))},
        ),
        (_("Refusals"), {"fields": ("reason", "advice", "error_signature", "contract")}),
        (_("Counters"), {"fields": ("batches", "records", "probes", "waiting")}),
    )
    readonly_fields = ("state_chip", "refused_since", "next_probe", "waiting")

    @admin.display(description=_("type and product"))
    def group(self, row: OutboxGroup) -> SafeString:
        """Return the ``_type`` and the ``_product_id`` of the records."""
        return html.two_lines(row.type, row.product_id)

    @admin.display(description=_("state"))
    def state_chip(self, row: OutboxGroup) -> SafeString:
        """Return the state in its colour."""
        return html.state_chip(GroupState(row.state))

    @admin.display(description=_("since"))
    def refused_since(self, row: OutboxGroup) -> SafeString | str:
        """Return the time of the first refusal; for a cleared group, the time at which it was cleared."""
        return html.time_tag(row.since)

    @admin.display(description=_("refused"))
    def refusals(self, row: OutboxGroup) -> str:
        """Return how many batches were refused in full, and how many records are certainly refused.

        A refusal of a record is certain if the record was sent alone, or if Evermuse named every record of its batch.
        """
        return _("%(batches)s batches, %(records)s records") % {
            "batches": row.batches,
            "records": row.records,
        }

    @admin.display(description=_("next probe"))
    def next_probe(self, row: OutboxGroup) -> SafeString | str:
        """Return the time at which the workers send one record as a probe."""
        return html.time_tag(row.blocked_until)

    @admin.display(description=_("waiting"))
    def waiting(self, row: OutboxGroup) -> SafeString | str:
        """Return how many pending records the group has, at most :data:`MAX_COUNTED`."""
        pending = OutboxRecord.rows.using(row._state.db).pending()
        count = pending.group(row.workspace, row.type, row.product_id)[:MAX_COUNTED].count()
        return format_html("{}{}", f"{count:,}", "+" if count == MAX_COUNTED else "")

    def get_page_context(self, request: HttpRequest, obj: OutboxGroup) -> dict[str, Any]:
        """Return the explanation, and the button that resumes the group."""
        return {"explanation": explain_group(obj), **self.exit_context(request, obj)}

    # --- pause ------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        """Add the page that pauses a group. A group without trouble has no row, so this page asks for its name."""
        name = self.url_name("pause").removeprefix("admin:")
        return [path("pause/", self.admin_site.admin_view(self.pause_view), name=name), *super().get_urls()]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Return the list with a link to the page that pauses a group."""
        link = self._pause_url() if self.has_exit_permission(request) else ""
        return super().changelist_view(request, {"pause_url": link, **(extra_context or {})})

    def pause_view(self, request: HttpRequest) -> HttpResponse:
        """Ask which group to pause and why, and pause it."""
        if not self.has_exit_permission(request):
            raise PermissionDenied
        entered = request.POST if request.method == "POST" else request.GET
        names = {name: entered.get(name, "").strip() for name in ("workspace", "type", "product_id")}
        if request.method == "POST" and self._pause(request, **names):
            return redirect(reverse(self.url_name("changelist"), current_app=self.admin_site.name))
        request.current_app = self.admin_site.name
        context = {
            **self.admin_site.each_context(request),
            "title": _("Pause a group"),
            "opts": self.opts,
            "workspaces": sorted(get_settings().workspaces),
            "types": OPENAPI_TYPES,
            "entered": names,
        }
        return TemplateResponse(request, "admin/evermuse_outbox/outboxgroup/pause.html", context)

    def _pause(self, request: HttpRequest, workspace: str, type: str, product_id: str) -> bool:  # noqa: A002 -- the name of the field
        """Pause a group. Return False with a message if this is not possible."""
        if not (type and product_id) or workspace not in get_settings().workspaces:
            self.message_user(
                request, _("Enter a workspace of the settings, a type and a product id."), messages.ERROR
            )
            return False
        using, by = router.db_for_write(OutboxGroup), request.user.get_username()
        try:
            row = pause_group(using, workspace, (type, product_id), by=by, reason=posted_reason(request))
        except NotPossible as error:
            self.message_user(request, error.message, messages.WARNING)
            return False
        self.log_change(request, row, str(_("Paused.")))
        self.message_user(
            request, _("Nothing of %s is sent until a person resumes it.") % row, messages.SUCCESS
        )
        return True

    def _pause_url(self) -> str:
        return reverse(self.url_name("pause"), current_app=self.admin_site.name)

    def exits_of(self, row: OutboxGroup) -> list[Exit]:
        """Return the buttons that pause or resume the group."""
        match row.state:
            case GroupState.CLEARED:
                return [PAUSE]
            case GroupState.HELD:
                return [RESUME]
            case _:
                return [RESUME, PAUSE]

    def pause_row(self, using: str, row: OutboxGroup, *, by: str, reason: str) -> None:
        """Send no record of the group until a person resumes it."""
        pause_group(using, row.workspace, (row.type, row.product_id), by=by, reason=reason)

    def resume_row(self, using: str, row: OutboxGroup, *, by: str, reason: str, force: bool = False) -> bool:
        """Delete the counters of the group, so that its records are sealed as usual."""
        return resume_group(using, row, by=by, reason=reason) is not None

    def workspace_of(self, row: OutboxGroup) -> str:
        """Return the workspace of the group."""
        return row.workspace

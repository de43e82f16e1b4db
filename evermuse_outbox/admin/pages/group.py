"""Groups in trouble: why everything in them is refused, what to do, and a button that lets them go on."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from ...insight.explain import explain_group
from ...models import GroupState, OutboxGroup, OutboxRecord
from .. import html
from ..actions.resume import ResumeAdmin
from ..lists.filters import WorkspaceFilter


@admin.register(OutboxGroup)
class OutboxGroupAdmin(ResumeAdmin):
    """The groups of which nothing was accepted of late; all others have no row."""

    ordering = ("-since",)
    list_display = ("group", "state_chip", "workspace", "began", "counted", "reason", "tried_next")
    list_display_links = ("group",)
    list_filter = (WorkspaceFilter,)
    sortable_by = ()
    row_ends = True
    fieldsets = (
        (None, {"fields": (("type", "product_id", "workspace"), ("state_chip", "began", "tried_next"))}),
        (_("What is refused"), {"fields": ("reason", "advice", "error_signature", "contract")}),
        (_("Counted"), {"fields": (("batches", "records", "probes"), "waiting")}),
    )
    readonly_fields = ("state_chip", "began", "tried_next", "waiting")

    @admin.display(description=_("type and product"))
    def group(self, row: OutboxGroup) -> SafeString:
        """What the records have in common."""
        return html.lines(row.type, row.product_id)

    @admin.display(description=_("state"))
    def state_chip(self, row: OutboxGroup) -> SafeString:
        """The state in its colour."""
        return html.chip(GroupState(row.state))

    @admin.display(description=_("since"))
    def began(self, row: OutboxGroup) -> SafeString | str:
        """The first refusal of this row of refusals."""
        return html.moment(row.since)

    @admin.display(description=_("refused"))
    def counted(self, row: OutboxGroup) -> str:
        """How many batches were refused in full, and how many records for certain."""
        return _("%(batches)s batches, %(records)s records") % {
            "batches": row.batches,
            "records": row.records,
        }

    @admin.display(description=_("next probe"))
    def tried_next(self, row: OutboxGroup) -> SafeString | str:
        """When the next record is tried."""
        return html.moment(row.blocked_until)

    @admin.display(description=_("waiting"))
    def waiting(self, row: OutboxGroup) -> SafeString | str:
        """How many records wait for it, up to a bound; the index of pending records tells."""
        pending = OutboxRecord.rows.using(row._state.db).pending()
        count = pending.group(row.workspace, row.type, row.product_id)[:MOST].count()
        return format_html("{}{}", f"{count:,}", "+" if count == MOST else "")

    def page(self, request: HttpRequest, obj: OutboxGroup) -> dict[str, Any]:
        """Why it is held, and whether the button is there."""
        in_trouble = obj.state != GroupState.CLEARED
        return {
            "why": explain_group(obj),
            "may_resume": in_trouble and self.has_resume_permission(request),
        }

    def resume(self, using: str, row: OutboxGroup) -> bool:
        """Forgets what was counted: its records are sealed as if nothing had been."""
        return bool(OutboxGroup.objects.using(using).filter(pk=row.pk).resume())

    def workspace_of(self, row: OutboxGroup) -> str:
        """Its workspace."""
        return row.workspace


MOST = 100_000
"""Waiting records that a page counts at most."""

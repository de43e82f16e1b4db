"""Groups of which Evermuse refuses every record: the reason, advice, and a button to resume."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from ...insight import explain_group
from ...models import GroupState, OutboxGroup, OutboxRecord
from ...operations import resume_group
from .. import html
from ..actions import RESUME, Exit, ResumeAdmin
from ..lists import WorkspaceFilter

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

    def exits_of(self, row: OutboxGroup) -> list[Exit]:
        """Return the button that resumes the group; none if Evermuse accepts its records again."""
        return [] if row.state == GroupState.CLEARED else [RESUME]

    def resume_row(self, using: str, row: OutboxGroup, *, by: str, reason: str, force: bool = False) -> bool:
        """Delete the counters of the group, so that its records are sealed as usual."""
        return resume_group(using, row, by=by, reason=reason) is not None

    def workspace_of(self, row: OutboxGroup) -> str:
        """Return the workspace of the group."""
        return row.workspace

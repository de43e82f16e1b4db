"""The list and the page of standing rules, with a button that ends a rule and links to its records."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ...insight import describe_conditions, explain_rule
from ...models import OutboxRecord, OutboxRule, RuleAction, RuleState
from ...operations import end_rule
from .. import html
from ..actions import Exit
from ..lists import WorkspaceFilter
from .make import MakeRuleAdmin

END = Exit("end", _("End the rule"), _("Records that it holds become pending again. Discarded ones stay so."))


@admin.register(OutboxRule)
class OutboxRuleAdmin(MakeRuleAdmin):
    """The standing rules, the newest first."""

    list_display = (
        "id",
        "state_chip",
        "action",
        "conditions",
        "reason",
        "by",
        "since",
        "ends",
    )
    list_filter = (WorkspaceFilter,)
    fields = (
        ("state_chip", "action"),
        ("since", "ends"),
        ("reason", "by"),
        ("workspace", "type", "product_id"),
        ("label_name", "label_value"),
        "vendor_id",
        ("held", "discarded"),
        ("end_reason", "ended_by"),
    )
    readonly_fields = ("state_chip", "since", "ends")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Return the fields; the pattern of vendor ids only for users who may view payloads."""
        hidden = () if self.has_payload_permission(request) else ("vendor_id",)
        return [name for name in self.fields if name not in hidden]

    @admin.display(description=_("state"))
    def state_chip(self, row: OutboxRule) -> SafeString:
        """Return the state in its colour."""
        return html.state_chip(RuleState(row.state))

    @admin.display(description=_("conditions"))
    def conditions(self, row: OutboxRule) -> str:
        """Return which records the rule concerns."""
        return describe_conditions(row)

    @admin.display(description=_("since"))
    def since(self, row: OutboxRule) -> SafeString | str:
        """Return when the rule was made."""
        return html.time_tag(row.created_at)

    @admin.display(description=_("until"))
    def ends(self, row: OutboxRule) -> SafeString | str:
        """Return when the rule ended, or ends by itself."""
        return html.time_tag(row.ended_at or row.until)

    def get_page_context(self, request: HttpRequest, obj: OutboxRule) -> dict[str, Any]:
        """Return the explanation, the link to the records, and the button that ends the rule."""
        return {
            "explanation": explain_rule(obj),
            "records_url": html.Links(self.admin_site, request).list_of(OutboxRecord, rule=obj.pk),
            "records_label": _("Held records") if obj.action == RuleAction.HOLD else _("Discarded records"),
            **self.exit_context(request, obj),
        }

    def has_exit_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may end rules."""
        return bool(request.user.has_perm(f"{self.opts.app_label}.manage_outboxrule"))

    def exits_of(self, row: OutboxRule) -> list[Exit]:
        """Return the button that ends the rule, while it is active."""
        return [END] if row.state == RuleState.ACTIVE else []

    def use_exit(self, using: str, row: OutboxRule, name: str, *, by: str, reason: str) -> str:
        """End the rule."""
        end_rule(using, row.pk, by=by, reason=reason)
        return gettext("The rule has ended; the records that it holds become pending again.")

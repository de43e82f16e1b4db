"""Make a standing rule in the admin: the conditions, then a preview, then the confirmation with the reason."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import connections, router, transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from ...conf import get_settings
from ...insight import explain_rule
from ...models import OutboxRecord, OutboxRule, OutboxWorkspace
from ...operations import InvalidRule, Preview, RuleDefinition, make_rule, preview_rule
from .. import html
from ..actions import ExitAdmin
from .forms import ConfirmationForm, RuleForm, add_faults


class MakeRuleAdmin(ExitAdmin):
    """The pages of standing rules, with the page that makes one."""

    def get_urls(self) -> list[URLPattern]:
        """Add the page that makes a rule."""
        view = self.admin_site.admin_view(self.make_view)
        # The rule must be committed before batches are withdrawn, also in a host with ATOMIC_REQUESTS.
        for alias in connections:
            view = transaction.non_atomic_requests(alias)(view)
        name = self.url_name("make").removeprefix("admin:")
        return [path("make/", view, name=name), *super().get_urls()]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Return the list with a link to the page that makes a rule."""
        link = reverse(self.url_name("make"), current_app=self.admin_site.name)
        may_make = self.has_exit_permission(request)
        return super().changelist_view(
            request, {"make_url": link if may_make else "", **(extra_context or {})}
        )

    def workspaces_of(self, request: HttpRequest, using: str) -> list[str]:
        """Return the workspaces for which the user can make rules; an empty name stands for all of them.

        A host that limits the rows of the page of workspaces limits the rules, too.
        """
        stored = set(OutboxWorkspace.objects.using(using).values_list("pk", flat=True))
        page = self.admin_site._registry.get(OutboxWorkspace)
        visible = page.get_queryset(request).using(using) if page else OutboxWorkspace.objects.using(using)
        names = set(visible.values_list("pk", flat=True))
        return sorted(names) if stored - names else ["", *sorted({*names, *get_settings().workspaces})]

    # --- the page ---------------------------------------------------------------------------------

    def make_view(self, request: HttpRequest) -> HttpResponse:
        """Ask for the conditions, show what matches, and make the rule when it is confirmed."""
        if not self.has_exit_permission(request):
            raise PermissionDenied
        if request.POST.get("vendor_id"):
            self.check_payload_permission(request)
        using = router.db_for_write(OutboxRule)
        entered = request.POST if request.method == "POST" else None
        form = RuleForm(
            using,
            self.workspaces_of(request, using),
            may_see_payloads=self.has_payload_permission(request),
            entered=entered,
        )
        if entered is None or not form.is_valid():
            return self._page(request, form)
        rule = form.definition()
        confirmation = ConfirmationForm(rule, entered if "make" in entered else None)
        try:
            if confirmation.is_valid():
                return self._make(request, using, rule, confirmation.cleaned_data)
            preview = preview_rule(using, rule)
        except InvalidRule as error:
            add_faults(error, form, confirmation)
            if form.errors:
                return self._page(request, form)
            preview = preview_rule(using, rule)
        return self._page(request, form, confirmation, preview)

    def _make(
        self, request: HttpRequest, using: str, rule: RuleDefinition, confirmed: dict[str, Any]
    ) -> HttpResponse:
        by = request.user.get_username()
        made = make_rule(using, rule, by=by, **confirmed)
        self.log_addition(request, made.row, _("Made."))
        self.message_user(request, explain_rule(made.row), messages.SUCCESS)
        if made.withdrawn:
            text = _("%(number)s sealed batches were withdrawn.") % {"number": f"{made.withdrawn:,}"}
            self.message_user(request, text, messages.SUCCESS)
        if not made.is_applied:
            text = _("A worker may be sending a batch with matching records now.")
            self.message_user(request, text, messages.WARNING)
        return redirect(
            reverse(self.url_name("change"), args=[made.row.pk], current_app=self.admin_site.name)
        )

    def _page(
        self,
        request: HttpRequest,
        form: RuleForm,
        confirmation: ConfirmationForm | None = None,
        preview: Preview | None = None,
    ) -> HttpResponse:
        request.current_app = self.admin_site.name
        context = {
            **self.admin_site.each_context(request),
            "title": _("Make a rule"),
            "opts": self.opts,
            "form": form,
            "confirmation": confirmation,
            "preview": _describe(preview) if preview else "",
            "examples": self._links(preview) if preview else [],
        }
        return TemplateResponse(request, "admin/evermuse_outbox/outboxrule/make.html", context)

    def _links(self, preview: Preview) -> list[SafeString | str]:
        return [html.link_to(OutboxRecord, pk, f"#{pk}", self.admin_site.name) for pk in preview.examples]


def _describe(preview: Preview) -> str:
    values = {"matched": f"{preview.matched:,}", "looked": f"{preview.looked:,}"}
    if preview.is_partial:
        return _("%(matched)s of the %(looked)s oldest pending records match.") % values
    return _("%(matched)s of %(looked)s pending records match.") % values

"""What the outbox's admin pages have in common: rows are looked at, never edited."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.db import models
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.http import url_has_allowed_host_and_scheme

from ...conf import get_settings
from .paginator import LimitedPaginator


class LookOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Lists that stay cheap on millions of rows, and pages without a form to save."""

    ordering = ("-pk",)
    sortable_by: ClassVar[Any] = ("id",)
    list_per_page = 50
    list_max_show_all = 200
    list_display_links = ("id",)
    paginator = LimitedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    retry_permission = "evermuse_outbox.change_outboxrecord"

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Records come from the host's code alone."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        """Nobody edits rows; Django's change permission is what retrying and resuming ask for."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        """Old rows are purged by the workers; anything else is not to get lost."""
        return False

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Whether rejected records may be put back into the queue: whoever may change records."""
        return bool(request.user.has_perm(self.retry_permission))

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Only the filters that stand beside the list: any other lookup could read the whole table."""
        names = {getattr(entry, "parameter_name", entry) for entry in self.list_filter}
        return lookup in names

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """The workspace has a column where there are several."""
        several = len(get_settings().workspaces) > 1
        return [name for name in self.list_display if several or name != "workspace"]

    def url_name(self, view: str) -> str:
        """The name of one of this model's admin addresses."""
        return f"admin:{self.opts.app_label}_{self.opts.model_name}_{view}"

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> Any:
        """The page with what :meth:`page` finds for it."""
        found = self.page(request, obj) if obj is not None else {}
        return super().render_change_form(request, {**context, **found}, add, change, form_url, obj)

    def page(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        """What the template of the row's page shows beside the fields."""
        return {}


def back_to(request: HttpRequest, otherwise: str) -> HttpResponse:
    """A redirect to where the form came from, when that is on this site."""
    wanted = request.POST.get("back", "")
    safe = url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure())
    return HttpResponseRedirect(wanted if safe else otherwise)

"""The base class of all admin pages of the outbox: rows can be read, never edited."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import urlencode

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import models, router
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, reverse
from django.utils import translation
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ...conf import get_settings
from .clean_input import NUL, with_clean_input
from .paginator import BoundedPaginator


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Base class of the outbox's admin pages: lists that stay fast with millions of rows, and read-only pages."""

    ordering = ("-pk",)
    sortable_by: ClassVar[Any] = ("id",)
    list_per_page = 50
    list_max_show_all = 200
    list_display_links = ("id",)
    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    payload_permission = "evermuse_outbox.view_payload_outboxrecord"

    @property
    def urls(self) -> list[URLPattern]:
        """The addresses of the pages, also those of subclasses; their views get no NUL."""
        return [with_clean_input(pattern) for pattern in self.get_urls()]

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Return the row of an address, or None."""
        return super().get_object(request, object_id.replace(NUL, ""), from_field)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return False: only the host's code creates records."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        """Return False: rows are never edited. Retry and resume check Django's change permission themselves."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        """Return False: only the workers delete rows, after the retention."""
        return False

    def has_payload_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may know what is in payloads: on pages and lists, as a download, or by a search."""
        return bool(request.user.has_perm(self.payload_permission))

    def check_payload_permission(self, request: HttpRequest) -> None:
        """Raise ``PermissionDenied`` with a sentence if the user may not know what is in payloads."""
        if not self.has_payload_permission(request):
            raise PermissionDenied(self.payload_refusal)

    @property
    def payload_refusal(self) -> str:
        """The sentence in the place of a payload that the user may not view."""
        return _("Payloads are hidden: to view them needs the permission %(permission)s.") % {
            "permission": self.payload_permission
        }

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        """Return the rows of the page; see :func:`choose_database`."""
        return choose_database(request, super().get_queryset(request))

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Allow only the filters of the list, because any other lookup could read the entire table."""
        names = {getattr(entry, "parameter_name", entry) for entry in self.list_filter}
        names |= {name for entry in self.list_filter for name in getattr(entry, "parameters", ())}
        return lookup.removesuffix("__exact") in names or lookup in names

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """Return the columns; the workspace is a column only if the settings have several.

        The column ``id`` becomes :meth:`number`.
        """
        has_several = len(get_settings().workspaces) > 1
        names = [name for name in self.list_display if has_several or name != "workspace"]
        return ["number" if name == "id" else name for name in names]

    def get_list_display_links(self, request: HttpRequest, list_display: Any) -> list[Any]:
        """Return the columns that link to the page of a row."""
        links = super().get_list_display_links(request, list_display) or []
        return ["number" if name == "id" else name for name in links]

    def get_sortable_by(self, request: HttpRequest) -> list[Any]:
        """Return the columns by which the list can be sorted."""
        return ["number" if name == "id" else name for name in super().get_sortable_by(request)]

    @admin.display(description=gettext_lazy("ID"), ordering="pk")
    def number(self, row: models.Model) -> str:
        """Return the id as a text, because Django would write thousand separators into a number."""
        return str(row.pk)

    def url_name(self, view: str) -> str:
        """Return the URL name of a view of this model."""
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
        """Render the page of a row with the variables of :meth:`get_page_context`."""
        extra = self.get_page_context(request, obj) if obj is not None else {}
        extra["actions_url"] = self._actions_url(request, obj)
        return super().render_change_form(request, {**context, **extra}, add, change, form_url, obj)

    def _actions_url(self, request: HttpRequest, obj: Any) -> str:
        """Return the address of the manual actions on a row; empty if the user may not see them."""
        can_view = request.user.has_perm(f"{self.opts.app_label}.view_outboxaction")
        if obj is None or not can_view or self.opts.model_name == "outboxaction":
            return ""
        page = reverse(
            f"admin:{self.opts.app_label}_outboxaction_changelist", current_app=self.admin_site.name
        )
        with translation.override(None):  # the log of actions is English
            target = f"#{obj.pk}" if self.opts.model_name == "outboxrecord" else str(obj)
        return f"{page}?{urlencode({'q': target})}"

    def get_page_context(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        """Return the template variables of a row's page, besides its fields."""
        return {}


def choose_database(request: HttpRequest, rows: models.QuerySet[Any]) -> models.QuerySet[Any]:
    """Return the rows of the router's database: that for writes if the request can change something.

    A page may show a replica that is behind. A change must start from the current state. The router is asked only once,
    because filters and searches add queries, and a router may choose another replica each time.
    """
    # Not `request.method`: a job reads its list with a copy of the request whose method is GET.
    is_read = request.META.get("REQUEST_METHOD", "GET") in ("GET", "HEAD")
    return rows.using(rows.db if is_read else router.db_for_write(rows.model))


MAX_REASON = 1_000
"""Characters of the reason of a manual action."""


def posted_reason(request: HttpRequest) -> str:
    """Return the reason that the person gave for an action; empty if there is none."""
    return request.POST.get("reason", "").strip()[:MAX_REASON]


def redirect_back(request: HttpRequest, default: str) -> HttpResponse:
    """Redirect to the posted address ``back`` if it is on this site, otherwise to ``default``."""
    back = request.POST.get("back", "")
    is_safe = url_has_allowed_host_and_scheme(back, {request.get_host()}, require_https=request.is_secure())
    return HttpResponseRedirect(back if is_safe else default)

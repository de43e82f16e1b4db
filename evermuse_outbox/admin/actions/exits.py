"""The section "End this wait by hand" of a page: buttons, each with a reason, and the view behind them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from django.contrib import messages
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.db import router
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils.functional import Promise
from django.utils.translation import gettext as _

from ...operations import NotPossible
from ..lists import ReadOnlyAdmin, posted_reason


class Exit(NamedTuple):
    """A button that ends a wait: its name in the form, its label and what it does.

    ``is_final`` means that it cannot be undone, so the person must confirm it.
    """

    name: str
    label: str | Promise
    help: str | Promise
    is_final: bool = False


class ExitAdmin(ReadOnlyAdmin):
    """The pages of a model with rows that can wait, with buttons that end the wait."""

    def exits_of(self, row: Any) -> list[Exit]:
        """Return the buttons that are possible in the state of a row."""
        raise NotImplementedError

    def use_exit(self, using: str, row: Any, name: str, *, by: str, reason: str) -> str:
        """End the wait of a row. Return what happens next, in words.

        Raise ``NotPossible`` if the state of the row has changed so that this cannot be done.
        """
        raise NotImplementedError

    def page_after_exit(self, row: Any) -> str:
        """Return the address to show after the wait was ended."""
        return reverse(self.url_name("change"), args=[quote(row.pk)], current_app=self.admin_site.name)

    def has_exit_permission(self, request: HttpRequest) -> bool:
        """Return whether the user can end waits: users with the change permission of this model can."""
        return bool(request.user.has_perm(f"{self.opts.app_label}.change_{self.opts.model_name}"))

    def exit_context(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """Return the template variables of the section."""
        if not self.has_exit_permission(request):
            return {}
        url = reverse(self.url_name("exit"), args=[quote(row.pk)], current_app=self.admin_site.name)
        return {"exits": self.exits_of(row), "exit_url": url}

    def get_urls(self) -> list[URLPattern]:
        """Add the view behind the buttons."""
        view = self.admin_site.admin_view(self.exit_view)
        name = self.url_name("exit").removeprefix("admin:")
        return [path("<path:object_id>/exit/", view, name=name), *super().get_urls()]

    def exit_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """End the wait of one row and return to its page."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_exit_permission(request):
            raise PermissionDenied
        row = self.get_object(request, unquote(object_id))
        if row is None:
            raise Http404
        chosen = {item.name: item for item in self.exits_of(row)}.get(request.POST.get("action", ""))
        page = reverse(self.url_name("change"), args=[quote(row.pk)], current_app=self.admin_site.name)
        if chosen is None:
            self.message_user(request, _("The state has changed; nothing was done."), messages.WARNING)
        elif chosen.is_final and not request.POST.get("confirmed"):
            self.message_user(request, _("Confirm that you know what this does."), messages.WARNING)
        elif self._use(request, row, chosen):
            page = self.page_after_exit(row)
        return redirect(page)

    def _use(self, request: HttpRequest, row: Any, chosen: Exit) -> bool:
        using = router.db_for_write(type(row), instance=row)
        by, reason = request.user.get_username(), posted_reason(request)
        try:
            result = self.use_exit(using, row, chosen.name, by=by, reason=reason)
        except NotPossible as error:
            self.message_user(request, error.message, messages.WARNING)
            return False
        if row.pk is not None:
            self.log_change(request, row, f"{chosen.label}. {result}")
        self.message_user(request, f"{row}: {result}", messages.SUCCESS)
        return True


def exits_by_name(exits: Mapping[str, Exit], *names: str) -> list[Exit]:
    """Return the buttons of these names, in order."""
    return [exits[name] for name in names]

"""Resume a workspace or a group: a button on its page, and an action on the list."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.db import router
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _

from ...wakeup import wake_workers_on_commit
from ..lists import ReadOnlyAdmin


class ResumeAdmin(ReadOnlyAdmin):
    """The pages of a model with rows that can be paused, and an action that makes them active."""

    actions = ("resume_selected",)
    is_deleted_by_resume = False
    """Whether resuming deletes the row, so that its page no longer exists."""

    def resume_row(self, using: str, row: Any) -> bool:
        """Make the row active again. Return False if nothing changed: it is active already, or must stay blocked."""
        raise NotImplementedError

    def workspace_of(self, row: Any) -> str:
        """Return the name of the workspace that has work after the row is resumed."""
        raise NotImplementedError

    def has_resume_permission(self, request: HttpRequest) -> bool:
        """Return whether the user can resume rows: users with the change permission of this model can."""
        return bool(request.user.has_perm(f"{self.opts.app_label}.change_{self.opts.model_name}"))

    def get_urls(self) -> list[URLPattern]:
        """Add the view behind the button."""
        view = self.admin_site.admin_view(self.resume_view)
        name = self.url_name("resume").removeprefix("admin:")
        return [path("<path:object_id>/resume/", view, name=name), *super().get_urls()]

    def resume_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Resume one row and return to its page."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_resume_permission(request):
            raise PermissionDenied
        row = self.get_object(request, unquote(object_id))
        if row is None:
            raise Http404
        self._resume(request, row)
        return redirect(self._page_after(row))

    @admin.action(description=_("Resume selected %(verbose_name_plural)s now"), permissions=["resume"])
    def resume_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Resume the selected rows."""
        for row in queryset:
            self._resume(request, row)

    def _resume(self, request: HttpRequest, row: Model) -> None:
        using = router.db_for_write(type(row), instance=row)
        name = str(row)
        if not self.resume_row(using, row):
            text = _now(
                "%s is unchanged: it is active already, Evermuse sent a retryAfter that is not over, "
                "or it is held after a restore, which only outbox_reconcile ends."
            )
            self.message_user(request, text % name, messages.INFO)
            return
        wake_workers_on_commit(using, self.workspace_of(row))
        self.log_change(request, row, _now("Resumed."))
        self.message_user(request, _now("%s is active again; the workers continue.") % name, messages.SUCCESS)

    def _page_after(self, row: Model) -> str:
        site = self.admin_site.name
        if self.is_deleted_by_resume:
            return reverse(self.url_name("changelist"), current_app=site)
        return reverse(self.url_name("change"), args=[quote(row.pk)], current_app=site)

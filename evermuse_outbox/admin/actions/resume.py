"""Ending a hold by a person's word: a button on the page, an action on the list."""

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
from ..lists.read_only import LookOnlyAdmin


class ResumeAdmin(LookOnlyAdmin):
    """Rows that hold records back, and can be told to let them go."""

    actions = ("resume_chosen",)
    row_ends = False
    """Whether a row goes away with its hold, so that there is no page to come back to."""

    def resume(self, using: str, row: Any) -> bool:
        """Ends the hold; False where there is none any more."""
        raise NotImplementedError

    def workspace_of(self, row: Any) -> str:
        """Whose workers have something to do then."""
        raise NotImplementedError

    def has_resume_permission(self, request: HttpRequest) -> bool:
        """Whether a hold may be ended: whoever may change the rows of this model."""
        return bool(request.user.has_perm(f"{self.opts.app_label}.change_{self.opts.model_name}"))

    def get_urls(self) -> list[URLPattern]:
        """Also the view behind the button."""
        view = self.admin_site.admin_view(self.resume_view)
        name = self.url_name("resume").removeprefix("admin:")
        return [path("<path:object_id>/resume/", view, name=name), *super().get_urls()]

    def resume_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ends the hold of one row."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_resume_permission(request):
            raise PermissionDenied
        row = self.get_object(request, unquote(object_id))
        if row is None:
            raise Http404
        self._resume(request, row)
        return redirect(self._page_after(row))

    @admin.action(description=_("Resume chosen %(verbose_name_plural)s now"), permissions=["resume"])
    def resume_chosen(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Ends the holds of these rows."""
        for row in queryset:
            self._resume(request, row)

    def _resume(self, request: HttpRequest, row: Model) -> None:
        using = router.db_for_write(type(row), instance=row)
        name = str(row)
        if not self.resume(using, row):
            self.message_user(request, _now("%s was open already.") % name, messages.INFO)
            return
        wake_workers_on_commit(using, self.workspace_of(row))
        self.log_change(request, row, _now("Resumed."))
        self.message_user(request, _now("%s is open again; the workers go on.") % name, messages.SUCCESS)

    def _page_after(self, row: Model) -> str:
        site = self.admin_site.name
        if self.row_ends:
            return reverse(self.url_name("changelist"), current_app=site)
        return reverse(self.url_name("change"), args=[quote(row.pk)], current_app=site)

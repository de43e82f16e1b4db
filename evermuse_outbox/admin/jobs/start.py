"""Start jobs from a list or from the page of a row.

Each action collects the selected rows for a moment and leads to the page of the job. There the person reads a preview
and confirms it. Only then the workers change anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from django.contrib import messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import models, router
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _

from ... import jobs
from ...conf import get_settings
from ...models import OutboxOperation, OutboxRecord
from ...operations import NotPossible
from ..lists import ReadOnlyAdmin
from .selection import MODELS, Selection

NAMES = {model: name for name, model in MODELS.items()}


class JobAdmin(ReadOnlyAdmin):
    """The pages of a model with actions that start jobs."""

    jobs_of_list: ClassVar[tuple[str, ...]] = ()
    """The kinds of jobs that are actions of the list."""

    def has_job_permission(self, request: HttpRequest, kind: str) -> bool:
        """Return whether the user may start a kind of job."""
        return may_start(request, kind)

    def get_actions(self, request: HttpRequest, action_location: Any = None) -> dict[str, Any]:
        """Add one action to the list for each kind of job that the user may start.

        Since Django 6.1, ``action_location`` tells whether the actions are for a list or for the page of a row. A page
        has buttons of its own.
        """
        options = {} if action_location is None else {"action_location": action_location}
        actions: dict[str, Any] = dict(super().get_actions(request, **options))
        if getattr(action_location, "name", "") == "CHANGE_FORM":
            return actions
        for name in self.jobs_of_list:
            if self.has_job_permission(request, name) and jobs.get_kind(name).is_offered():
                actions[f"start_{name}"] = (_start(name), f"start_{name}", jobs.get_kind(name).label)
        return actions | self._fixes(request)

    def _fixes(self, request: HttpRequest) -> dict[str, Any]:
        """Return one action for each function in the setting FIXES, on lists of records."""
        if self.model is not OutboxRecord or not self.has_job_permission(request, "fix"):
            return {}
        label = jobs.get_kind("fix").label
        return {
            f"fix_{name}": (_start("fix", {"fix": name}), f"fix_{name}", f"{label}: {name}")
            for name in get_settings().fixes
        }

    def get_urls(self) -> list[URLPattern]:
        """Add the view that starts a job for one row."""
        view = self.admin_site.admin_view(self.start_view)
        name = self.url_name("start").removeprefix("admin:")
        return [path("<path:object_id>/start/<slug:kind>/", view, name=name), *super().get_urls()]

    def start_view(self, request: HttpRequest, object_id: str, kind: str) -> HttpResponse:
        """Start a job for one row, and show its page."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if kind not in self.jobs_of_list:
            raise Http404
        if not self.has_job_permission(request, kind):
            raise PermissionDenied
        row = self.get_object(request, unquote(object_id))
        if row is None:
            raise Http404
        return self.start_job(request, kind, Selection(NAMES[self.model], "", [row.pk]))

    def start_job(
        self, request: HttpRequest, kind: str, selection: Selection, options: Mapping[str, Any] | None = None
    ) -> HttpResponse:
        """Insert a job, collect its members for a moment, and show its page."""
        # The router's database for reads may be behind, and a job must not miss rows.
        using = router.db_for_write(OutboxRecord)
        rows = selection.rows(self.admin_site, request, jobs.get_kind(kind).model).using(using)
        page = reverse(self.url_name("changelist"), current_app=self.admin_site.name)
        if not rows.exists():
            self.message_user(request, _("The selection is empty; nothing was done."), messages.WARNING)
            return redirect(page)
        try:
            job = jobs.create(
                using,
                kind,
                by=request.user.get_username(),
                selection=selection.describe(hides_texts=jobs.get_kind(kind).hides_selection),
                options={**(options or {}), "list": selection.as_json()},
            )
            jobs.collect(job, rows)
        except NotPossible as error:
            self.message_user(request, error.message, messages.WARNING)
            return redirect(page)
        return redirect(page_of_job(self.admin_site.name, job))

    def job_buttons(self, request: HttpRequest, row: Any, *kinds: str) -> list[tuple[str, Any]]:
        """Return the address and the label of each button that starts a job for a row."""
        return [
            (
                reverse(self.url_name("start"), args=[row.pk, name], current_app=self.admin_site.name),
                jobs.get_kind(name).label,
            )
            for name in self.jobs_of_list
            if name in kinds and self.has_job_permission(request, name)
        ]


def may_start(request: HttpRequest, kind: str) -> bool:
    """Return whether the user has the permission for a kind of job."""
    permission = jobs.get_kind(kind).permission
    return bool(request.user.has_perm(f"{OutboxRecord._meta.app_label}.{permission}"))


def page_of_job(site: str, job: OutboxOperation) -> str:
    """Return the address of the page of a job."""
    options = job._meta
    return reverse(f"admin:{options.app_label}_{options.model_name}_change", args=[job.pk], current_app=site)


def _start(
    kind: str, options: Mapping[str, Any] | None = None
) -> Callable[[Any, HttpRequest, models.QuerySet[Any]], HttpResponse]:
    """Return the action of a list that starts a job of this kind."""

    def start(page: JobAdmin, request: HttpRequest, rows: models.QuerySet[Any]) -> HttpResponse:
        query = request.GET.urlencode()
        if request.POST.get("select_across") == "1":
            return page.start_job(request, kind, Selection(NAMES[page.model], query), options)
        ids = sorted(rows.values_list("pk", flat=True))
        return page.start_job(request, kind, Selection(NAMES[page.model], query, ids), options)

    return start

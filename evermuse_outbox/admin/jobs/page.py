"""Jobs: a preview before anything is changed, then the progress, and at the end what was not changed and why."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ... import jobs
from ...backfill import Backfill
from ...models import OperationState, OutboxOperation, OutboxOperationMember, OutboxRecord
from ...operations import NotPossible
from ...wakeup import wake_operations_on_commit
from .. import html
from ..lists import ReadOnlyAdmin, WorkspaceFilter, posted_reason
from .selection import Selection
from .start import may_start

MAX_SHOWN = 50
"""Members on the page of a job that were not changed: the first ones."""

MAX_EXAMPLES = 5
"""Records whose changes by a fix are shown before it is confirmed."""

REFRESH_SECONDS = {OperationState.RUNNING: 2, OperationState.COLLECTING: 2, OperationState.PAUSED: 10}
"""Seconds after which the progress of a job is read again."""


@admin.register(OutboxOperation)
class OutboxOperationAdmin(ReadOnlyAdmin):
    """The jobs: manual operations on many rows, the newest first."""

    list_display = ("id", "job_label", "state_chip", "progress", "by", "selection", "created", "workspace")
    list_filter = ("state", WorkspaceFilter)
    sortable_by = ()
    fields = (("state_chip", "by"), "selection", "reason", ("created", "confirmed", "started", "finished"))
    readonly_fields = ("state_chip", "created", "confirmed", "started", "finished")
    changes: ClassVar[dict[str, tuple[Callable[[OutboxOperation], None], Any]]] = {
        "pause": (jobs.pause, _("Paused.")),
        "proceed": (jobs.proceed, _("Continued.")),
        "cancel": (jobs.cancel, _("Cancelled.")),
    }
    """Name of a button → what it does, and its entry in Django's log."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the user may see a job: with Django's view permission, or because they started it."""
        is_own = obj is not None and obj.by == request.user.get_username()
        return is_own or super().has_view_permission(request, obj)

    # --- columns ----------------------------------------------------------------------------------

    @admin.display(description=_("job"))
    def job_label(self, job: OutboxOperation) -> str:
        """Return what the job does."""
        return label_of(job)

    @admin.display(description=_("state"))
    def state_chip(self, job: OutboxOperation) -> SafeString:
        """Return the state in its colour."""
        return html.state_chip(OperationState(job.state))

    @admin.display(description=_("progress"))
    def progress(self, job: OutboxOperation) -> SafeString:
        """Return a bar with the members that were changed and those that were not."""
        return html.progress_bar(job.changed, job.refused + job.failed, job.total)

    @admin.display(description=_("created"))
    def created(self, job: OutboxOperation) -> SafeString | str:
        """Return when the job was created."""
        return html.time_tag(job.created_at)

    @admin.display(description=_("confirmed"))
    def confirmed(self, job: OutboxOperation) -> SafeString | str:
        """Return when the person confirmed it."""
        return html.time_tag(job.confirmed_at)

    @admin.display(description=_("started"))
    def started(self, job: OutboxOperation) -> SafeString | str:
        """Return when a worker began with the first chunk."""
        return html.time_tag(job.started_at)

    @admin.display(description=_("finished"))
    def finished(self, job: OutboxOperation) -> SafeString | str:
        """Return when the job ended."""
        return html.time_tag(job.finished_at)

    # --- the page ---------------------------------------------------------------------------------

    def get_page_context(self, request: HttpRequest, obj: OutboxOperation) -> dict[str, Any]:
        """Return the preview, the progress and the buttons of a job."""
        kind, can_change = kind_of(obj), self._may_change(request, obj)
        is_mine = obj.by == request.user.get_username()
        left, cost = obj.seconds_left, jobs.estimate(obj) if kind else None
        return {
            "title": label_of(obj),
            "explanation": explain_job(obj),
            "job": obj,
            "kind": kind,
            "bar": html.progress_bar(obj.changed, obj.refused + obj.failed, obj.total),
            "size": html.byte_size(obj.bytes),
            "estimate": cost,
            "estimated_time": html.duration(timedelta(seconds=cost.seconds)) if cost else "",
            "time_left": html.duration(timedelta(seconds=left)) if left and left >= 1 else "",
            "expected": [(translate_reason(reason), entry) for reason, entry in obj.expected.items()],
            "will_change": obj.total - sum(entry["count"] for entry in obj.expected.values()),
            "not_changed": self._not_changed(obj),
            "examples": self._examples(request, obj),
            "refresh_seconds": REFRESH_SECONDS.get(OperationState(obj.state)),
            # A command collects its own jobs. Their page would submit its form again and again.
            "can_collect": can_change
            and is_mine
            and obj.state == OperationState.COLLECTING
            and bool(obj.options.get("list")),
            "can_confirm": can_change and is_mine and obj.state == OperationState.READY,
            "can_pause": can_change and obj.state == OperationState.RUNNING,
            "can_proceed": can_change and obj.state in (OperationState.PAUSED, OperationState.FAILED),
            "can_cancel": can_change and not obj.is_over,
            "job_url": self._url("job", obj),
            "collect_url": self._url("collect", obj),
            "list_url": self._list_url(obj),
        }

    def _not_changed(self, job: OutboxOperation) -> list[tuple[OutboxOperationMember, SafeString | str, str]]:
        kind = kind_of(job)
        members = OutboxOperationMember.objects.using(job.using).not_changed(job)[:MAX_SHOWN]
        model = kind.model if kind else OutboxRecord
        site = self.admin_site.name
        return [
            (
                member,
                html.link_to(model, member.target, f"#{member.target}", site),
                translate_reason(member.note),
            )
            for member in members
        ]

    def _examples(self, request: HttpRequest, job: OutboxOperation) -> list[jobs.Example]:
        """Return what a fix would do to its first members, if the user may see payloads."""
        is_preview = job.state in (OperationState.COLLECTING, OperationState.READY)
        if job.kind != "fix" or not is_preview or not self.has_payload_permission(request):
            return []
        members = OutboxOperationMember.objects.using(job.using).filter(operation=job.pk).order_by("target")
        pks = list(members.values_list("target", flat=True)[:MAX_EXAMPLES])
        rows = OutboxRecord.rows.using(job.using).filter(pk__in=pks)
        try:
            return jobs.preview_fix(rows, str(job.options.get("fix", "")), MAX_EXAMPLES)
        except NotPossible:
            return []

    def _list_url(self, job: OutboxOperation) -> str:
        """Return the address of the list with the members of a job; empty if they are no records."""
        kind = kind_of(job)
        if kind is None or kind.model is not OutboxRecord or not kind.has_members:
            return ""
        records = f"admin:{self.opts.app_label}_outboxrecord_changelist"
        return f"{reverse(records, current_app=self.admin_site.name)}?job={job.pk}"

    def _url(self, view: str, job: OutboxOperation) -> str:
        return reverse(self.url_name(view), args=[job.pk], current_app=self.admin_site.name)

    def _may_change(self, request: HttpRequest, job: OutboxOperation) -> bool:
        return kind_of(job) is not None and may_start(request, job.kind)

    # --- views ------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        """Add the views behind the buttons."""
        views = {"collect": self.collect_view, "job": self.job_view}
        return [
            *(
                path(
                    f"<int:pk>/{name}/",
                    self.admin_site.admin_view(view),
                    name=self.url_name(name).removeprefix("admin:"),
                )
                for name, view in views.items()
            ),
            *super().get_urls(),
        ]

    def collect_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Go on to collect the members of a job. Only the person who started it can do that, with their own rights."""
        job = self._posted_job(request, pk)
        if job.by != request.user.get_username():
            raise PermissionDenied
        stored = job.options.get("list")
        if stored and job.state == OperationState.COLLECTING:
            rows = Selection.from_json(stored).rows(self.admin_site, request, jobs.get_kind(job.kind).model)
            jobs.collect(job, rows.using(job.using))
        return self._back_to(job)

    def job_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Confirm, pause, continue or cancel a job."""
        job = self._posted_job(request, pk)
        action = request.POST.get("action", "")
        try:
            if action == "confirm":
                self._confirm(request, job)
            elif action in self.changes:
                change, text = self.changes[action]
                change(job)
                self.log_change(request, job, str(text))
                wake_operations_on_commit(job.using)
        except NotPossible as error:
            self.message_user(request, error.message, messages.WARNING)
        return self._back_to(job)

    def _confirm(self, request: HttpRequest, job: OutboxOperation) -> None:
        kind, reason = jobs.get_kind(job.kind), posted_reason(request)
        if job.by != request.user.get_username():
            raise PermissionDenied
        if kind.is_final and not (reason and request.POST.get("confirmed")):
            raise NotPossible(gettext("This cannot be undone: give a reason, and confirm it."))
        jobs.confirm(job, reason=reason)
        self.log_change(request, job, gettext("Confirmed: %(selection)s.") % {"selection": job.selection})
        wake_operations_on_commit(job.using)

    def _posted_job(self, request: HttpRequest, pk: int) -> OutboxOperation:
        if request.method != "POST":
            raise Http404
        job: OutboxOperation | None = self.get_object(request, str(pk))
        if job is None:
            raise Http404
        if not self.has_view_permission(request, job) or not self._may_change(request, job):
            raise PermissionDenied
        return job

    def _back_to(self, job: OutboxOperation) -> HttpResponse:
        return redirect(self._url("change", job))


def kind_of(job: OutboxOperation) -> jobs.Kind | None:
    """Return the kind of a job; None if this version does not know it."""
    try:
        return jobs.get_kind(job.kind)
    except NotPossible:
        return None


def translate_reason(note: str) -> str:
    """Return a stored reason in the language of the person. What follows a colon is about one member, and stays."""
    reason, colon, detail = note.partition(":")
    return f"{gettext(reason)}{colon}{detail}" if reason else note


def label_of(job: OutboxOperation) -> str:
    """Return what a job does."""
    kind, name = kind_of(job), job.options.get("fix", "")
    label = str(kind.label) if kind else job.kind
    return f"{label}: {name}" if name else label


def explain_running(job: OutboxOperation) -> str:
    """Return what executes a running job."""
    if job.kind == Backfill.name:
        text = gettext(
            "The command outbox_backfill executes it. If that has ended, start the same command again."
        )
        return f"{text} {job.message}".strip()
    return gettext("Workers execute it in chunks. It can be paused or cancelled at any time.")


def explain_job(job: OutboxOperation) -> str:
    """Return what a job has done, what it does next, and what it waits for."""
    match OperationState(job.state):
        case OperationState.COLLECTING:
            return gettext("Its members are being collected. Nothing has been changed.")
        case OperationState.READY:
            return gettext("It waits for a confirmation. Nothing has been changed.")
        case OperationState.RUNNING:
            return explain_running(job)
        case OperationState.PAUSED:
            text = gettext("Paused. What it has changed stays so; the rest waits until it is continued.")
        case OperationState.FINISHED:
            text = gettext("Finished.")
        case OperationState.CANCELLED:
            text = gettext("Cancelled. What it had changed stays so; the rest stays as it was.")
        case _:
            text = gettext("Failed. What it had changed stays so. Correct the cause, then continue it.")
    return f"{text} {job.message}".strip()

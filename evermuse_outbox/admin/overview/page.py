"""The overview page: the figures with their windows, links and drawings, for the template ``overview.html``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext as _

from ...conf import get_settings
from ...insight import Overview, Problem, WorkspaceFigures, collect_overview
from ...models import (
    OUTCOME_LABELS,
    BatchState,
    OperationState,
    OutboxAttempt,
    OutboxBatch,
    OutboxGroup,
    OutboxIncident,
    OutboxOperation,
    OutboxOverview,
    OutboxRecord,
    OutboxRule,
    OutboxRun,
    OutboxWorker,
    OutboxWorkspace,
    WorkspaceState,
)
from .. import html
from ..lists import ReadOnlyAdmin
from .drawings import LANE, draw_deliveries, draw_incidents, draw_waiting

REFRESH_SECONDS = 5
"""Seconds after which the script fetches the page again. A page takes a tenth of a second of the database."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A number on the page: its name, the window that it counts, its text, and the list that it counts."""

    label: str
    window: str
    text: str
    url: str = ""
    tone: str = ""


@admin.register(OutboxOverview)
class OutboxOverviewAdmin(ReadOnlyAdmin):
    """The overview: whether something is wrong, since when, and what to do."""

    template = "admin/evermuse_outbox/overview.html"

    def has_view_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        """Return whether the user may view workspaces, or the overview alone."""
        names = ("view_outboxworkspace", "change_outboxworkspace", "view_outboxoverview")
        return any(request.user.has_perm(f"{self.opts.app_label}.{name}") for name in names)

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Return whether the entry is shown."""
        return self.has_view_permission(request)

    def get_urls(self) -> list[URLPattern]:
        """Return the address of the page. There are no pages of rows."""
        view = self.admin_site.admin_view(self.changelist_view)
        return [path("", view, name=f"{self.opts.app_label}_{self.opts.model_name}_changelist")]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Return the page."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        using = self.get_queryset(request).db
        overview = collect_overview(using, hidden=self.hidden_workspaces(request))
        links = html.Links(self.admin_site, request)
        context = {
            **self.admin_site.each_context(request),
            **describe(overview, links),
            "title": _("Overview"),
            "opts": self.opts,
            "refresh_seconds": REFRESH_SECONDS,
            "can_view_records": links.can_view(OutboxRecord),
            **(extra_context or {}),
        }
        return TemplateResponse(request, self.template, context)

    def hidden_workspaces(self, request: HttpRequest) -> list[str]:
        """Return the workspaces that the admin of workspaces does not show to this person."""
        registered = self.admin_site._registry.get(OutboxWorkspace)
        visible = (registered or self).get_queryset(request)
        if not visible.query.where:
            return []
        names = set(visible.values_list("pk", flat=True))
        known = {*OutboxWorkspace.objects.using(visible.db).values_list("pk", flat=True)}
        return sorted((known | set(get_settings().workspaces)) - names)


def describe(overview: Overview, links: html.Links) -> dict[str, Any]:
    """Return the variables of the template."""
    has_several = len(get_settings().workspaces) > 1
    drawn = draw_incidents(overview.incidents, overview.at)
    return {
        "overview": overview,
        "is_healthy": not any(problem.is_failure for problem in overview.problems),
        "problems": [_problem(problem, links) for problem in overview.problems],
        "workers": _workers(overview, links),
        "workspaces": [_workspace(row, overview.at, links, has_several) for row in overview.workspaces],
        "rejections": list(_rejections(overview, links)),
        "rejected_url": links.list_of(OutboxRecord, state="rejected"),
        "incidents": [_incident(row, overview.at, links) for row in overview.incidents],
        "incidents_url": links.list_of(OutboxIncident),
        "timeline": drawn,
        "timeline_height": max(len(drawn), 1) * LANE,
        "day_ago": overview.at - timedelta(days=1),
        "runs": [
            (
                run,
                html.progress_bar(run.ended - run.rejected, run.rejected, run.total),
                links.row_of(OutboxRun, run.id),
            )
            for run in overview.runs
        ],
        "jobs": [
            (job, OperationState(job.state).label, links.row_of(OutboxOperation, job.id))
            for job in overview.jobs
        ],
    }


def _seconds(seconds: float) -> str:
    return html.duration(timedelta(seconds=seconds))


def _problem(problem: Problem, links: html.Links) -> dict[str, Any]:
    urls = {
        "workers": links.list_of(OutboxWorker),
        "workspace": links.row_of(OutboxWorkspace, problem.key),
        "group": links.row_of(OutboxGroup, problem.key),
        "lag": links.list_of(OutboxRecord, state="pending", workspace=problem.workspace),
        "rule": links.row_of(OutboxRule, problem.key),
        "rejections": links.list_of(OutboxRecord, state="rejected"),
        "indexes": "",
    }
    since = html.time_tag(problem.since) if problem.since else ""
    tone = "bad" if problem.is_failure else "care"
    return {"problem": problem, "url": urls[problem.kind], "tone": tone, "since": since}


def _workers(overview: Overview, links: html.Links) -> dict[str, Any]:
    workers = overview.workers
    seen = workers.last_seen_at
    return {
        "is_missing": workers.is_missing,
        "at_work": workers.at_work,
        "url": links.list_of(OutboxWorker, seen="now"),
        "last_seen": _seconds((overview.at - seen).total_seconds()) if seen else "",
        "rows": [
            (process, links.row_of(OutboxWorker, ""), html.time_tag(process.last_seen_at))
            for process in workers.processes
        ],
    }


def _workspace(row: WorkspaceFigures, at: datetime, links: html.Links, has_several: bool) -> dict[str, Any]:
    name = row.name if has_several else ""
    scale = max((group.max for group in row.groups), default=0.0)
    return {
        "row": row,
        "url": links.row_of(OutboxWorkspace, row.name),
        "chip": html.state_chip(WorkspaceState(row.state)),
        "is_active": row.state == WorkspaceState.ACTIVE,
        "figures": list(_figures(row, name, links)),
        "bars": draw_deliveries(row.delivered_by_minute),
        "highest": max(row.delivered_by_minute, default=0),
        "hour_ago": at - timedelta(minutes=59),
        "attempts": [
            (
                count,
                OutboxAttempt.Call(count.call).label,
                OUTCOME_LABELS.get(count.outcome, count.outcome),
                html.OUTCOME_TONES.get(count.outcome, "calm"),
                links.list_of(
                    OutboxAttempt,
                    time="hour",
                    call=count.call,
                    outcome=count.outcome,
                    status=count.status or "none",
                    workspace=name,
                ),
            )
            for count in row.attempts
        ],
        "groups": [
            {
                "group": group,
                "url": links.list_of(
                    OutboxRecord, state="pending", type=group.type, product=group.product_id, workspace=name
                ),
                "bars": draw_waiting(group.p50, group.p90, group.max, scale),
                "waits": [_seconds(seconds) for seconds in (group.p50, group.p90, group.max)],
            }
            for group in row.groups
        ],
    }


def _figures(row: WorkspaceFigures, name: str, links: html.Links) -> Iterator[Figure]:
    """Yield the numbers of a workspace. ``name`` is empty if there is only one workspace."""
    yield from _waiting(row, name, links)
    yield from _speed(row, name, links)
    yield from _unfinished(row, name, links)
    yield from _attachments(row, name, links)


def _waiting(row: WorkspaceFigures, name: str, links: html.Links) -> Iterator[Figure]:
    pending = links.list_of(OutboxRecord, state="pending", workspace=name)
    yield Figure(_("Pending records"), _("now"), str(row.pending), pending)
    oldest, text, url = row.oldest_unsent, html.EMPTY, ""
    if oldest:
        text = f"{_seconds(oldest.seconds)} ({oldest.type} · {oldest.product_id})"
        filters = {"state": "pending", "type": oldest.type, "product": oldest.product_id, "workspace": name}
        url = links.row_of(OutboxBatch, oldest.batch) or links.list_of(OutboxRecord, **filters)
    yield Figure(_("Oldest unsent record"), _("now"), text, url)
    yield Figure(_("Drained in, at this speed"), _("estimate"), _drained_in(row), pending)


def _speed(row: WorkspaceFigures, name: str, links: html.Links) -> Iterator[Figure]:
    last = {"time": "minute", "workspace": name}
    sends = links.list_of(OutboxAttempt, call="ingest", outcome="accepted", **last)
    yield Figure(_("Records accepted"), _("last minute"), f"{row.records_last_minute:,}", sends)
    used = f"{row.limit_used:.0%} ({row.requests_last_minute:,})"
    requests = links.list_of(OutboxAttempt, **last)
    yield Figure(_("Rate limit used (requests)"), _("last minute"), used, requests)
    complete = links.list_of(OutboxBatch, state=BatchState.COMPLETE.value, time="hour", workspace=name)
    yield Figure(_("Records delivered"), _("last hour"), f"{row.delivered_last_hour:,}", complete)


def _unfinished(row: WorkspaceFigures, name: str, links: html.Links) -> Iterator[Figure]:
    flying = links.list_of(OutboxRecord, state="in_flight", workspace=name)
    yield Figure(_("Records in flight"), _("now"), f"{row.records_in_flight:,}", flying)
    states = {BatchState.IN_DOUBT.value: row.in_doubt, **row.in_flight}
    for state, count in states.items():
        url = links.list_of(OutboxBatch, state=state, workspace=name)
        tone = "care" if state == BatchState.IN_DOUBT and count.batches else ""
        label = _("Batches: %(state)s") % {"state": BatchState(state).label}
        yield Figure(label, _("now"), f"{count.batches:,}", url, tone)


def _attachments(row: WorkspaceFigures, name: str, links: html.Links) -> Iterator[Figure]:
    fetched = links.list_of(OutboxBatch, attachments="progress", workspace=name)
    yield Figure(_("Attachments in progress"), _("now"), f"{row.attachments_in_progress:,}", fetched)
    failed = links.list_of(OutboxBatch, attachments="failed", time="hour", workspace=name)
    tone = "care" if row.attachments_failed else ""
    yield Figure(_("Attachments failed"), _("last hour"), f"{row.attachments_failed:,}", failed, tone)


def _drained_in(row: WorkspaceFigures) -> str:
    if not row.pending:
        return _("drained")
    if row.state != WorkspaceState.ACTIVE:
        return _("unknown: nothing is sent")
    if row.drained_in_seconds is None:
        return _("unknown: nothing was accepted")
    return _seconds(row.drained_in_seconds)


def _rejections(overview: Overview, links: html.Links) -> Iterator[dict[str, Any]]:
    for group in overview.rejections.groups:
        filters = {"state": "rejected", "type": group.type, "product": group.product_id}
        yield {
            "group": group,
            "url": links.list_of(OutboxRecord, **filters, signature=group.signature),
            "example_url": links.row_of(OutboxRecord, group.example),
            "last": html.time_tag(group.last_at),
        }


def _incident(row: Any, at: datetime, links: html.Links) -> dict[str, Any]:
    return {
        "row": row,
        "url": links.row_of(OutboxIncident, row.id),
        "tone": "care" if row.ended_at else "bad",
        "started": html.time_tag(row.started_at),
        "ended": html.time_tag(row.ended_at) if row.ended_at else _("open"),
        "lasted": html.duration((row.ended_at or at) - row.started_at),
    }

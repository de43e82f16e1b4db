"""Runs: the list with the progress of each, and a page with counts, rejections by error, and a plot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from django.contrib import admin
from django.db.models import F, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ...database_clock import database_now
from ...models import (
    ById,
    Decision,
    OutboxLabelSet,
    OutboxRecord,
    OutboxRejection,
    OutboxRun,
    RecordState,
    is_last_rejection,
)
from ...operations import close_run
from ...runs import RunStatus, read_status, status_of
from .. import html
from ..actions import Exit, ExitAdmin
from ..lists import WorkspaceFilter
from .drawing import draw_progress

MAX_COUNTED = 100_000
"""Records up to which a page counts the records anew. A larger run shows the last count of the workers."""

MAX_REJECTED = 5_000
"""Newest rejected records of a run that are grouped by their error."""

Rows = QuerySet[Any]

CLOSE = Exit(
    "close",
    _("Close the run"),
    _(
        "No more records will join it. It is finished when its records have ended. A name can be used again then."
    ),
)


class RunStateFilter(admin.SimpleListFilter):
    """Filter runs by how far they are."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, Any]]:
        """Return the choices."""
        return [
            ("unfinished", _("not finished")),
            ("finished", _("finished")),
            ("person", _("with rejected records")),
        ]

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        """Return the runs."""
        match self.value():
            case "unfinished":
                return queryset.filter(finished_at__isnull=True)
            case "finished":
                return queryset.filter(finished_at__isnull=False)
            case "person":
                return queryset.filter(needs_person_since__isnull=False)
            case _:
                return queryset


@admin.register(OutboxRun)
class OutboxRunAdmin(ExitAdmin):
    """The runs, the newest first."""

    list_display = ("id", "name", "state_chip", "progress", "started", "finished", "duration", "workspace")
    list_filter = (RunStateFilter, WorkspaceFilter)
    sortable_by = ()
    fields = (
        ("state_chip", "duration"),
        "label_list",
        ("started", "closed", "finished"),
        ("expected", "counted"),
    )
    readonly_fields = ("state_chip", "duration", "label_list", "started", "closed", "finished", "counted")

    # --- columns ----------------------------------------------------------------------------------

    @admin.display(description=_("state"))
    def state_chip(self, run: OutboxRun) -> SafeString:
        """Return whether the run is open, closed or finished, in a colour."""
        label, tone = _state_of(run)
        return html.chip(label, tone)

    @admin.display(description=_("progress"))
    def progress(self, run: OutboxRun) -> SafeString:
        """Return a bar with the records that have ended, as they were counted last."""
        return _bar(status_of(run, run.counts))

    @admin.display(description=_("started"))
    def started(self, run: OutboxRun) -> SafeString | str:
        """Return when the run was started."""
        return html.time_tag(run.started_at)

    @admin.display(description=_("closed"))
    def closed(self, run: OutboxRun) -> SafeString | str:
        """Return since when no more records join it."""
        return html.time_tag(run.closed_at)

    @admin.display(description=_("finished"))
    def finished(self, run: OutboxRun) -> SafeString | str:
        """Return when a worker has seen that it is finished."""
        return html.time_tag(run.finished_at)

    @admin.display(description=_("counted"))
    def counted(self, run: OutboxRun) -> SafeString | str:
        """Return when workers have counted its records last."""
        return html.time_tag(run.counted_at)

    @admin.display(description=_("duration"))
    def duration(self, run: OutboxRun) -> str:
        """Return the time from its start to its end, or until now."""
        return html.duration((run.finished_at or database_now(run._state.db)) - run.started_at)

    @admin.display(description=_("labels"))
    def label_list(self, run: OutboxRun) -> str:
        """Return the labels of all its records."""
        return ", ".join(f"{name}={value}" for name, value in run.labels.items()) or html.EMPTY

    # --- the page ---------------------------------------------------------------------------------

    def get_page_context(self, request: HttpRequest, obj: OutboxRun) -> dict[str, Any]:
        """Return the counts, the rejections by error, the plot and the button."""
        using = str(obj._state.db)
        is_large = sum(obj.counts.values()) > MAX_COUNTED
        status = status_of(obj, obj.counts) if is_large else read_status(using, obj)
        plot, links = draw_progress(obj.history), html.Links(self.admin_site, request)
        return {
            "explanation": _explain(status),
            "run": obj,
            "bar": _bar(status),
            "counts": [
                (
                    html.state_chip(RecordState(state)),
                    count,
                    links.list_of(OutboxRecord, run=obj.pk, state=state),
                )
                for state, count in status.counts.items()
                if count
            ],
            "total": status.total,
            "records_url": links.list_of(OutboxRecord, run=obj.pk),
            "rejections": list(_rejections(using, obj, links)) if status.rejected else [],
            "plot": plot,
            "plot_times": [_time_of(plot.begin, obj), _time_of(plot.end, obj)] if plot else [],
            **self.exit_context(request, obj),
        }

    def exits_of(self, row: OutboxRun) -> list[Exit]:
        """Return the button that closes an open run."""
        return [CLOSE] if row.closed_at is None else []

    def use_exit(self, using: str, row: OutboxRun, name: str, *, by: str, reason: str) -> str:
        """Close the run."""
        close_run(using, row.pk, Decision(by, reason))
        return gettext("The run is closed.")


def _rejections(using: str, run: OutboxRun, links: html.Links) -> Iterator[tuple[str, str, int, str]]:
    """Yield code, signature, number and the list of the records, for the newest rejected records of the run."""
    sets = OutboxLabelSet.objects.using(using).filter(run_id=run.pk)
    rejected = OutboxRecord.rows.using(using).rejected().filter(label_set_id__in=sets.values("pk"))
    pks = list(rejected.order_by("-pk").values_list("pk", flat=True)[:MAX_REJECTED])
    rows = OutboxRejection.objects.using(using).filter(ById(F("record_id"), pks), is_last_rejection())
    counted = Counter(rows.values_list("code", "signature"))
    for (code, signature), count in counted.most_common(20):
        filters = {"state": RecordState.REJECTED.value, "signature": signature, "code": code}
        url = links.list_of(OutboxRecord, run=run.pk, **filters)
        yield code, signature, count, url


def _state_of(run: OutboxRun) -> tuple[Any, str]:
    """Return the state in words, and its colour."""
    if run.finished_at is None:
        return (_("open"), "busy") if run.closed_at is None else (_("closed"), "calm")
    return (
        (_("finished, with rejected records"), "bad") if run.needs_person_since else (_("finished"), "good")
    )


def _bar(status: RunStatus) -> SafeString:
    total = status.total if status.closed_at else max(status.total, status.expected or 0)
    return html.progress_bar(status.ended - status.rejected, status.rejected, total)


def _explain(status: RunStatus) -> str:
    """Return what happens next, and what ends it."""
    if status.is_clean:
        return gettext("The run is finished without failures.")
    if status.is_finished:
        return gettext("The run is finished, but records of it are rejected. Retry, fix or discard them.")
    if status.closed_at is None:
        return gettext("The run is open: records may still join it. It is finished after it is closed.")
    return gettext("The run is closed. It is finished when none of its records is pending or in flight.")


def _time_of(seconds: float, run: OutboxRun) -> SafeString | str:
    at = datetime.fromtimestamp(seconds, UTC)
    return html.time_tag(at if run.started_at.tzinfo else at.replace(tzinfo=None))

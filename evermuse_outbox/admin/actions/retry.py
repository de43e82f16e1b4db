"""Retry rejected records from the admin: a preview, a confirmation, and a message with the result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import PermissionDenied
from django.db import router
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ...models import OutboxRecord
from ...operations import retry_records
from ...search import parse_id
from ..lists import ReadOnlyAdmin, posted_reason, redirect_back

MAX_SELECTED = 10_000
"""Maximum number of records in one retry: the confirmation page lists all their ids in its form."""

CHUNK = 500
"""Records that one transaction retries. SQLite allows 999 parameters in a statement."""

MAX_EXAMPLES = 20
"""Maximum number of refused records that the confirmation lists."""


@dataclass(slots=True)
class RetryResult:
    """What a retry does with the selected records, or did with them.

    ``reopened`` are the ids of records that become pending again. ``refused`` maps the id of a record to the id of its
    newer version: such a record is not retried. ``not_rejected`` is the number of all others.
    """

    reopened: list[int] = field(default_factory=list)
    refused: dict[int, int] = field(default_factory=dict)
    not_rejected: int = 0

    def add(self, selected: int, reopened: Sequence[int], refused: dict[int, int]) -> None:
        """Add the result of a chunk of ``selected`` records."""
        self.reopened += reopened
        self.refused |= refused
        self.not_rejected += selected - len(reopened) - len(refused)

    @property
    def examples(self) -> list[tuple[int, int]]:
        """The first refused ids, each with the id of its newer version."""
        return list(self.refused.items())[:MAX_EXAMPLES]


def preview_retry(using: str, pks: Sequence[int]) -> RetryResult:
    """Return what :func:`retry_all` would do now. This changes nothing."""
    result = RetryResult()
    rows = OutboxRecord.rows.using(using)
    for chunk in split_into_chunks(pks):
        with_versions: Any = rows.rejected().filter(pk__in=chunk).with_versions()
        newer_versions = dict(with_versions.values_list("pk", "newer"))
        refused = {pk: newer for pk, newer in newer_versions.items() if newer}
        result.add(len(chunk), [pk for pk in newer_versions if pk not in refused], refused)
    return result


def retry_all(using: str, pks: Sequence[int], *, by: str = "", reason: str = "") -> RetryResult:
    """Make the rejected records among ``pks`` pending again, with one transaction for each :data:`CHUNK`."""
    result = RetryResult()
    for chunk in split_into_chunks(pks):
        retried = retry_records(using, chunk, by=by, reason=reason)
        result.add(len(chunk), retried.reopened, retried.refused)
    return result


def split_into_chunks(pks: Sequence[int]) -> Iterator[list[int]]:
    """Yield ``pks`` in lists of at most :data:`CHUNK`."""
    rest = iter(pks)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk


def rejected_of_batches(using: str, batches: Sequence[int]) -> list[int]:
    """Return the ids of the rejected records of batches, at most one more than :data:`MAX_SELECTED`."""
    pks: list[int] = []
    for chunk in split_into_chunks(batches):
        rows = OutboxRecord.rows.using(using).rejected().filter(batch__in=chunk)
        pks += rows.order_by("pk").values_list("pk", flat=True)[: MAX_SELECTED + 1 - len(pks)]
    return pks


class RetryAdmin(ReadOnlyAdmin):
    """The pages of a model with a retry action, its confirmation page, and the view that retries."""

    def get_urls(self) -> list[URLPattern]:
        """Add the view to which the confirmation page posts."""
        name = self.url_name("retry").removeprefix("admin:")
        return [path("retry/", self.admin_site.admin_view(self.retry_view), name=name), *super().get_urls()]

    def selected_ids(self, request: HttpRequest, queryset: Any) -> list[int] | None:
        """Return the selected ids. If there are too many, show an error message and return None."""
        return self.check_number(request, list(queryset.values_list("pk", flat=True)[: MAX_SELECTED + 1]))

    def check_number(self, request: HttpRequest, pks: list[int]) -> list[int] | None:
        """Return ``pks``. If there are more than :data:`MAX_SELECTED`, show an error message and return None."""
        if len(pks) <= MAX_SELECTED:
            return pks
        text = _("More than %(limit)s are selected; nothing was changed. Narrow the filter and select again.")
        self.message_user(request, text % {"limit": f"{MAX_SELECTED:,}"}, messages.ERROR)
        return None

    def render_confirmation(self, request: HttpRequest, using: str, pks: list[int]) -> HttpResponse:
        """Return the page that shows what a retry would do, with a button to do it."""
        context = {
            **self.admin_site.each_context(request),
            "title": _("Retry rejected records"),
            "opts": self.opts,
            "selected": len(pks),
            "result": preview_retry(using, pks),
            "pks": ",".join(map(str, pks)),
            "using": using,
            "back": request.get_full_path(),
            "retry_url": reverse(self.url_name("retry"), current_app=self.admin_site.name),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/evermuse_outbox/retry_confirmation.html", context)

    def retry_view(self, request: HttpRequest) -> HttpResponse:
        """Retry the posted records and redirect to the list.

        The confirmation page posts the ids of its preview. So records that match the filter only since then are not
        retried.
        """
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_retry_permission(request):
            raise PermissionDenied
        using = self.database_for_write(self.get_queryset(request))
        pks = [parse_id(text) for text in request.POST.get("pks", "").split(",") if parse_id(text)]
        by, reason = request.user.get_username(), posted_reason(request)
        result = retry_all(using, pks[:MAX_SELECTED], by=by, reason=reason)
        self._log(request, using, result.reopened)
        self._show_result(request, result)
        return redirect_back(request, reverse(self.url_name("changelist"), current_app=self.admin_site.name))

    def database_for_write(self, queryset: Any) -> str:
        """Return the database of ``queryset``, or the router's choice if it has none."""
        return str(queryset._db or router.db_for_write(OutboxRecord))

    def _log(self, request: HttpRequest, using: str, pks: Sequence[int]) -> None:
        """Write an entry with the user's name into the admin history of each record."""
        user_id: Any = request.user.pk
        for chunk in split_into_chunks(pks):
            rows = OutboxRecord.rows.using(using).filter(pk__in=chunk).only("pk", "type")
            LogEntry.objects.log_actions(user_id, rows, CHANGE, _("Retried: pending again."))

    def _show_result(self, request: HttpRequest, result: RetryResult) -> None:
        level = messages.SUCCESS if result.reopened else messages.WARNING
        self.message_user(request, " ".join(_sentences(result)), level)


def _sentences(result: RetryResult) -> Iterator[str]:
    count = len(result.reopened)
    if count:
        yield ngettext(
            "%(count)s record is pending again; the workers send it.",
            "%(count)s records are pending again; the workers send them.",
            count,
        ) % {"count": f"{count:,}"}
    else:
        yield _("No record was retried.")
    if result.refused:
        pk, newer = next(iter(result.refused.items()))
        yield ngettext(
            "%(count)s was not retried because a newer version exists (#%(pk)s → #%(newer)s).",
            "%(count)s were not retried because newer versions exist (first: #%(pk)s → #%(newer)s).",
            len(result.refused),
        ) % {"count": f"{len(result.refused):,}", "pk": pk, "newer": newer}
    if result.not_rejected:
        yield ngettext(
            "%(count)s is not rejected and stays unchanged.",
            "%(count)s are not rejected and stay unchanged.",
            result.not_rejected,
        ) % {"count": f"{result.not_rejected:,}"}

"""Retrying from the admin: a preview, a confirmation, and a message that says what came of it."""

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
from ...operations.retry import retry
from ..lists.read_only import LookOnlyAdmin, back_to
from ..lists.search import as_id

MOST = 10_000
"""Rows that are chosen at once at most."""

CHUNK = 500
"""Records that one transaction puts back."""

EXAMPLES = 20


@dataclass(slots=True)
class Tally:
    """Of the chosen records: those that go back into the queue, those refused → newer version, the others."""

    reopened: list[int] = field(default_factory=list)
    refused: dict[int, int] = field(default_factory=dict)
    others: int = 0

    def add(self, chosen: int, reopened: Sequence[int], refused: dict[int, int]) -> None:
        """Counts a chunk of ``chosen`` records."""
        self.reopened += reopened
        self.refused |= refused
        self.others += chosen - len(reopened) - len(refused)

    @property
    def examples(self) -> list[tuple[int, int]]:
        """A few of the refused, each with the newer version that overtook it."""
        return list(self.refused.items())[:EXAMPLES]


def preview(using: str, pks: Sequence[int]) -> Tally:
    """What :func:`retry_all` would come to now. Changes nothing."""
    tally = Tally()
    rows = OutboxRecord.rows.using(using)
    for chunk in chunks(pks):
        versions: Any = rows.rejected().filter(pk__in=chunk).with_versions()
        found = dict(versions.values_list("pk", "newer"))
        refused = {pk: newer for pk, newer in found.items() if newer}
        tally.add(len(chunk), [pk for pk in found if pk not in refused], refused)
    return tally


def retry_all(using: str, pks: Sequence[int]) -> Tally:
    """Puts the rejected ones among ``pks`` back into the queue, a chunk a transaction."""
    tally = Tally()
    for chunk in chunks(pks):
        done = retry(using, chunk)
        tally.add(len(chunk), done.reopened, done.refused)
    return tally


def chunks(pks: Sequence[int]) -> Iterator[list[int]]:
    """``pks`` in pieces that every database takes as parameters."""
    rest = iter(pks)
    while piece := list(islice(rest, CHUNK)):
        yield piece


def rejected_of_batches(using: str, batches: Sequence[int]) -> list[int]:
    """The rejected records of these batches, up to one more than :data:`MOST`."""
    found: list[int] = []
    for chunk in chunks(batches):
        rows = OutboxRecord.rows.using(using).rejected().filter(batch__in=chunk)
        found += rows.order_by("pk").values_list("pk", flat=True)[: MOST + 1 - len(found)]
    return found


class RetryAdmin(LookOnlyAdmin):
    """A list with the action, its confirmation page and the view that acts on what was confirmed."""

    def get_urls(self) -> list[URLPattern]:
        """Django's own, and the view that a confirmed retry is posted to."""
        name = self.url_name("retry").removeprefix("admin:")
        return [path("retry/", self.admin_site.admin_view(self.retry_view), name=name), *super().get_urls()]

    def chosen(self, request: HttpRequest, queryset: Any) -> list[int] | None:
        """The ids in ``queryset``; None, with a message, where there are more than :data:`MOST`."""
        return self.bounded(request, list(queryset.values_list("pk", flat=True)[: MOST + 1]))

    def bounded(self, request: HttpRequest, pks: list[int]) -> list[int] | None:
        """``pks``; None, with a message, where there are more than :data:`MOST`."""
        if len(pks) <= MOST:
            return pks
        told = _("More than %(most)s are chosen; nothing was changed. Narrow the filter and choose again.")
        self.message_user(request, told % {"most": f"{MOST:,}"}, messages.ERROR)
        return None

    def confirmation(self, request: HttpRequest, using: str, pks: list[int]) -> HttpResponse:
        """The page that says what would happen, and asks."""
        context = {
            **self.admin_site.each_context(request),
            "title": _("Retry rejected records"),
            "opts": self.opts,
            "chosen": len(pks),
            "tally": preview(using, pks),
            "pks": ",".join(map(str, pks)),
            "using": using,
            "back": request.get_full_path(),
            "retry_url": reverse(self.url_name("retry"), current_app=self.admin_site.name),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/evermuse_outbox/retry_confirmation.html", context)

    def retry_view(self, request: HttpRequest) -> HttpResponse:
        """Retries the posted records: those that were previewed, whatever else may match by now."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_retry_permission(request):
            raise PermissionDenied
        using = self.writable(self.get_queryset(request))
        pks = [as_id(text) for text in request.POST.get("pks", "").split(",") if as_id(text)]
        tally = retry_all(using, pks[:MOST])
        self._log(request, using, tally.reopened)
        self._tell(request, tally)
        return back_to(request, reverse(self.url_name("changelist"), current_app=self.admin_site.name))

    def writable(self, queryset: Any) -> str:
        """The database to change rows of ``queryset`` in: its own, or the router's choice for writing."""
        return str(queryset._db or router.db_for_write(OutboxRecord))

    def _log(self, request: HttpRequest, using: str, pks: Sequence[int]) -> None:
        """The history of each record tells who had it sent again."""
        person: Any = request.user.pk
        for chunk in chunks(pks):
            rows = OutboxRecord.rows.using(using).filter(pk__in=chunk).only("pk", "type")
            LogEntry.objects.log_actions(person, rows, CHANGE, _("Put back into the queue."))

    def _tell(self, request: HttpRequest, tally: Tally) -> None:
        level = messages.SUCCESS if tally.reopened else messages.WARNING
        self.message_user(request, " ".join(_sentences(tally)), level)


def _sentences(tally: Tally) -> Iterator[str]:
    count = len(tally.reopened)
    yield (
        ngettext(
            "%(count)s record is pending again; the workers send it.",
            "%(count)s records are pending again; the workers send them.",
            count,
        )
        % {"count": f"{count:,}"}
        if count
        else _("Nothing was put back into the queue.")
    )
    if tally.refused:
        pk, newer = next(iter(tally.refused.items()))
        yield ngettext(
            "%(count)s was refused, as a newer version exists (#%(pk)s → #%(newer)s).",
            "%(count)s were refused, as newer versions exist (first: #%(pk)s → #%(newer)s).",
            len(tally.refused),
        ) % {"count": f"{len(tally.refused):,}", "pk": pk, "newer": newer}
    if tally.others:
        yield ngettext(
            "%(count)s was not rejected and stays as it is.",
            "%(count)s were not rejected and stay as they are.",
            tally.others,
        ) % {"count": f"{tally.others:,}"}

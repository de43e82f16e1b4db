"""Batches: the list, and the page with the attempts, errors and records of a batch."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ...conf import get_settings
from ...database_clock import database_now
from ...delivery.context import open_context
from ...evermuse import FORMATS
from ...insight import explain_batch, file_name, rebuild_body
from ...models import BatchState, OutboxBatch, OutboxRecord, RecordState
from ...operations import NotPossible, give_up_batch, isolate_batch, retry_batch_now
from ...search import parse_id
from ...wakeup import wake_workers_on_commit
from .. import html
from ..actions import Exit, ExitAdmin
from ..jobs import JobAdmin
from ..lists import (
    BatchAttachmentFilter,
    BatchStateFilter,
    BatchTimeFilter,
    TypeFilter,
    WorkspaceFilter,
    choose_database,
)
from .errors import batch_errors, members_of
from .timeline import timeline_of

MAX_MEMBERS = 50
"""Maximum number of records that the page of a batch lists. A link leads to the list of all of them."""

MAX_PARTS = 100
"""Maximum number of parts on the page of a batch. A part is a later batch that contains records of this batch."""

RETRY_NOW = Exit(
    "retry_now", _("Retry now"), _("Send or poll the batch with the next free permit, instead of later.")
)
ISOLATE = Exit(
    "isolate",
    _("Isolate"),
    _("Try its records part by part. Bad records are rejected, and the others are delivered."),
)
GIVE_UP = Exit(
    "give_up",
    _("Give up"),
    _(
        "End the batch and reject its records; they can be retried later. If Evermuse has the batch, it may still "
        "process the records."
    ),
    is_final=True,
)
STOP_POLLING = Exit(
    "give_up",
    _("Stop polling"),
    _("The records are delivered. Do not follow the attachments of the batch any more."),
    is_final=True,
)


class BatchChangeList(ChangeList):
    """A list without the long texts that it does not show."""

    def get_queryset(self, request: HttpRequest, *args: Any, **options: Any) -> QuerySet[Any]:
        """Return Django's queryset without these columns."""
        rows: QuerySet[Any] = super().get_queryset(request, *args, **options)
        return rows.defer("errors", "message")


@admin.register(OutboxBatch)
class OutboxBatchAdmin(ExitAdmin, JobAdmin):
    """The batches: each contains the records of one request."""

    list_display = (
        "id",
        "states",
        "group",
        "record_counts",
        "attachment_progress",
        "sealed_and_duration",
        "next_action",
        "workspace",
    )
    list_filter = (BatchStateFilter, TypeFilter, WorkspaceFilter, BatchTimeFilter, BatchAttachmentFilter)
    search_fields = ("pk",)
    search_help_text = _(
        "Enter the number of a batch, its id at Evermuse or its idempotency key, each in full."
    )
    jobs_of_list = ("send_now", "release_doubt", "retry", "give_up")
    fieldsets = (
        (None, {"fields": (("state_chip", "at_evermuse"), ("type", "product_id", "workspace"), "message")}),
        (
            _("At Evermuse"),
            {
                "fields": (
                    "remote_id",
                    ("accepted_count", "rejected_count", "total_error_count"),
                    "attachment_progress",
                    ("polls", "next_poll"),
                )
            },
        ),
        (
            _("Request"),
            {
                "fields": (
                    ("record_count", "byte_count", "attachment_count"),
                    ("contract", "body_format", "format_hint"),
                    "key",
                    "sha256",
                )
            },
        ),
        (
            _("Sending"),
            {
                "fields": (
                    ("sealed", "accepted", "finished"),
                    ("due", "lease"),
                    ("has_unclear_attempt", "failures"),
                    "resends",
                    "previous_batch",
                )
            },
        ),
    )
    readonly_fields = (
        "state_chip", "at_evermuse", "group", "attachment_progress", "next_poll", "sealed", "accepted",
        "finished", "due", "lease", "previous_batch", "has_unclear_attempt",
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[OutboxBatch]:
        """Return the batches, the newest first."""
        return choose_database(request, OutboxBatch.objects.order_by("-pk"))

    def get_changelist(self, request: HttpRequest, **options: Any) -> type[ChangeList]:
        """Return the class that reads the list."""
        return BatchChangeList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Return the batches with this number, id at Evermuse or idempotency key, and False: no duplicates."""
        term = search_term.strip().replace("\0", "")
        matches = Q(remote_id=term) | Q(key=term)
        if term.isdecimal():
            matches |= Q(pk=parse_id(term))
        return (queryset.filter(matches) if term else queryset), False

    # --- columns ----------------------------------------------------------------------------------

    @admin.display(description=_("state"))
    def state_chip(self, batch: OutboxBatch) -> SafeString:
        """Return the state in its colour."""
        return html.state_chip(BatchState(batch.state))

    @admin.display(description=_("at Evermuse"))
    def at_evermuse(self, batch: OutboxBatch) -> str:
        """Return the state that Evermuse reported last, unchanged."""
        return batch.remote_status or html.EMPTY

    @admin.display(description=_("type and product"))
    def group(self, batch: OutboxBatch) -> SafeString:
        """Return the group of the records: their ``_type`` and ``_product_id``."""
        return html.two_lines(batch.type, html.long_id(batch.product_id))

    @admin.display(description=_("in doubt"))
    def has_unclear_attempt(self, batch: OutboxBatch) -> str:
        """Return in words whether an attempt ended without a clear answer from Evermuse."""
        return gettext("yes: an attempt ended without a clear answer") if batch.in_doubt else gettext("no")

    @admin.display(description=_("state"))
    def states(self, batch: OutboxBatch) -> SafeString:
        """Return the state in its colour, and below it the state that Evermuse reported last."""
        chip = self.state_chip(batch)
        return html.two_lines(chip, batch.remote_status) if batch.remote_status else chip

    @admin.display(description=_("records"))
    def record_counts(self, batch: OutboxBatch) -> SafeString | str:
        """Return the number of records, and below it how many Evermuse rejected."""
        if not batch.rejected_count:
            return f"{batch.record_count:,}"
        return html.two_lines(f"{batch.record_count:,}", _("%s rejected") % f"{batch.rejected_count:,}")

    @admin.display(description=_("attachments"))
    def attachment_progress(self, batch: OutboxBatch) -> SafeString | str:
        """Return how many attachments Evermuse has fetched."""
        if batch.attachment_total is None:
            return str(batch.attachment_count) if batch.attachment_count else html.EMPTY
        failed, complete = batch.attachment_failed or 0, batch.attachment_complete or 0
        return html.progress_bar(complete, failed, batch.attachment_total)

    @admin.display(description=_("sealed"))
    def sealed(self, batch: OutboxBatch) -> SafeString | str:
        """Return the time of sealing."""
        return html.time_tag(batch.sealed_at)

    @admin.display(description=_("accepted"))
    def accepted(self, batch: OutboxBatch) -> SafeString | str:
        """Return the time at which Evermuse accepted the batch."""
        return html.time_tag(batch.accepted_at)

    @admin.display(description=_("finished"))
    def finished(self, batch: OutboxBatch) -> SafeString | str:
        """Return the time at which the batch reached its last state."""
        return html.time_tag(batch.finished_at)

    @admin.display(description=_("sealed, duration"))
    def sealed_and_duration(self, batch: OutboxBatch) -> SafeString:
        """Return the time of sealing, and the time from then to the end or to now."""
        length: timedelta = batch.duration or database_now(batch._state.db) - batch.sealed_at
        age = html.duration(length) if batch.finished_at else _("open for %s") % html.duration(length)
        return html.two_lines(html.time_tag(batch.sealed_at), age)

    @admin.display(description=_("next action"))
    def next_action(self, batch: OutboxBatch) -> SafeString | str:
        """Return the time at which the workers send or poll the batch next, or at which its lease ends."""
        return html.time_tag(_next_action_at(batch))

    @admin.display(description=_("send at"))
    def due(self, batch: OutboxBatch) -> SafeString | str:
        """Return the earliest time of the next attempt to send."""
        return html.time_tag(batch.due_at)

    @admin.display(description=_("leased until"))
    def lease(self, batch: OutboxBatch) -> SafeString | str:
        """Return the end of the lease of the worker that sends it."""
        return html.time_tag(batch.leased_until)

    @admin.display(description=_("next poll"))
    def next_poll(self, batch: OutboxBatch) -> SafeString | str:
        """Return the time of the next poll."""
        return html.time_tag(batch.next_poll_at)

    @admin.display(description=_("previous batch"))
    def previous_batch(self, batch: OutboxBatch) -> SafeString | str:
        """Return a link to the earlier batch that contained the records of this batch."""
        if not batch.parent_id:
            return html.EMPTY
        return html.link_to(OutboxBatch, batch.parent_id, f"#{batch.parent_id}", self.admin_site.name)

    # --- the page ---------------------------------------------------------------------------------

    def get_page_context(self, request: HttpRequest, obj: OutboxBatch) -> dict[str, Any]:
        """Return the explanation, the attempts, the errors, the records and the later batches."""
        members = members_of(obj)
        first_members = members.defer("payload")[:MAX_MEMBERS]
        return {
            "explanation": explain_batch(obj),
            **self.exit_context(request, obj),
            "timeline": timeline_of(obj),
            "request_url": self._request_url(obj) if self.has_payload_permission(request) else "",
            "payload_refusal": self.payload_refusal,
            "batch_errors": batch_errors(obj, self.admin_site.name),
            "members": [self._member(record, obj) for record in first_members],
            "member_count": members.count(),
            "parts": [(part, self.state_chip(part)) for part in obj.parts.order_by("pk")[:MAX_PARTS]],
        }

    def _request_url(self, batch: OutboxBatch) -> str:
        return reverse(self.url_name("request"), args=[batch.pk], current_app=self.admin_site.name)

    def _member(self, record: OutboxRecord, batch: OutboxBatch) -> tuple[OutboxRecord, SafeString, str]:
        record.batch = (
            batch  # the state of a record is read from its batch, which would cost a query for each record
        )
        return record, html.state_chip(RecordState(record.state)), html.byte_size(record.size)

    def get_urls(self) -> list[URLPattern]:
        """Add the view that downloads the exact bytes of the request."""
        view = self.admin_site.admin_view(self.request_view)
        name = self.url_name("request").removeprefix("admin:")
        return [path("<path:object_id>/request/", view, name=name), *super().get_urls()]

    def request_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Return the exact bytes of the request as a file, if the stored lines still give them."""
        batch = self.get_object(request, unquote(object_id))
        if not self.has_view_permission(request, batch):
            raise PermissionDenied
        self.check_payload_permission(request)
        if batch is None:
            raise Http404
        body = rebuild_body(batch)
        if body is None:
            text = gettext(
                "The exact bytes cannot be built again: records of the batch were changed, moved or deleted since, or "
                "their payloads were dropped. Only their hash is kept: SHA-256 %s."
            )
            self.message_user(request, text % batch.sha256, messages.WARNING)
            page = reverse(self.url_name("change"), args=[batch.pk], current_app=self.admin_site.name)
            return redirect(page)
        return HttpResponse(
            body,
            content_type=FORMATS[batch.body_format].content_type,
            headers={
                "Content-Disposition": f'attachment; filename="{file_name(batch)}"',
                "X-Content-Type-Options": "nosniff",
            },
        )

    # --- exits ------------------------------------------------------------------------------------

    def exits_of(self, row: OutboxBatch) -> list[Exit]:
        """Return the buttons that end the wait of the batch in its state."""
        match row.state:
            case BatchState.SEALED | BatchState.IN_DOUBT:
                return [RETRY_NOW, *([ISOLATE] if row.record_count > 1 else []), GIVE_UP]
            case BatchState.ISOLATING | BatchState.ACCEPTED:
                return [RETRY_NOW, GIVE_UP]
            case _:
                return [RETRY_NOW, STOP_POLLING] if row.next_poll_at else []

    def use_exit(self, using: str, row: OutboxBatch, name: str, *, by: str, reason: str) -> str:
        """Send or poll the batch now, isolate it, or give it up."""
        if name == RETRY_NOW.name:
            result = retry_batch_now(using, row.pk, by=by, reason=reason)
        elif name == ISOLATE.name:
            if row.workspace not in get_settings().workspaces:
                raise NotPossible(gettext("The settings have no workspace %r.") % row.workspace)
            isolate_batch(open_context(using, row.workspace), row.pk, by=by, reason=reason)
            result = gettext("Its records are tried part by part.")
        else:
            given_up = give_up_batch(using, row.pk, by=by, reason=reason)
            result = gettext("%s records are rejected.") % f"{given_up.records:,}"
        wake_workers_on_commit(using, row.workspace)
        return result


def _next_action_at(batch: OutboxBatch) -> datetime | None:
    match batch.state:
        case BatchState.SEALED | BatchState.IN_DOUBT:
            return batch.due_at
        case BatchState.SENDING:
            return batch.leased_until
        case _:
            return batch.next_poll_at

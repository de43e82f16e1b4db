"""Batches: the list, and a batch's page with its attempts, its errors and its records."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ...insight.explain import explain_batch
from ...models import BatchState, OutboxBatch, OutboxRecord, RecordState
from .. import html
from ..actions.retry import RetryAdmin, rejected_of_batches
from ..lists.filters import BatchStateFilter, TypeFilter, WorkspaceFilter
from ..lists.search import as_id
from .batch_errors import complaints_about, members_of
from .timeline import attempts_of

MEMBERS = 50
"""Records that the page of a batch lists itself; the list of records has them all."""

PARTS = 100


@admin.register(OutboxBatch)
class OutboxBatchAdmin(RetryAdmin):
    """The records of one request, sealed, and what became of them."""

    list_display = (
        "id",
        "state_chip",
        "at_evermuse",
        "group",
        "record_count",
        "taken",
        "attachments_done",
        "sealed_and_age",
        "next_due",
        "workspace",
    )
    list_filter = (BatchStateFilter, TypeFilter, WorkspaceFilter)
    search_fields = ("pk",)
    search_help_text = _("The number of a batch, its id at Evermuse, or its idempotency key; each in full.")
    actions = ("retry_rejected",)
    fieldsets = (
        (None, {"fields": (("state_chip", "at_evermuse"), ("type", "product_id", "workspace"), "message")}),
        (
            _("At Evermuse"),
            {
                "fields": (
                    "remote_id",
                    ("accepted_count", "rejected_count", "total_error_count"),
                    "attachments_done",
                    ("polls", "polled_next"),
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
                    ("doubt", "failures"),
                    "resends",
                    "comes_from",
                )
            },
        ),
    )
    readonly_fields = (
        "state_chip", "at_evermuse", "group", "attachments_done", "polled_next", "sealed", "accepted",
        "finished", "due", "lease", "comes_from", "doubt",
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[OutboxBatch]:
        """Without the texts that no list shows."""
        return OutboxBatch.objects.defer("errors", "message").order_by("-pk")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """By three columns that each have an index."""
        term = search_term.strip().replace("\0", "")
        wanted = Q(remote_id=term) | Q(key=term)
        if term.isdecimal():
            wanted |= Q(pk=as_id(term))
        return (queryset.filter(wanted) if term else queryset), False

    # --- columns ----------------------------------------------------------------------------------

    @admin.display(description=_("state"))
    def state_chip(self, batch: OutboxBatch) -> SafeString:
        """The state in its colour."""
        return html.chip(BatchState(batch.state))

    @admin.display(description=_("at Evermuse"))
    def at_evermuse(self, batch: OutboxBatch) -> str:
        """Evermuse's own word, as it came."""
        return batch.remote_status or html.NOTHING

    @admin.display(description=_("type and product"))
    def group(self, batch: OutboxBatch) -> SafeString:
        """What its records have in common."""
        return html.lines(batch.type, batch.product_id)

    @admin.display(description=_("in doubt"))
    def doubt(self, batch: OutboxBatch) -> str:
        """Whether an attempt ended without telling what Evermuse did with it."""
        return gettext("yes: an attempt ended without a clear answer") if batch.in_doubt else gettext("no")

    @admin.display(description=_("accepted / rejected"))
    def taken(self, batch: OutboxBatch) -> str:
        """Both counts, once Evermuse has told them."""
        if batch.accepted_count is None:
            return html.NOTHING
        return f"{batch.accepted_count:,} / {batch.rejected_count or 0:,}"

    @admin.display(description=_("attachments"))
    def attachments_done(self, batch: OutboxBatch) -> SafeString | str:
        """How far Evermuse has come in fetching them."""
        if batch.attachment_total is None:
            return str(batch.attachment_count) if batch.attachment_count else html.NOTHING
        failed, complete = batch.attachment_failed or 0, batch.attachment_complete or 0
        return html.progress(complete, failed, batch.attachment_total)

    @admin.display(description=_("sealed"))
    def sealed(self, batch: OutboxBatch) -> SafeString | str:
        """When its members were fixed."""
        return html.moment(batch.sealed_at)

    @admin.display(description=_("accepted"))
    def accepted(self, batch: OutboxBatch) -> SafeString | str:
        """When Evermuse took it."""
        return html.moment(batch.accepted_at)

    @admin.display(description=_("finished"))
    def finished(self, batch: OutboxBatch) -> SafeString | str:
        """When it came to its end."""
        return html.moment(batch.finished_at)

    @admin.display(description=_("sealed, took"))
    def sealed_and_age(self, batch: OutboxBatch) -> SafeString:
        """When its members were fixed, and how long it took to its end, or has taken until now."""
        length: timedelta = batch.age_at or timezone.now() - batch.sealed_at
        age = html.span(length) if batch.finished_at else _("open for %s") % html.span(length)
        return html.lines(html.moment(batch.sealed_at), age)

    @admin.display(description=_("next due"))
    def next_due(self, batch: OutboxBatch) -> SafeString | str:
        """When it is sent or asked about again."""
        return html.moment(_next_due(batch))

    @admin.display(description=_("due"))
    def due(self, batch: OutboxBatch) -> SafeString | str:
        """When it may be sent."""
        return html.moment(batch.due_at)

    @admin.display(description=_("leased until"))
    def lease(self, batch: OutboxBatch) -> SafeString | str:
        """How long a worker has it."""
        return html.moment(batch.leased_until)

    @admin.display(description=_("asked again at"))
    def polled_next(self, batch: OutboxBatch) -> SafeString | str:
        """When Evermuse is asked about it again."""
        return html.moment(batch.next_poll_at)

    @admin.display(description=_("comes from"))
    def comes_from(self, batch: OutboxBatch) -> SafeString | str:
        """The batch that its records were in before."""
        if not batch.parent_id:
            return html.NOTHING
        return html.link_to(OutboxBatch, batch.parent_id, f"#{batch.parent_id}", self.admin_site.name)

    # --- the page ---------------------------------------------------------------------------------

    def page(self, request: HttpRequest, obj: OutboxBatch) -> dict[str, Any]:
        """Why it is where it is, its attempts, its errors, its records and its parts."""
        members = members_of(obj)
        shown = members.defer("payload")[:MEMBERS]
        return {
            "why": explain_batch(obj),
            "timeline": attempts_of(obj),
            "complaints": complaints_about(obj, self.admin_site.name),
            "members": [self._member(record, obj) for record in shown],
            "member_count": members.count(),
            "parts": [(part, self.state_chip(part)) for part in obj.parts.order_by("pk")[:PARTS]],
        }

    def _member(self, record: OutboxRecord, batch: OutboxBatch) -> tuple[OutboxRecord, SafeString, str]:
        record.batch = batch
        return record, html.chip(RecordState(record.state)), html.size(record.size)

    # --- retrying ---------------------------------------------------------------------------------

    @admin.action(description=_("Retry the rejected records of chosen batches"), permissions=["retry"])
    def retry_rejected(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Asks first; the rejected records of these batches go back into the queue."""
        batches = self.chosen(request, queryset)
        if batches is None:
            return None
        using = self.writable(queryset)
        pks = self.bounded(request, rejected_of_batches(using, batches))
        return None if pks is None else self.confirmation(request, using, pks)


def _next_due(batch: OutboxBatch) -> Any:
    match batch.state:
        case BatchState.SEALED | BatchState.IN_DOUBT:
            return batch.due_at
        case BatchState.SENDING:
            return batch.leased_until
        case _:
            return batch.next_poll_at

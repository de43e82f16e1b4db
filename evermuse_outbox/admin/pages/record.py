"""Records: the list, a record's page with the reason why it is where it is, and retrying."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import F, QuerySet
from django.db.models.functions import Substr
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from ...insight.explain import explain_record
from ...models import OutboxBatch, OutboxRecord, RecordState
from .. import html
from ..actions.retry import RetryAdmin
from ..lists.filters import AgeFilter, BatchFilter, RecordStateFilter, RecordTypeFilter, RecordWorkspaceFilter
from ..lists.search import search_records
from .payload import HEAD, readable, vendor_ids
from .timeline import attempts_of

REJECTIONS = 50
VERSIONS = 20
"""Other versions of a record that its page lists at most, the newest first."""


class RecordChangeList(ChangeList):
    """The list reads the first characters of a payload, never a whole one."""

    def get_queryset(self, *args: Any, **options: Any) -> QuerySet[Any]:
        """Django's, with the head of each line."""
        rows = super().get_queryset(*args, **options)
        rows = rows.defer("payload", "batch__errors", "batch__message")
        with_head: QuerySet[Any] = rows.annotate(payload_head=Substr("payload", 1, HEAD))
        return with_head


@admin.register(OutboxRecord)
class OutboxRecordAdmin(RetryAdmin):
    """What the host handed over, and what became of it."""

    list_display = (
        "id",
        "state_chip",
        "group",
        "ids_at_vendor",
        "batch_link",
        "line_size",
        "enqueued",
        "workspace",
    )
    list_select_related = ("batch",)
    list_filter = (RecordStateFilter, RecordTypeFilter, RecordWorkspaceFilter, AgeFilter, BatchFilter)
    search_fields = ("pk",)
    search_help_text = _(
        "A number is a record, batch:12 a batch, a UUID an identity; a batch id of Evermuse works too. "
        "Anything else, or what stands in double quotes, is looked for in the payloads of the newest "
        "20,000 records."
    )
    actions = ("retry_chosen",)
    fields = (
        ("state_chip", "batch_link"),
        ("type", "product_id"),
        "ids_at_vendor",
        "workspace",
        "contract",
        ("line_size", "attachments"),
        "enqueued",
        "identity",
        "newer_version",
    )
    readonly_fields = ("state_chip", "batch_link", "ids_at_vendor", "line_size", "enqueued", "newer_version")

    def get_queryset(self, request: HttpRequest) -> QuerySet[OutboxRecord]:
        """Without payloads: what needs one asks for it."""
        return OutboxRecord.rows.select_related("batch").defer("payload").order_by("-pk")

    def get_ordering(self, request: HttpRequest) -> Any:
        """The newest first. The few rejected ones are found and then sorted, not met on a walk along the ids."""
        if request.GET.get(RecordStateFilter.parameter_name) == RecordState.REJECTED:
            return ((F("pk") + 0).desc(),)
        return self.ordering

    def get_changelist(self, request: HttpRequest, **options: Any) -> type[ChangeList]:
        """A list that reads heads of payloads."""
        return RecordChangeList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Never more than an index lookup or the newest records."""
        return search_records(queryset, search_term), False

    def get_urls(self) -> list[URLPattern]:
        """Also the view that hands out the exact line."""
        line = self.admin_site.admin_view(self.line_view)
        name = self.url_name("line").removeprefix("admin:")
        return [path("<path:object_id>/line/", line, name=name), *super().get_urls()]

    # --- columns ----------------------------------------------------------------------------------

    @admin.display(description=_("state"))
    def state_chip(self, record: OutboxRecord) -> SafeString:
        """The state in its colour."""
        return html.chip(RecordState(record.state))

    @admin.display(description=_("type and product"))
    def group(self, record: OutboxRecord) -> SafeString:
        """What goes into one batch together."""
        return html.lines(record.type, record.product_id)

    @admin.display(description=_("vendor ids"))
    def ids_at_vendor(self, record: OutboxRecord) -> str:
        """From the head of the line, which the list reads and the page cuts from the whole."""
        head = record.__dict__.get("payload_head") or record.payload[:HEAD]
        return html.words(vendor_ids(head)) or html.NOTHING

    @admin.display(description=_("size"))
    def line_size(self, record: OutboxRecord) -> str:
        """The size of the line."""
        return html.size(record.size)

    @admin.display(description=_("enqueued"))
    def enqueued(self, record: OutboxRecord) -> SafeString | str:
        """When it was handed over."""
        return html.moment(record.enqueued_at)

    @admin.display(description=_("batch"))
    def batch_link(self, record: OutboxRecord) -> SafeString | str:
        """The batch that took it."""
        if not record.batch_id:
            return html.NOTHING
        return html.link_to(OutboxBatch, record.batch_id, f"#{record.batch_id}", self.admin_site.name)

    @admin.display(description=_("superseded by"))
    def newer_version(self, record: OutboxRecord) -> SafeString | str:
        """The version that took its place."""
        if not record.superseded_by:
            return html.NOTHING
        text = f"#{record.superseded_by}"
        return html.link_to(OutboxRecord, record.superseded_by, text, self.admin_site.name)

    # --- the page ---------------------------------------------------------------------------------

    def page(self, request: HttpRequest, obj: OutboxRecord) -> dict[str, Any]:
        """Why it is where it is, what was said of it, its line and its other versions."""
        text, is_cut = readable(obj.payload)
        return {
            "why": explain_record(obj),
            "payload": text,
            "payload_is_cut": is_cut,
            "rejections": obj.rejections.order_by("-pk")[:REJECTIONS],
            "versions": self._versions(obj),
            "timeline": attempts_of(obj.batch) if obj.batch else None,
            "may_retry": obj.state == RecordState.REJECTED and self.has_retry_permission(request),
            "back": request.get_full_path(),
        }

    def _versions(self, record: OutboxRecord) -> list[tuple[OutboxRecord, SafeString]]:
        same = OutboxRecord.rows.using(record._state.db).filter(identity=record.identity)
        others = same.exclude(pk=record.pk).select_related("batch").defer("payload").order_by("-pk")
        return [(other, self.state_chip(other)) for other in others[:VERSIONS]]

    def line_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The exact line as a file."""
        record = self.get_object(request, unquote(object_id))
        if not self.has_view_permission(request, record):
            raise PermissionDenied
        if record is None:
            raise Http404
        return HttpResponse(
            record.payload,
            content_type="application/json; charset=utf-8",
            headers={
                "Content-Disposition": f'attachment; filename="record-{record.pk}.json"',
                "X-Content-Type-Options": "nosniff",
            },
        )

    # --- retrying ---------------------------------------------------------------------------------

    @admin.action(description=_("Retry chosen records"), permissions=["retry"])
    def retry_chosen(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Asks first; the rejected ones go back into the queue."""
        pks = self.chosen(request, queryset)
        return None if pks is None else self.confirmation(request, self.writable(queryset), pks)

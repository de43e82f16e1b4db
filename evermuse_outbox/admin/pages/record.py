"""Records: the list, and the page that explains the state of a record and can retry it."""

from __future__ import annotations

from http import HTTPStatus
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

from ...insight import explain_record
from ...models import OutboxBatch, OutboxRecord, RecordState
from .. import html
from ..actions import RetryAdmin
from ..lists import (
    AgeFilter,
    BatchFilter,
    RecordStateFilter,
    RecordTypeFilter,
    RecordWorkspaceFilter,
    search_records,
)
from .payload import HEAD_LENGTH, format_payload, parse_vendor_ids
from .timeline import timeline_of

MAX_REJECTIONS = 50
"""Maximum number of rejections that the page of a record lists: the newest ones."""

MAX_VERSIONS = 20
"""Maximum number of other versions that the page of a record lists: the newest ones."""


class RecordChangeList(ChangeList):
    """A list that reads only the first characters of each payload."""

    def get_queryset(self, *args: Any, **options: Any) -> QuerySet[Any]:
        """Return Django's queryset with ``payload_head`` in place of the payload."""
        rows = super().get_queryset(*args, **options)
        rows = rows.defer("payload", "batch__errors", "batch__message")
        with_head: QuerySet[Any] = rows.annotate(payload_head=Substr("payload", 1, HEAD_LENGTH))
        return with_head


@admin.register(OutboxRecord)
class OutboxRecordAdmin(RetryAdmin):
    """The records that the host has enqueued."""

    list_display = (
        "id",
        "state_chip",
        "group",
        "vendor_ids",
        "batch_link",
        "payload_size",
        "enqueued",
        "workspace",
    )
    list_select_related = ("batch",)
    list_filter = (RecordStateFilter, RecordTypeFilter, RecordWorkspaceFilter, AgeFilter, BatchFilter)
    search_fields = ("pk",)
    search_help_text = _(
        "Enter the number of a record, batch:12 for a batch, an identity (UUID) or a batch id of Evermuse. "
        "Any other text, or text in double quotes, is searched in the payloads of the newest 20,000 records."
    )
    actions = ("retry_selected",)
    fields = (
        ("state_chip", "batch_link"),
        ("type", "product_id"),
        "vendor_ids",
        "workspace",
        "contract",
        ("payload_size", "attachments"),
        "enqueued",
        "identity",
        "newer_version",
    )
    readonly_fields = ("state_chip", "batch_link", "vendor_ids", "payload_size", "enqueued", "newer_version")

    def get_queryset(self, request: HttpRequest) -> QuerySet[OutboxRecord]:
        """Return the records without their payloads, because these can be large."""
        return OutboxRecord.rows.select_related("batch").defer("payload").order_by("-pk")

    def get_ordering(self, request: HttpRequest) -> Any:
        """Return the order, the newest record first.

        Rejected records are few, so the database should find them by their index and then sort them. With an order by
        the plain primary key, it would read the table from its end. The order by ``pk + 0`` prevents this.
        """
        if request.GET.get(RecordStateFilter.parameter_name) == RecordState.REJECTED:
            return ((F("pk") + 0).desc(),)
        return self.ordering

    def get_changelist(self, request: HttpRequest, **options: Any) -> type[ChangeList]:
        """Return the list that does not read entire payloads."""
        return RecordChangeList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Return the result of :func:`search_records`, and False: no duplicates."""
        return search_records(queryset, search_term), False

    def get_urls(self) -> list[URLPattern]:
        """Add the view that downloads the exact payload."""
        view = self.admin_site.admin_view(self.payload_view)
        name = self.url_name("payload").removeprefix("admin:")
        return [path("<path:object_id>/payload/", view, name=name), *super().get_urls()]

    # --- columns ----------------------------------------------------------------------------------

    @admin.display(description=_("state"))
    def state_chip(self, record: OutboxRecord) -> SafeString:
        """Return the state in its colour."""
        return html.state_chip(RecordState(record.state))

    @admin.display(description=_("type and product"))
    def group(self, record: OutboxRecord) -> SafeString:
        """Return the group of the record: its ``_type`` and ``_product_id``."""
        return html.two_lines(record.type, record.product_id)

    @admin.display(description=_("vendor ids"))
    def vendor_ids(self, record: OutboxRecord) -> str:
        """Return the vendor ids from the start of the payload."""
        head = record.__dict__.get("payload_head")
        if head is None:  # the page of one record; in a list, an empty head is that of a dropped payload
            head = record.payload[:HEAD_LENGTH]
        return html.unbroken(parse_vendor_ids(head)) or html.EMPTY

    @admin.display(description=_("size"))
    def payload_size(self, record: OutboxRecord) -> str:
        """Return the size of the payload."""
        return html.byte_size(record.size)

    @admin.display(description=_("enqueued"))
    def enqueued(self, record: OutboxRecord) -> SafeString | str:
        """Return the time of enqueueing."""
        return html.time_tag(record.enqueued_at)

    @admin.display(description=_("batch"))
    def batch_link(self, record: OutboxRecord) -> SafeString | str:
        """Return a link to the batch that contains the record."""
        if not record.batch_id:
            return html.EMPTY
        return html.link_to(OutboxBatch, record.batch_id, f"#{record.batch_id}", self.admin_site.name)

    @admin.display(description=_("superseded by"))
    def newer_version(self, record: OutboxRecord) -> SafeString | str:
        """Return a link to the version that superseded the record."""
        if not record.superseded_by:
            return html.EMPTY
        text = f"#{record.superseded_by}"
        return html.link_to(OutboxRecord, record.superseded_by, text, self.admin_site.name)

    # --- the page ---------------------------------------------------------------------------------

    def get_page_context(self, request: HttpRequest, obj: OutboxRecord) -> dict[str, Any]:
        """Return the explanation, the payload, the rejections, the other versions and the attempts."""
        payload, is_cut = format_payload(obj.payload)
        return {
            "explanation": explain_record(obj),
            "payload": payload,
            "payload_is_cut": is_cut,
            "dropped_payload_hash": obj.payload_sha256,
            "rejections": obj.rejections.order_by("-pk")[:MAX_REJECTIONS],
            "versions": self._other_versions(obj),
            "timeline": timeline_of(obj.batch) if obj.batch else None,
            "can_retry": obj.state == RecordState.REJECTED and self.has_retry_permission(request),
            "back": request.get_full_path(),
        }

    def _other_versions(self, record: OutboxRecord) -> list[tuple[OutboxRecord, SafeString]]:
        versions = OutboxRecord.rows.using(record._state.db).filter(identity=record.identity)
        others = versions.exclude(pk=record.pk).select_related("batch").defer("payload").order_by("-pk")
        return [(other, self.state_chip(other)) for other in others[:MAX_VERSIONS]]

    def payload_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Return the exact payload as a file."""
        record = self.get_object(request, unquote(object_id))
        if not self.has_view_permission(request, record):
            raise PermissionDenied
        if record is None:
            raise Http404
        if record.is_payload_dropped:
            return HttpResponse(
                _("The payload was dropped after the delivery.") + f"\nSHA-256: {record.payload_sha256}\n",
                content_type="text/plain; charset=utf-8",
                status=HTTPStatus.GONE,
            )
        return HttpResponse(
            record.payload,
            content_type="application/json; charset=utf-8",
            headers={
                "Content-Disposition": f'attachment; filename="record-{record.pk}.json"',
                "X-Content-Type-Options": "nosniff",
            },
        )

    # --- retry ------------------------------------------------------------------------------------

    @admin.action(description=_("Retry selected records"), permissions=["retry"])
    def retry_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Return the confirmation page, whose button makes the rejected ones of the selected records pending again."""
        pks = self.selected_ids(request, queryset)
        if pks is None:
            return None
        return self.render_confirmation(request, self.database_for_write(queryset), pks)

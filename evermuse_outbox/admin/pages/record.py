"""Records: the list, and the page that explains the state of a record and can retry it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet, TextField, Value
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import NoReverseMatch, URLPattern, path, reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from ...insight import explain_record, has_failed_attachments
from ...models import (
    OutboxBatch,
    OutboxLabelSet,
    OutboxRecord,
    OutboxRun,
    PayloadHead,
    RecordState,
    UnreadableLine,
)
from .. import html
from ..jobs import EditAdmin
from ..lists import (
    CLOSED_ORDER,
    AgainFilter,
    AgeFilter,
    AttachmentFilter,
    BatchFilter,
    ErrorCodeFilter,
    ErrorTextFilter,
    JobFilter,
    LabelFilter,
    ProductFilter,
    RecordStateFilter,
    RecordTypeFilter,
    RecordWorkspaceFilter,
    RuleFilter,
    RunFilter,
    SignatureFilter,
    TimeFilter,
    choose_database,
    search_records,
    search_result,
)
from .errors import add_last_errors
from .payload import HEAD_LENGTH, format_payload, parse_vendor_ids
from .timeline import timeline_of

MAX_REJECTIONS = 50
"""Maximum number of rejections that the page of a record lists: the newest ones."""

MAX_VERSIONS = 20
"""Maximum number of other versions that the page of a record lists: the newest ones."""


class RecordChangeList(ChangeList):
    """A list that reads only the first characters of each payload, and the last error of rejected records."""

    notes: tuple[str, ...] = ()
    is_partial = False

    def get_queryset(self, request: HttpRequest, *args: Any, **options: Any) -> QuerySet[Any]:
        """Return Django's queryset with ``payload_head`` in place of the payload."""
        rows = super().get_queryset(request, *args, **options)
        rows = rows.defer("payload", "batch__errors", "batch__message")
        if result := search_result(request):
            self.notes, self.is_partial = result.notes, result.is_partial
        may_view = self.model_admin.has_payload_permission(request)  # type: ignore[attr-defined]
        head = PayloadHead(HEAD_LENGTH) if may_view else Value(None, TextField())
        with_head: QuerySet[Any] = rows.annotate(payload_head=head)
        return with_head

    def get_results(self, request: HttpRequest) -> None:
        """Read the page, and the last error of its rejected records with one more query."""
        super().get_results(request)
        self.result_list = list(self.result_list)
        add_last_errors(self.result_list)


@admin.register(OutboxRecord)
class OutboxRecordAdmin(EditAdmin):
    """The records that the host has enqueued."""

    list_display = (
        "id",
        "state_chip",
        "group",
        "vendor_ids",
        "last_error",
        "batch_link",
        "payload_size",
        "enqueued",
        "workspace",
    )
    list_select_related = ("batch",)
    list_filter = (
        RecordStateFilter,
        SignatureFilter,
        ErrorCodeFilter,
        ErrorTextFilter,
        AgainFilter,
        ProductFilter,
        RecordTypeFilter,
        RecordWorkspaceFilter,
        AttachmentFilter,
        AgeFilter,
        TimeFilter,
        BatchFilter,
        JobFilter,
        RunFilter,
        LabelFilter,
        RuleFilter,
    )
    search_fields = ("pk",)
    search_help_text = _(
        "Enter the number of a record (#12), batch:12 for a batch, an identity (UUID) or a batch id of Evermuse. "
        "Vendor ids, thread ids, and ids and e-mail addresses of participants are found in full. "
        "Any other text, or text in double quotes, is searched in the payloads of the newest 20,000 records."
    )
    jobs_of_list = ("retry", "reschedule", "discard", "erase", "encrypt", "decrypt")
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
        "labels",
    )
    readonly_fields = (
        "state_chip",
        "batch_link",
        "vendor_ids",
        "payload_size",
        "enqueued",
        "newer_version",
        "labels",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[OutboxRecord]:
        """Return the records without their payloads, because these can be large."""
        rows = OutboxRecord.rows.select_related("batch").defer("payload").order_by("-pk")
        return choose_database(request, rows)

    def get_ordering(self, request: HttpRequest) -> Any:
        """Return the order, the newest record first; for records of one closed state, as their index has it."""
        is_closed = RecordStateFilter.is_closed(request) or AgainFilter.is_used(request)
        return CLOSED_ORDER if is_closed else self.ordering

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Return the fields; those from the payload only for users who may view payloads."""
        hidden = () if self.has_payload_permission(request) else ("vendor_ids",)
        return [name for name in self.fields if name not in hidden]

    def get_changelist(self, request: HttpRequest, **options: Any) -> type[ChangeList]:
        """Return the list that does not read entire payloads."""
        return RecordChangeList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Return the result of :func:`search_records`, and False: no duplicates."""
        may_search_text = self.has_payload_permission(request)
        return search_records(request, queryset, search_term, may_search_text=may_search_text), False

    def get_urls(self) -> list[URLPattern]:
        """Add the view that downloads the exact payload."""
        view = self.admin_site.admin_view(self.payload_view)
        name = self.url_name("payload").removeprefix("admin:")
        return [path("<path:object_id>/payload/", view, name=name), *super().get_urls()]

    # --- columns ----------------------------------------------------------------------------------

    @admin.display(description=_("state"))
    def state_chip(self, record: OutboxRecord) -> SafeString:
        """Return the state in its colour, and below it what the state alone does not say."""
        state, batch = RecordState(record.state), record.batch
        if state == RecordState.DELIVERED and batch and has_failed_attachments(record):
            text = _("%(failed)s of %(total)s attachments failed in its batch") % {
                "failed": batch.attachment_failed,
                "total": batch.attachment_total,
            }
            return html.two_lines(html.state_chip(state, tone="care"), text)
        if record.__dict__.get("rejection_count", 0) > 1:
            return html.two_lines(html.state_chip(state), _("rejected again"))
        return html.state_chip(state)

    @admin.display(description=_("error"))
    def last_error(self, record: OutboxRecord) -> SafeString | str:
        """Return the code and the start of the message of a rejected record."""
        rejection = record.__dict__.get("last_rejection")
        return html.two_lines(html.long_id(rejection.code), rejection.head) if rejection else html.EMPTY

    @admin.display(description=_("type and product"))
    def group(self, record: OutboxRecord) -> SafeString:
        """Return the group of the record: its ``_type`` and ``_product_id``."""
        return html.two_lines(record.type, html.long_id(record.product_id))

    @admin.display(description=_("vendor ids"))
    def vendor_ids(self, record: OutboxRecord) -> str:
        """Return the vendor ids from the start of the payload."""
        in_list = "payload_head" in record.__dict__
        head = record.__dict__["payload_head"] if in_list else record.payload[:HEAD_LENGTH]
        if head is None:
            return html.hidden(_("hidden"))
        return html.long_id(", ".join(parse_vendor_ids(head))) or html.EMPTY

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

    @admin.display(description=_("labels"))
    def labels(self, record: OutboxRecord) -> SafeString | str:
        """Return the labels of the record, and a link to its run."""
        if record.label_set_id is None:
            return html.EMPTY
        sets = OutboxLabelSet.objects.using(record._state.db)
        labels = html.unbroken(
            f"{name}={value}" for name, value in sets.labels_of(record.label_set_id).items()
        )
        label_set = sets.select_related("run").filter(pk=record.label_set_id, run__isnull=False).first()
        if label_set is None or label_set.run is None:
            return labels
        run = html.link_to(OutboxRun, label_set.run.pk, label_set.run.name, self.admin_site.name)
        return html.two_lines(run, labels)

    # --- the page ---------------------------------------------------------------------------------

    def get_page_context(self, request: HttpRequest, obj: OutboxRecord) -> dict[str, Any]:
        """Return the explanation, the payload, the rejections, the other versions and the attempts."""
        may_view = self.has_payload_permission(request)
        payload, is_cut = format_payload(obj.payload) if may_view else ("", False)
        refusal = "" if may_view else self.payload_refusal
        if isinstance(obj.payload, UnreadableLine):
            refusal = obj.payload.message
        return {
            "explanation": explain_record(obj),
            "payload": payload,
            "payload_is_cut": is_cut,
            "payload_refusal": refusal,
            "dropped_payload_hash": obj.payload_sha256,
            "rejections": obj.rejections.order_by("-pk")[:MAX_REJECTIONS],
            "versions": self._other_versions(obj),
            "timeline": timeline_of(obj.batch) if obj.batch else None,
            "request_url": self._request_url(obj) if may_view else "",
            "job_buttons": self.job_buttons(request, obj, *jobs_of(obj)),
            "edit_url": self.edit_url(obj) if self.may_edit(request, obj) else "",
            "pause_group_url": self._pause_group_url(request, obj),
        }

    def _pause_group_url(self, request: HttpRequest, record: OutboxRecord) -> str:
        """Return the address of the page that pauses the group of an unsent record; empty if that is not possible."""
        can_pause = request.user.has_perm(f"{self.opts.app_label}.pause_outboxworkspace")
        if not can_pause or record.state not in (RecordState.PENDING, RecordState.IN_FLIGHT):
            return ""
        try:
            page = reverse(f"admin:{self.opts.app_label}_outboxgroup_pause", current_app=self.admin_site.name)
        except NoReverseMatch:
            return ""
        names = {"workspace": record.workspace, "type": record.type, "product_id": record.product_id}
        return f"{page}?{urlencode(names)}"

    def _request_url(self, record: OutboxRecord) -> str:
        """Return the address of the exact bytes of its batch; empty if the admin has no page of batches."""
        try:
            name = f"admin:{self.opts.app_label}_outboxbatch_request"
            return reverse(name, args=[record.batch_id], current_app=self.admin_site.name)
        except NoReverseMatch:
            return ""

    def _other_versions(self, record: OutboxRecord) -> list[tuple[OutboxRecord, SafeString]]:
        versions = OutboxRecord.rows.using(record._state.db).filter(identity=record.identity)
        others = versions.exclude(pk=record.pk).select_related("batch").defer("payload").order_by("-pk")
        return [(other, self.state_chip(other)) for other in others[:MAX_VERSIONS]]

    def payload_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Return the exact payload as a file."""
        record = self.get_object(request, unquote(object_id))
        if not self.has_view_permission(request, record):
            raise PermissionDenied
        self.check_payload_permission(request)
        if record is None:
            raise Http404
        if record.is_payload_dropped:
            return HttpResponse(
                _("The payload was dropped after the delivery.") + f"\nSHA-256: {record.payload_sha256}\n",
                content_type="text/plain; charset=utf-8",
                status=HTTPStatus.GONE,
            )
        if isinstance(record.payload, UnreadableLine):
            return HttpResponse(
                f"{record.payload.message}\n",
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


def jobs_of(record: OutboxRecord) -> tuple[str, ...]:
    """Return the kinds of jobs that are possible for a record in its state."""
    match record.state:
        case RecordState.REJECTED:
            return ("retry", "discard", "erase")
        case RecordState.SCHEDULED:
            return ("reschedule", "discard", "erase")
        case RecordState.PENDING | RecordState.HELD:
            return ("discard", "erase")
        case _:
            return ("erase",)

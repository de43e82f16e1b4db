"""Filters with a text field, for values that no list of choices can offer.

A filter by a column without an index reads only the newest rows, and says so in its title.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, ClassVar

from django.conf import settings
from django.contrib import admin
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext_lazy as _

from ...models import OutboxBatch, OutboxRejection, RecordState, is_last_rejection
from .bounds import MAX_SKEW, bounded_title, first_id_since, is_narrowed, newest, with_closed_state

MAX_REJECTIONS = 50_000
"""Maximum number of rejections in which the text of errors is searched: the newest ones."""

MAX_BATCHES = 1_000
"""Maximum number of batches with failed attachments whose records are listed: the newest ones."""

MAX_BATCHES_READ = 100_000
"""Maximum number of batches in which those with failed attachments are looked for: the newest ones."""

Rows = QuerySet[Any]


class InputFilter(admin.ListFilter):
    """A filter with one or more fields in a form, in the place of links."""

    template = "admin/evermuse_outbox/input_filter.html"
    parameters: ClassVar[dict[str, Any]]
    """Name of a parameter of the address → label of its field."""
    kind = "text"
    """Type of the fields."""

    def __init__(self, request: HttpRequest, params: Any, model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        for name in self.parameters:
            if name in params:
                value = params.pop(name)
                self.used_parameters[name] = value[-1] if isinstance(value, list | tuple) else value

    def has_output(self) -> bool:
        """Return True: the form is always shown."""
        return True

    def expected_parameters(self) -> list[str | None]:
        """Return the parameters of the address that belong to the filter."""
        return [*self.parameters]

    def value(self, name: str = "") -> str:
        """Return the value of a parameter, of the first one by default."""
        value = self.used_parameters.get(name or next(iter(self.parameters)), "")
        return str(value).strip().replace("\0", "")

    def choices(self, changelist: Any) -> Iterator[dict[str, Any]]:
        """Return the fields, and the other parameters of the address, which the form keeps."""
        kept = [
            (name, value)
            for name, values in changelist.filter_params.items()
            if name not in self.parameters
            for value in values
        ]
        if changelist.query:
            kept.append(("q", changelist.query))
        yield {
            "fields": [(name, label, self.value(name)) for name, label in self.parameters.items()],
            "kept": kept,
            "kind": self.kind,
            "clear": changelist.get_query_string(remove=[*self.parameters]),
            "is_used": any(self.value(name) for name in self.parameters),
        }


class ProductFilter(InputFilter):
    """Filter records by product. It reads the newest ones if no other filter leaves few."""

    title = _("product")
    parameters: ClassVar[dict[str, Any]] = {"product": _("product id")}

    def __init__(self, request: HttpRequest, params: Any, model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        self.is_bounded = bool(self.value()) and not is_narrowed(request)
        self.title = bounded_title(self.title, is_bounded=self.is_bounded)

    def queryset(self, request: HttpRequest, queryset: Any) -> Rows:
        """Return the records of the product."""
        rows: Rows = queryset.filter(product_id=self.value()) if self.value() else queryset
        return newest(rows) if self.is_bounded else rows


class ErrorCodeFilter(InputFilter):
    """Filter records by the code of a rejection, through an index."""

    title = _("error code")
    parameters: ClassVar[dict[str, Any]] = {"code": _("code")}

    def queryset(self, request: HttpRequest, queryset: Any) -> Rows:
        """Return the records with a rejection with that code."""
        return _with_rejection(queryset, code=self.value()) if self.value() else queryset


class SignatureFilter(InputFilter):
    """Filter records by the signature of their last rejection, through an index; shown only if a link has set it."""

    title = _("error signature")
    parameters: ClassVar[dict[str, Any]] = {"signature": _("signature")}

    def has_output(self) -> bool:
        """Return whether a link has set it: people do not write signatures."""
        return bool(self.value())

    def queryset(self, request: HttpRequest, queryset: Any) -> Rows:
        """Return the records whose last rejection has that signature."""
        signature = self.value()
        return _with_rejection(queryset, is_last_rejection(), signature=signature) if signature else queryset


class ErrorTextFilter(InputFilter):
    """Filter records by text in the message of a rejection, among the newest rejections."""

    title: Any = _("error text")
    parameters: ClassVar[dict[str, Any]] = {"error": _("text")}

    def __init__(self, request: HttpRequest, params: Any, model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        if self.value():
            self.title = _("error text, among the newest %(newest)s rejections") % {
                "newest": f"{MAX_REJECTIONS:,}"
            }

    def queryset(self, request: HttpRequest, queryset: Any) -> Rows:
        """Return the records with a message that contains the text."""
        if not self.value():
            return queryset  # type: ignore[no-any-return]
        rejections = OutboxRejection.objects.using(queryset.db)
        newest_pk = rejections.order_by("-pk").values_list("pk", flat=True).first() or 0
        return _with_rejection(queryset, message__icontains=self.value(), pk__gt=newest_pk - MAX_REJECTIONS)


class TimeFilter(InputFilter):
    """Filter records by the time of enqueueing, from and until. It searches for the matching ids."""

    title = _("enqueued between")
    parameters: ClassVar[dict[str, Any]] = {"since": _("from"), "until": _("until")}
    kind = "datetime-local"

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        """Return the records of that period."""
        since, until = _parse_time(self.value("since")), _parse_time(self.value("until"))
        if since:
            first = first_id_since(queryset, since - MAX_SKEW)
            queryset = queryset.filter(pk__gte=first, enqueued_at__gte=since)
        if until:
            last = first_id_since(queryset, until + MAX_SKEW)
            queryset = queryset.filter(pk__lt=last, enqueued_at__lt=until)
        return queryset

    @classmethod
    def is_used(cls, request: HttpRequest) -> bool:
        """Return whether the address has a valid beginning of a period."""
        return any(_parse_time(request.GET.get(name, "")) for name in cls.parameters)


class AttachmentFilter(admin.SimpleListFilter):
    """Filter records with attachments in a batch of which Evermuse could not fetch all attachments."""

    title = _("attachments")
    parameter_name = "attachments"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the one choice."""
        text = _("failed, among the newest %(newest)s batches") % {"newest": f"{MAX_BATCHES_READ:,}"}
        return [("failed", text)]

    def queryset(self, request: HttpRequest, queryset: Any) -> Rows:
        """Return the records of the newest of these batches."""
        if self.value() != "failed":
            return queryset  # type: ignore[no-any-return]
        batches = OutboxBatch.objects.using(queryset.db).order_by("-pk")
        newest_pk = batches.values_list("pk", flat=True).first() or 0
        failed = batches.filter(attachment_failed__gt=0, pk__gt=newest_pk - MAX_BATCHES_READ)
        pks = list(failed.values_list("pk", flat=True)[:MAX_BATCHES])
        return queryset.filter(batch__in=pks, attachments__gt=0)  # type: ignore[no-any-return]


class AgainFilter(admin.SimpleListFilter):
    """Filter rejected records that had been rejected before: to send them again did not help."""

    title = _("rejected again")
    parameter_name = "again"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the one choice."""
        return [("1", _("rejected more than once"))]

    @classmethod
    def is_used(cls, request: HttpRequest) -> bool:
        """Return whether the filter is set."""
        return request.GET.get(cls.parameter_name) == "1"

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        """Return the rejected records with several rejections."""
        if self.value() != "1":
            return queryset
        return with_closed_state(queryset, RecordState.REJECTED).filter(was_rejected_again())


def was_rejected_again() -> Exists:
    """Return the condition that a record has several rejections."""
    rejections = OutboxRejection.objects.filter(record=OuterRef("pk"))
    earlier = OutboxRejection.objects.filter(record=OuterRef("record_id"), pk__lt=OuterRef("pk"))
    return Exists(rejections.filter(Exists(earlier)))


def _with_rejection(rows: Any, *conditions: Q, **columns: Any) -> Rows:
    rejections = OutboxRejection.objects.using(rows.db).filter(*conditions, **columns)
    rejected: Rows = rows.filter(pk__in=rejections.values("record_id"))
    return rejected


def _parse_time(text: str) -> datetime | None:
    """Return the time in the current time zone; None if the text is no time."""
    try:
        at = parse_datetime(text) if "T" in text or " " in text else parse_datetime(f"{text}T00:00")
    except ValueError:
        return None
    if at is None:
        return None
    if timezone.is_naive(at) and settings.USE_TZ:
        at = timezone.make_aware(at)
    return at

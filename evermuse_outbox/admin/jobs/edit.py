"""Edit and retry: correct the JSON of one rejected record, and send it as a new version."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _

from ...evermuse import FieldError, InvalidRecord
from ...models import OutboxRecord, PayloadDropped, RecordState
from ...operations import NotPossible, edit_record
from ...wakeup import wake_workers_on_commit
from ..lists import posted_reason
from .start import JobAdmin


class EditAdmin(JobAdmin):
    """The pages of records, with a page that edits a rejected one."""

    def get_urls(self) -> list[URLPattern]:
        """Add the page that edits a record."""
        view = self.admin_site.admin_view(self.edit_view)
        name = self.url_name("edit").removeprefix("admin:")
        return [path("<path:object_id>/edit/", view, name=name), *super().get_urls()]

    def may_edit(self, request: HttpRequest, record: OutboxRecord) -> bool:
        """Return whether the user may edit a record: it is rejected, and the user may retry it and see its payload."""
        has_permissions = self.has_job_permission(request, "retry") and self.has_payload_permission(request)
        return has_permissions and record.state == RecordState.REJECTED and not record.is_payload_dropped

    def edit_url(self, record: OutboxRecord) -> str:
        """Return the address of the page that edits a record."""
        return reverse(self.url_name("edit"), args=[record.pk], current_app=self.admin_site.name)

    def edit_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show the JSON of a record in a form, and enqueue the corrected version."""
        record: OutboxRecord | None = self.get_object(request, unquote(object_id))
        if record is None:
            raise Http404
        if not self.has_job_permission(request, "retry"):
            raise PermissionDenied
        self.check_payload_permission(request)
        page = reverse(self.url_name("change"), args=[record.pk], current_app=self.admin_site.name)
        if not self.may_edit(request, record):
            self.message_user(request, _("Only rejected records can be edited."), messages.WARNING)
            return redirect(page)
        if request.method != "POST":
            try:
                return self._form(request, record, _editable_text(record), [])
            except PayloadDropped as error:
                self.message_user(request, str(error), messages.WARNING)
                return redirect(page)
        text = request.POST.get("envelope", "")
        try:
            newer = self._save(request, record, text)
        except json.JSONDecodeError as error:
            return self._form(request, record, text, [_("This is not valid JSON: %s") % error])
        except InvalidRecord as error:
            return self._form(request, record, text, [_describe(each) for each in error.errors])
        except NotPossible as error:
            self.message_user(request, error.message, messages.WARNING)
            return redirect(page)
        return redirect(reverse(self.url_name("change"), args=[newer.pk], current_app=self.admin_site.name))

    def _save(self, request: HttpRequest, record: OutboxRecord, text: str) -> OutboxRecord:
        using, by = str(record._state.db), request.user.get_username()
        newer = edit_record(using, record.pk, json.loads(text), by=by, reason=posted_reason(request))
        self.log_change(request, record, _("Edited; the new version is record #%s.") % newer.pk)
        self.message_user(
            request, _("Record #%(new)s replaces record #%(old)s.") % {"new": newer.pk, "old": record.pk}
        )
        wake_workers_on_commit(using, record.workspace)
        return newer

    def _form(self, request: HttpRequest, record: OutboxRecord, text: str, errors: list[str]) -> HttpResponse:
        request.current_app = self.admin_site.name
        rejection: Any = record.rejections.order_by("-pk").first()
        context = {
            **self.admin_site.each_context(request),
            "title": _("Edit and retry record #%s") % record.pk,
            "opts": self.opts,
            "original": record,
            "rejection": rejection,
            "text": text,
            "errors": errors,
        }
        status = 422 if errors else 200
        template = "admin/evermuse_outbox/outboxrecord/edit.html"
        return TemplateResponse(request, template, context, status=status)


def _editable_text(record: OutboxRecord) -> str:
    """Return the JSON of a record with indents; its line as it is if the line was altered and is not JSON any more."""
    record.refresh_from_db(
        using=record._state.db, fields=["payload"]
    )  # the page reads it from its own database
    try:
        return json.dumps(record.envelope(), indent=2, ensure_ascii=False)
    except ValueError:
        return str(record.payload)


def _describe(error: FieldError) -> str:
    return f"{error.path}: {error.message}" if error.path else error.message

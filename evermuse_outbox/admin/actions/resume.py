"""Resume workspaces or groups: a button on the page of each, and an action on the list."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db import router
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ...operations import NotPossible
from ...wakeup import wake_workers_on_commit
from .exits import Exit, ExitAdmin

RESUME = Exit(
    "resume",
    _("Resume now"),
    _("Send the next request at once. Use it after you have corrected the cause."),
)


PAUSE = Exit(
    "hold",
    _("Pause"),
    _("Send nothing of this until a person resumes it. Accepted batches are still polled."),
)


class ResumeAdmin(ExitAdmin):
    """The pages of a model with rows that can be paused and resumed, and an action that makes them active."""

    actions = ("resume_selected",)
    is_deleted_by_resume = False
    """Whether resuming deletes the row, so that its page no longer exists."""

    def resume_row(self, using: str, row: Any, *, by: str, reason: str, force: bool = False) -> bool:
        """Make the row active again. Return False if it is active already.

        Raise ``NotPossible`` if it must stay blocked. ``force`` ends a ``retryAfter`` of Evermuse, too.
        """
        raise NotImplementedError

    def pause_row(self, using: str, row: Any, *, by: str, reason: str) -> None:
        """Pause the row until a person resumes it. Raise ``NotPossible`` if it is paused by a person already."""
        raise NotImplementedError

    def workspace_of(self, row: Any) -> str:
        """Return the name of the workspace that has work after the row is resumed."""
        raise NotImplementedError

    def has_resume_permission(self, request: HttpRequest) -> bool:
        """Return whether the user can pause and resume rows: a permission of its own."""
        return self.has_exit_permission(request)

    def has_exit_permission(self, request: HttpRequest) -> bool:
        """Return whether the user can pause and resume rows."""
        return bool(request.user.has_perm(f"{self.opts.app_label}.pause_outboxworkspace"))

    def exit_context(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """Return the template variables of the section with the buttons."""
        return {**super().exit_context(request, row), "exits_title": _("Pause and resume")}

    def use_exit(self, using: str, row: Any, name: str, *, by: str, reason: str) -> str:
        """Pause or resume the row."""
        if name == PAUSE.name:
            self.pause_row(using, row, by=by, reason=reason)
            return gettext("Nothing is sent until a person resumes it.")
        return self._resume(using, row, by=by, reason=reason, force=name == "force")

    def page_after_exit(self, row: Any) -> str:
        """Return the list if the row is gone, otherwise its page."""
        if (
            self.is_deleted_by_resume
            and not type(row)._base_manager.using(row._state.db).filter(pk=row.pk).exists()
        ):
            return reverse(self.url_name("changelist"), current_app=self.admin_site.name)
        return super().page_after_exit(row)

    @admin.action(description=_("Resume selected %(verbose_name_plural)s now"), permissions=["resume"])
    def resume_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Resume the selected rows."""
        by = request.user.get_username()
        for row in queryset:
            using = router.db_for_write(type(row), instance=row)
            name = str(row)
            try:
                result = self._resume(using, row, by=by, reason="")
            except NotPossible as error:
                self.message_user(request, error.message, messages.WARNING)
                continue
            self.log_change(request, row, gettext("Resumed."))
            self.message_user(request, f"{name}: {result}", messages.SUCCESS)

    def _resume(self, using: str, row: Any, *, by: str, reason: str, force: bool = False) -> str:
        if not self.resume_row(using, row, by=by, reason=reason, force=force):
            raise NotPossible(gettext("%s is unchanged: it is active already.") % row)
        wake_workers_on_commit(using, self.workspace_of(row))
        return gettext("It is active again; the workers continue.")

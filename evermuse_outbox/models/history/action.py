"""The log of actions: one row for each manual action.

The row is written in the transaction that makes the change. So there is no change by hand without a row.
"""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Sequence
from typing import NamedTuple

from django.db import models
from django.db.models import F
from django.utils.translation import gettext_lazy as _

from ...database_clock import database_now
from ..columns import ForeignCharField, ForeignTextField


class ActionKind(models.TextChoices):
    """What a person did."""

    RETRY = "retry", _("retry records")
    DISCARD = "discard", _("discard records")
    RESUME = "resume", _("resume")
    FORCE_RESUME = "force_resume", _("resume before the end of retryAfter")
    RETRY_NOW = "retry_now", _("send or poll a batch now")
    ISOLATE = "isolate", _("isolate a batch")
    GIVE_UP = "give_up", _("give up a batch")
    HOLD = "hold", _("hold a workspace")
    RELEASE = "release", _("release a workspace")
    PAUSE = "pause", _("pause")
    RELEASE_DOUBT = "release_doubt", _("send a batch in doubt again")
    EDIT = "edit", _("edit and retry a record")
    FIX = "fix", _("fix records")
    ERASE = "erase", _("erase records")
    IMPORT = "import", _("import records from a file")
    CLOSE_RUN = "close_run", _("close a run")
    MAKE_RULE = "make_rule", _("make a standing rule")
    END_RULE = "end_rule", _("end a standing rule")
    RESCHEDULE = "reschedule", _("change when records are sent")
    ENCRYPT = "encrypt", _("encrypt or decrypt payloads")
    ROTATE_KEYS = "rotate_keys", _("rotate keys")
    DESTROY_KEY = "destroy_key", _("destroy data keys")


class Decision(NamedTuple):
    """The person behind an action and the reason. ``by`` is empty for the user of this process."""

    by: str = ""
    reason: str = ""


class ActionQuerySet(models.QuerySet["OutboxAction"]):
    """Writes of the action log."""

    def log(
        self,
        kind: ActionKind,
        decision: Decision,
        *,
        workspace: str = "",
        target: str = "",
        records: int | None = None,
        result: str = "",
    ) -> OutboxAction:
        """Insert the row of an action. Call it in the transaction that makes the change.

        Args:
            kind: what was done.
            decision: the person and the reason.
            workspace: name of the workspace; empty if the action concerns several.
            target: what was changed, in words, for instance ``batch #7``.
            records: number of records that were changed; None if it does not matter.
            result: the outcome in words.
        """
        return self.create(
            at=database_now(self.db),
            by=decision.by or process_user(),
            kind=kind,
            workspace=workspace,
            target=target,
            records=records,
            reason=decision.reason,
            result=result,
        )

    def log_discard(
        self,
        members: Sequence[tuple[int, str]],
        count: int,
        decision: Decision,
        action: OutboxAction | None = None,
    ) -> None:
        """Record that ``count`` of these records, each an id and a workspace, were discarded.

        ``action`` is a recorded action that this is a step of. Then only its number of records grows.
        """
        if action:
            self.add_records(action.pk, count)
        elif count:
            workspaces = {workspace for _, workspace in members}
            self.log(
                ActionKind.DISCARD,
                decision,
                workspace=workspaces.pop() if len(workspaces) == 1 else "",
                target=describe_records([pk for pk, _ in members]),
                records=count,
            )

    def add_records(self, pk: int, count: int) -> None:
        """Add to the number of records of an action that is done in several steps."""
        self.filter(pk=pk).update(records=F("records") + count)


class OutboxAction(models.Model):
    """One manual action: who did what, when and why. It contains no payload and no API key."""

    at = models.DateTimeField(_("time"), db_index=True)
    by = ForeignCharField(
        _("by"),
        max_length=150,
        help_text=_("User name in the admin, or user@host of the process that made the change."),
    )
    kind = models.CharField(_("action"), max_length=16, choices=ActionKind.choices)
    workspace = models.CharField(_("workspace"), max_length=64, blank=True, default="")
    target = ForeignCharField(_("target"), max_length=400, blank=True, default="")
    records = models.PositiveBigIntegerField(_("records"), null=True, blank=True)
    reason = ForeignTextField(_("reason"), blank=True, default="")
    result = ForeignTextField(_("result"), blank=True, default="")

    objects = ActionQuerySet.as_manager()

    class Meta:
        verbose_name = _("manual action")
        verbose_name_plural = _("manual actions")
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.target}"


def process_user() -> str:
    """Return the user and the host of this process, for instance ``deploy@web-1``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container may run under a number without a name
        user = f"uid {os.getuid()}" if hasattr(os, "getuid") else "unknown user"
    return f"{user}@{socket.gethostname()}"


def describe_records(pks: list[int], limit: int = 20) -> str:
    """Return the ids of records in words: at most ``limit``, and how many there are more."""
    listed = ", ".join(f"#{pk}" for pk in pks[:limit])
    more = f" and {len(pks) - limit:,} more" if len(pks) > limit else ""
    return f"records {listed}{more}" if len(pks) != 1 else f"record {listed}"

"""Deferrals: when a record may be sent, and until when.

Most records have none. A *scheduled* or *held* record is outside of the index of pending records, so sealing does not
meet it. To sealing, it is like a record whose transaction has not committed yet. So versions need no further rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import models
from django.db.models import Case, F, Q, Value, When
from django.utils.translation import gettext_lazy as _

ROWS_PER_STATEMENT = 500
"""Rows that one statement names."""

MAX_WORKSPACES = 1_000
"""Due rows that one look for workspaces reads. More workspaces are found by the next look."""


class DeferralQuerySet(models.QuerySet["OutboxDeferral"]):
    """Look-ups of deferrals."""

    def of(self, workspace: str) -> DeferralQuerySet:
        """Return the rows of a workspace."""
        return self.filter(workspace=workspace)

    def due(self, workspace: str, now: datetime) -> DeferralQuerySet:
        """Return the rows of a workspace for which something must happen now, the longest due first."""
        return self.filter(workspace=workspace, due_at__lte=now).order_by("due_at", "pk")

    def due_workspaces(self, now: datetime) -> set[str]:
        """Return the workspaces in which something must happen now."""
        due = self.filter(due_at__lte=now).order_by("due_at")
        return set(due.values_list("workspace", flat=True)[:MAX_WORKSPACES])

    def of_rule(self, rule: int) -> DeferralQuerySet:
        """Return the rows of the records that a standing rule holds."""
        return self.filter(rule_id=rule)

    def reschedule(self, at: datetime) -> int:
        """Let scheduled records wait until another time. It replaces the wait of a debounced one. Return how many."""
        due_at = Case(When(expires_at__lt=at, then=F("expires_at")), default=Value(at))
        return self.update(send_after=at, latest_at=None, due_at=due_at)

    def look_at_expiry(self, pks: Sequence[int]) -> None:
        """Make rows due at their expiry that would be looked at later, because the records were in flight then."""
        # Not by one condition for all: old versions of SQLite allow 999 parameters.
        for start in range(0, len(pks), ROWS_PER_STATEMENT):
            rows = self.filter(pk__in=pks[start : start + ROWS_PER_STATEMENT], due_at__gt=F("expires_at"))
            rows.update(due_at=F("expires_at"))

    def forget_closed(self, pks: Sequence[int], closed: models.QuerySet[Any]) -> None:
        """Delete the rows of those of the records ``pks`` that are in ``closed``, so that they do not count as held."""
        if deferred := list(self.filter(pk__in=pks).values_list("pk", flat=True)):
            gone = list(closed.filter(pk__in=deferred).values_list("pk", flat=True))
            self.filter(pk__in=gone).delete()

    def forget_passed_expiry(self, pks: Sequence[int]) -> None:
        """Delete the rows of records that were in flight at their expiry, because a person sends them nevertheless."""
        for start in range(0, len(pks), ROWS_PER_STATEMENT):
            chunk = self.filter(pk__in=pks[start : start + ROWS_PER_STATEMENT])
            # A DELETE that names missing rows would lock the gaps between rows on MariaDB.
            if passed := list(chunk.filter(due_at__gt=F("expires_at")).values_list("pk", flat=True)):
                self.filter(pk__in=passed).delete()


class OutboxDeferral(models.Model):
    """When a record may be sent, and until when. The row is removed when nothing is left to happen.

    ``due_at`` is the time of the next change: the record becomes pending, or it expires. It is empty only for a held
    record without an end.
    """

    record_id = models.BigIntegerField(_("record"), primary_key=True)
    workspace = models.CharField(_("workspace"), max_length=64)
    due_at = models.DateTimeField(_("due at"), null=True, blank=True)
    send_after = models.DateTimeField(
        _("send after"), null=True, blank=True, help_text=_("The record is not sent before.")
    )
    expires_at = models.DateTimeField(
        _("expires at"), null=True, blank=True, help_text=_("The record is not sealed after this time.")
    )
    latest_at = models.DateTimeField(
        _("latest at"),
        null=True,
        blank=True,
        help_text=_(
            "Of a debounced record: the time when its identity is sent, even if newer versions come."
        ),
    )
    rule_id = models.BigIntegerField(
        _("standing rule"), null=True, blank=True, help_text=_("The rule that holds the record.")
    )

    objects = DeferralQuerySet.as_manager()

    class Meta:
        verbose_name = _("deferral")
        verbose_name_plural = _("deferrals")
        indexes = [
            models.Index(name="evermuse_deferral_due", fields=["due_at", "workspace"]),
            models.Index(name="evermuse_deferral_workspace", fields=["workspace", "due_at"]),
            models.Index(name="evermuse_deferral_rule", fields=["rule_id", "record_id"]),
        ]
        constraints = [
            models.CheckConstraint(
                name="evermuse_deferral_due_at",
                condition=Q(due_at__isnull=False) | Q(rule_id__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"deferral of record #{self.pk}"

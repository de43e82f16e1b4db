"""Incidents: conditions that need attention, each with its beginning, its end and the reason."""

from __future__ import annotations

import hashlib
from datetime import datetime

from django.db import IntegrityError, models, transaction
from django.db.models import F
from django.db.models.functions import Greatest
from django.utils.translation import gettext_lazy as _

from ..columns import ForeignCharField, ForeignTextField


class IncidentKind(models.TextChoices):
    """The conditions that are remembered."""

    WORKSPACE = "workspace", _("workspace does not send")
    GROUP = "group", _("group is paused")
    BACKLOG = "backlog", _("records wait too long")
    NO_WORKER = "no_worker", _("no worker")
    SLOW_DATABASE = "slow_database", _("slow statements")
    CLOCK = "clock", _("clock drift")


class IncidentQuerySet(models.QuerySet["OutboxIncident"]):
    """Changes of incidents. At most one incident of a kind, a workspace and a subject is open."""

    def open(self) -> IncidentQuerySet:
        """Return the incidents that have not ended."""
        return self.filter(open_key__isnull=False)

    def begin(self, row: OutboxIncident, at: datetime) -> bool:
        """Change (no row) → open: save a new row. Return False if another process was first."""
        row.last_seen_at, row.open_key = at, incident_key(row.kind, row.workspace, row.subject)
        try:
            with transaction.atomic(using=self.db):
                row.save(using=self.db, force_insert=True)
        except IntegrityError:
            return False
        return True

    def see_again(self, pk: int, *, at: datetime, reason: str, peak: float | None) -> bool:
        """Store that the condition still holds, and its reason now. Return False if the incident has ended."""
        columns = {"last_seen_at": at, "reason": reason}
        if peak is not None:
            columns["peak"] = Greatest(F("peak"), peak)
        return bool(self.open().filter(pk=pk).update(**columns))

    def exhaust(self, pk: int, at: datetime) -> bool:
        """Store that it needs a person from now on. Return False if that is known or the incident has ended."""
        return bool(self.open().filter(pk=pk, exhausted_at__isnull=True).update(exhausted_at=at))

    def end(self, pk: int, at: datetime) -> bool:
        """Change open → ended. Return False if another process was first."""
        return bool(self.open().filter(pk=pk).update(ended_at=at, open_key=None))


def incident_key(kind: str, workspace: str, subject: str) -> str:
    """Return the value of ``open_key`` of an incident. It is a hash, because a database may ignore case."""
    name = "\0".join((kind, workspace, subject))
    return hashlib.blake2b(name.encode(), digest_size=16, person=b"evermuse-incid").hexdigest()


class OutboxIncident(models.Model):
    """A condition that needed attention for some time. ``ended_at`` is empty while it lasts."""

    kind = models.CharField(_("kind"), max_length=16, choices=IncidentKind.choices)
    workspace = models.CharField(_("workspace"), max_length=64, blank=True, default="")
    subject = ForeignCharField(
        _("subject"), max_length=200, blank=True, default="", help_text=_("For instance the group.")
    )
    started_at = models.DateTimeField(_("started at"), db_index=True)
    last_seen_at = models.DateTimeField(_("last seen at"))
    ended_at = models.DateTimeField(_("ended at"), null=True, blank=True, db_index=True)
    exhausted_at = models.DateTimeField(
        _("exhausted at"), null=True, blank=True, help_text=_("When it was certain to need a person.")
    )
    reason = ForeignTextField(_("reason"), blank=True, default="")
    peak = models.FloatField(
        _("highest figure"), null=True, blank=True, help_text=_("Seconds or a number, depending on the kind.")
    )
    open_key = models.CharField(max_length=32, null=True, blank=True, unique=True, editable=False)

    objects = IncidentQuerySet.as_manager()

    class Meta:
        verbose_name = _("incident")
        verbose_name_plural = _("incidents")
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.subject or self.workspace}".strip()

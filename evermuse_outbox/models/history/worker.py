"""Heartbeats: one row for each process that sends, polls or maintains."""

from __future__ import annotations

import uuid
from datetime import datetime

from django.db import models
from django.utils.translation import gettext_lazy as _

from ..columns import ForeignCharField


class WorkerQuerySet(models.QuerySet["OutboxWorker"]):
    """Look-ups and writes of heartbeats."""

    def beat(self, pk: uuid.UUID, at: datetime, activity: str) -> bool:
        """Store that a process works. Return False if it has no row."""
        return bool(self.filter(pk=pk).update(last_seen_at=at, activity=activity))

    def seen_since(self, at: datetime) -> WorkerQuerySet:
        """Return the processes that were seen at ``at`` or later."""
        return self.filter(last_seen_at__gte=at)

    def last_seen(self) -> datetime | None:
        """Return when a process was seen last; None if no process ever was."""
        return self.order_by("-last_seen_at").values_list("last_seen_at", flat=True).first()


class OutboxWorker(models.Model):
    """A process that works on the outbox, with the time when it was seen last."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    host = ForeignCharField(_("host"), max_length=255)
    pid = models.PositiveBigIntegerField(_("process id"))
    version = models.CharField(_("version"), max_length=32, help_text=_("Version of evermuse_outbox."))
    command = ForeignCharField(
        _("command"), max_length=64, help_text=_("What runs the process, such as celery worker.")
    )
    started_at = models.DateTimeField(_("started at"), help_text=_("Time of the first heartbeat."))
    last_seen_at = models.DateTimeField(_("last seen at"), db_index=True)
    activity = ForeignCharField(
        _("activity"), max_length=120, help_text=_("What it began last, when it was seen last.")
    )

    objects = WorkerQuerySet.as_manager()

    class Meta:
        verbose_name = _("worker")
        verbose_name_plural = _("workers")

    def __str__(self) -> str:
        return f"{self.command} on {self.host}, process {self.pid}"

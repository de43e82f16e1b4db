"""Workspaces in which a new record would wait for long, so that one process says so once."""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256

from django.db import models
from django.utils.translation import gettext_lazy as _


class PressureQuerySet(models.QuerySet["OutboxPressure"]):
    """Writes of the rows."""

    def begin(self, workspace: str, now: datetime) -> bool:
        """Store that the pressure is high. Return False if another process did."""
        return self.get_or_create(pk=_scope(workspace), defaults={"workspace": workspace, "since": now})[1]

    def end(self, workspace: str) -> bool:
        """Store that the pressure is low again. Return False if another process did."""
        return bool(self.filter(pk=_scope(workspace)).delete()[0])


class OutboxPressure(models.Model):
    """A workspace whose new records wait longer than ``PRESSURE_THRESHOLD``. There is no row if they do not."""

    scope = models.CharField(_("scope"), max_length=64, primary_key=True, editable=False)
    workspace = models.CharField(_("workspace"), max_length=64)
    since = models.DateTimeField(_("since"))

    objects = PressureQuerySet.as_manager()

    class Meta:
        verbose_name = _("pressure")
        verbose_name_plural = _("pressures")

    def __str__(self) -> str:
        return str(self.workspace)


def _scope(workspace: str) -> str:
    """Return the primary key, which every database compares exactly."""
    return sha256(workspace.encode()).hexdigest()

"""The pace of an API key, kept in the database where there is no Redis."""

from __future__ import annotations

from datetime import UTC, datetime

from django.db import models, transaction
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from ..evermuse.throttle import Grant, Pace


class ThrottleQuerySet(models.QuerySet["OutboxThrottle"]):
    """Each method is one short transaction on the database's clock."""

    def reserve(self, scope: str, spacing: float, patience: float) -> Grant:
        """The next slot of ``scope``, taken when it is at most ``patience`` seconds away."""
        with transaction.atomic(using=self.db):
            pace, now = self._locked(scope)
            grant, pace = pace.reserve(now, spacing, patience)
            self.filter(pk=scope).update(free_at=pace.free_at)
        return grant

    def hold(self, scope: str, seconds: float) -> None:
        """Nobody gets a slot for that long."""
        with transaction.atomic(using=self.db):
            pace, now = self._locked(scope)
            self.filter(pk=scope).update(hold_until=pace.hold(now, seconds).hold_until)

    def look(self, scope: str) -> tuple[Pace, float]:
        """The pace as it stands, and the database's time in seconds since the epoch."""
        row = self.filter(pk=scope).annotate(now=Now()).values_list("free_at", "hold_until", "now").first()
        return (Pace(row[0], row[1]), _epoch(row[2])) if row else (Pace(), 0.0)

    def _locked(self, scope: str) -> tuple[Pace, float]:
        if not self.filter(pk=scope).update(touched=models.F("touched") + 1):
            self.get_or_create(pk=scope)
            self.filter(pk=scope).update(touched=models.F("touched") + 1)
        # The clock is read by a statement of its own, after the lock was had.
        return self.look(scope)


def _epoch(moment: datetime) -> float:
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.timestamp()


class OutboxThrottle(models.Model):
    """One API key, by a one-way fingerprint. Times are seconds since the epoch on the database's clock."""

    scope = models.CharField(_("scope"), max_length=32, primary_key=True)
    free_at = models.FloatField(_("next slot"), default=0)
    hold_until = models.FloatField(_("held until"), default=0)
    touched = models.PositiveBigIntegerField(_("slots asked for"), default=0)

    objects = ThrottleQuerySet.as_manager()

    class Meta:
        verbose_name = _("throttle")
        verbose_name_plural = _("throttles")

    def __str__(self) -> str:
        return self.scope

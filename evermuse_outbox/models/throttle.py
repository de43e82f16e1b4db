"""The pace of an API key, kept in the database where there is no Redis."""

from __future__ import annotations

from functools import partial
from time import monotonic
from typing import Any

from django.db import models, transaction
from django.utils.translation import gettext_lazy as _

from ..ratelimit.throttle import (
    Entry,
    Limit,
    Permit,
    RateLimitState,
    Reservation,
    let_in,
    new_permit_id,
)


class EpochNow(models.Func):
    """The database's time at this moment, in seconds since the epoch, whatever time zone it thinks in."""

    output_field = models.FloatField()
    template = "(julianday('now') - 2440587.5) * 86400.0"

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="EXTRACT(EPOCH FROM clock_timestamp())::float8")

    def as_mysql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        micros = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"
        return self.as_sql(compiler, connection, template=f"{micros} / 1000000.0")


class ThrottleQuerySet(models.QuerySet["OutboxThrottle"]):
    """Each change is one short transaction on the database's clock."""

    def look(self, scope: str) -> tuple[RateLimitState, float]:
        """The pace as it stands, and the database's time in seconds since the epoch."""
        row = self.filter(pk=scope).annotate(now=EpochNow()).first()  # type: ignore[no-redef]
        return (row.pace, row.now) if row else (RateLimitState(), 0.0)

    def reserve(self, scope: str, limit: Limit, patience: float) -> Reservation:
        """The next slot of ``scope``, taken when it is at most ``patience`` seconds away."""
        with transaction.atomic(using=self.db):
            pace, now = self._locked(scope)
            grant, pace = pace.reserve(now, limit, patience)
            self.filter(pk=scope).update(next_slot_at=pace.next_slot_at)
        return grant

    def enter(self, scope: str, limit: Limit) -> Entry:
        """Lets a request go now, or says how long to wait."""
        return let_in(partial(self._knock, scope, limit))

    def _knock(self, scope: str, limit: Limit) -> tuple[Entry, float]:
        with transaction.atomic(using=self.db):
            pace, now = self._locked(scope)
            told = monotonic()
            entry, pace = pace.enter(now, limit, new_permit_id())
            self.filter(pk=scope).update(permits=pace.permits)
        # A commit may take long: a full disk cache, another host that fails over.
        return entry, monotonic() - told

    def leave(self, scope: str, permit: str, *, is_send: bool) -> None:
        """The request of that visit was answered."""
        with transaction.atomic(using=self.db):
            pace, now = self._locked(scope)
            pace = pace.leave(now, permit, is_send=is_send)
            learnt = {
                "min_latency": pace.min_latency,
                "min_latency_candidate": pace.min_latency_candidate,
                "sends": pace.sends,
            }
            self.filter(pk=scope).update(permits=pace.permits, **learnt)

    def hold(self, scope: str, seconds: float) -> None:
        """Nobody gets a slot for that long."""
        with transaction.atomic(using=self.db):
            pace, now = self._locked(scope)
            self.filter(pk=scope).update(blocked_until=pace.hold(now, seconds).blocked_until)

    def _locked(self, scope: str) -> tuple[RateLimitState, float]:
        if not self.filter(pk=scope).update(lock_count=models.F("lock_count") + 1):
            self.get_or_create(pk=scope)
            self.filter(pk=scope).update(lock_count=models.F("lock_count") + 1)
        # The clock is read by a statement of its own, after the lock was had.
        return self.look(scope)


class OutboxThrottle(models.Model):
    """One API key, by a one-way fingerprint. Times are seconds since the epoch on the database's clock."""

    scope = models.CharField(_("scope"), max_length=32, primary_key=True)
    next_slot_at = models.FloatField(_("next slot"), default=0)
    blocked_until = models.FloatField(_("held until"), default=0)
    min_latency = models.FloatField(_("quickest answer of late"), null=True)
    min_latency_candidate = models.FloatField(_("quickest answer of this epoch"), null=True)
    sends = models.PositiveIntegerField(_("sends of this epoch"), default=0)
    permits = models.JSONField(_("requests of the last second"), default=list)
    lock_count = models.PositiveBigIntegerField(_("times asked"), default=0)

    now: float  # only on rows that `look` has read

    objects = ThrottleQuerySet.as_manager()

    class Meta:
        verbose_name = _("throttle")
        verbose_name_plural = _("throttles")

    def __str__(self) -> str:
        return self.scope

    @property
    def pace(self) -> RateLimitState:
        """The row as the arithmetic wants it."""
        permits = tuple(Permit(*permit) for permit in self.permits)
        return RateLimitState(
            self.next_slot_at,
            self.blocked_until,
            self.min_latency,
            self.min_latency_candidate,
            self.sends,
            permits,
        )

"""The state of the rate limit of an API key, in a row of the database if there is no Redis.

Without a shared state, processes and hosts would exceed the limit together. ``ratelimit/algorithm.py`` explains slots,
permits and what is learned about latency.
"""

from __future__ import annotations

from functools import partial
from time import monotonic
from typing import Any

from django.db import models, transaction
from django.utils.translation import gettext_lazy as _

from ..database_clock import EpochNow
from ..ratelimit import (
    Admission,
    LatencySamples,
    Limit,
    Permit,
    RateLimitState,
    Reservation,
    acquire_again_if_slow,
    new_permit_id,
)


class ThrottleQuerySet(models.QuerySet["OutboxThrottle"]):
    """Each change is one short transaction on the database's clock."""

    def read_state(self, scope: str) -> tuple[RateLimitState, float]:
        """Return the state of ``scope``, and the database's time in seconds since the epoch.

        Before the first request of a key there is no row. Then return the initial state and the time 0.
        """
        row = self.filter(pk=scope).annotate(now=EpochNow()).first()  # type: ignore[no-redef]
        return (row.rate_limit_state, row.now) if row else (RateLimitState(), 0.0)

    def reserve(self, scope: str, limit: Limit, patience: float) -> Reservation:
        """Reserve the next slot of ``scope`` if it is at most ``patience`` seconds away."""
        with transaction.atomic(using=self.db):
            state, now = self._lock_state(scope)
            reservation, state = state.reserve(now, limit, patience)
            self.filter(pk=scope).update(next_slot_at=state.next_slot_at)
        return reservation

    def acquire(self, scope: str, limit: Limit) -> Admission:
        """Acquire a permit to send a request now. If none is free, return how long to wait before a new attempt."""
        return acquire_again_if_slow(partial(self._acquire, scope, limit))

    def _acquire(self, scope: str, limit: Limit) -> tuple[Admission, float]:
        with transaction.atomic(using=self.db):
            state, now = self._lock_state(scope)
            started = monotonic()
            admission, state = state.acquire(now, limit, new_permit_id())
            self.filter(pk=scope).update(permits=_permit_columns(state))
        # Measured after the commit, because a commit may take long: a slow disk, a failover.
        return admission, monotonic() - started

    def release(self, scope: str, permit: str, *, is_comparable: bool) -> None:
        """Record that the request of ``permit`` has its answer; ``is_comparable`` as in the algorithm."""
        with transaction.atomic(using=self.db):
            state, now = self._lock_state(scope)
            state = state.release(now, permit, is_comparable=is_comparable)
            self.filter(pk=scope).update(permits=_permit_columns(state), latencies=_latency_columns(state))

    def block(self, scope: str, seconds: float) -> None:
        """Give no slot and no permit for ``seconds``. A longer block that is in force remains."""
        with transaction.atomic(using=self.db):
            state, now = self._lock_state(scope)
            self.filter(pk=scope).update(blocked_until=state.block(now, seconds).blocked_until)

    def unblock(self, scope: str) -> None:
        """End a block of ``scope`` before its time. Slots and permits stay as they are."""
        self.filter(pk=scope).update(blocked_until=RateLimitState().unblock().blocked_until)

    def _lock_state(self, scope: str) -> tuple[RateLimitState, float]:
        # The UPDATE takes the row lock on every database; SQLite ignores SELECT … FOR UPDATE.
        if not self.filter(pk=scope).update(lock_count=models.F("lock_count") + 1):
            self.get_or_create(pk=scope)
            self.filter(pk=scope).update(lock_count=models.F("lock_count") + 1)
        # A statement of its own reads the clock, so that the time is from after the wait for the lock.
        return self.read_state(scope)


class OutboxThrottle(models.Model):
    """The rate-limit state of one API key; ``scope`` is its one-way fingerprint.

    Times are seconds since the epoch on the database's clock.
    """

    scope = models.CharField(_("scope"), max_length=32, primary_key=True)
    next_slot_at = models.FloatField(_("next slot"), default=0)
    blocked_until = models.FloatField(_("blocked until"), default=0)
    # Workers of earlier versions write these three columns; nothing reads them any more.
    min_latency = models.FloatField(_("minimum latency"), null=True)
    min_latency_candidate = models.FloatField(_("minimum latency of this window"), null=True)
    latency_samples = models.PositiveIntegerField(_("sends of this window"), default=0)
    # Workers of earlier versions read the permits, so each one has three values.
    permits = models.JSONField(_("permits of the last second"), default=list)
    latencies = models.JSONField(_("latencies of recent sends"), null=True)
    lock_count = models.PositiveBigIntegerField(_("times locked"), default=0)

    now: float  # set only on rows from `read_state`

    objects = ThrottleQuerySet.as_manager()

    class Meta:
        verbose_name = _("throttle")
        verbose_name_plural = _("throttles")

    def __str__(self) -> str:
        return self.scope

    @property
    def rate_limit_state(self) -> RateLimitState:
        """The row as the value that the algorithm works on."""
        permits: tuple[Permit, ...] = tuple(Permit(*permit) for permit in self.permits)
        samples = LatencySamples()
        if self.latencies:
            since, size, current, previous = self.latencies["samples"]
            samples = LatencySamples(since, size, tuple(current), tuple(previous))
            answered = self.latencies["answered"]
            permits = tuple(permit._replace(latency=answered.get(permit.id)) for permit in permits)
        return RateLimitState(self.next_slot_at, self.blocked_until, permits, samples)


def _permit_columns(state: RateLimitState) -> list[tuple[str, float, float]]:
    """Return the value of the column ``permits``."""
    return [(permit.id, permit.sent_at, permit.latest_arrival) for permit in state.permits]


def _latency_columns(state: RateLimitState) -> dict[str, Any]:
    """Return the value of the column ``latencies``: the samples, and the latency of each answered permit."""
    answered = {permit.id: permit.latency for permit in state.permits if permit.latency is not None}
    return {"samples": state.samples, "answered": answered}

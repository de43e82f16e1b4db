"""Workspaces: what holds an API key back, and whose turn it is to be sealed."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import connections, models
from django.utils.translation import gettext_lazy as _

FLOWS = 2_000
"""Of how many groups a workspace remembers the flow."""


class WorkspaceState(models.TextChoices):
    """What a workspace is doing; everything but ``open`` holds its records back for a while."""

    ACTIVE = "active", _("active")
    PAUSED = "paused", _("paused")  # 401, 403, or no key at all
    BACKING_OFF = "backing_off", _("backing off")  # 5xx, timeouts, nobody there
    THROTTLED = "throttled", _("throttled")  # 429


LONGEST_REST = timedelta(hours=1)
"""A next read that is further away can only come from a clock that was set back."""


def _may_read(now: datetime) -> models.Q:
    never = models.Q(next_read_at__isnull=True)
    return never | models.Q(next_read_at__lte=now) | models.Q(next_read_at__gt=now + LONGEST_REST)


class WorkspaceQuerySet(models.QuerySet["OutboxWorkspace"]):
    """Changes of state of workspaces."""

    def named(self, name: str) -> OutboxWorkspace:
        """The row of that workspace, made at its first use."""
        found = self.defer("run_queue", "arrival_rates").filter(pk=name).first()
        return found or self.get_or_create(pk=name)[0]

    def lock_for_sealing(self, name: str) -> OutboxWorkspace:
        """The row, locked until the transaction ends: one seals at a time in a workspace.

        Two versions of one identity may stand in two groups, so that sealing them side by side could
        put both in flight.
        """
        # Nothing is read before the lock is had, or a transaction that keeps its first view would look at
        # an old one.
        if row := self._locked(name):
            return row
        self.get_or_create(pk=name)
        return self.lock_for_sealing(name)

    def _locked(self, name: str) -> OutboxWorkspace | None:
        mine = self.defer("arrival_rates").filter(pk=name)
        if connections[self.db].features.has_select_for_update:
            return mine.select_for_update().first()
        mine.update(seal_count=models.F("seal_count"))  # SQLite knows no other lock than that of a write
        return mine.first()

    def hold(self, name: str, state: WorkspaceState, until: datetime, reason: str) -> bool:
        """Holds the workspace back until then and says why. A longer ``retryAfter`` that stands is kept."""
        self.named(name)
        return bool(self._holdable(name, until).update(state=state, blocked_until=until, reason=reason))

    def back_off(self, name: str, failures: int, until: datetime, reason: str) -> bool:
        """One more failure in a row: backing off until then.

        ``failures`` is how many there were when the request was let in. False where another has been counted
        since: then a hold has begun while this request was under way, and its failure says nothing new.
        """
        counted = self._holdable(name, until).filter(failures=failures)
        ended: dict[str, Any] = {
            "state": WorkspaceState.BACKING_OFF,
            "blocked_until": until,
            "reason": reason,
        }
        return bool(counted.update(failures=failures + 1, **ended))

    def _holdable(self, name: str, until: datetime) -> WorkspaceQuerySet:
        return self.filter(pk=name).exclude(state=WorkspaceState.THROTTLED, blocked_until__gt=until)

    def resume(self, name: str, now: datetime, *, sent: bool = True) -> int:
        """Any hold → open, but for a ``retryAfter`` that is not over. Returns 1 when there was one.

        ``sent`` says that a batch got through, which ends the row of failures, too. Where sends have failed,
        only a send tells that the trouble is over.
        """
        held = self.filter(pk=name).exclude(state=WorkspaceState.ACTIVE, failures=0)
        # Asked first, as an UPDATE that changes nothing still waits for the lock of who seals (MariaDB).
        if not held.exists():
            return 0
        over = held.exclude(state=WorkspaceState.THROTTLED, blocked_until__gt=now)
        ended: dict[str, Any] = {"state": WorkspaceState.ACTIVE, "blocked_until": None, "reason": ""}
        if sent:
            return over.update(**ended, failures=0)
        return over.exclude(state=WorkspaceState.BACKING_OFF, failures__gt=0).update(**ended)

    def claim_probe(self, row: OutboxWorkspace, until: datetime) -> bool:
        """Makes this caller the one who tries whether the trouble is over. False when another was first."""
        mine = self.filter(pk=row.pk, state=row.state, blocked_until=row.blocked_until)
        return bool(mine.update(blocked_until=until))

    def end_probe(self, name: str, probe_until: datetime, now: datetime) -> bool:
        """Let the next caller probe now. Return False if the probe's outcome has changed the row."""
        return bool(self.filter(pk=name, blocked_until=probe_until).update(blocked_until=now))

    def may_read(self, name: str, now: datetime) -> bool:
        """Whether nobody reads for that workspace, and it is time for its next read."""
        return not self.filter(pk=name).exclude(_may_read(now)).exists()

    def claim_read(self, name: str, now: datetime, until: datetime) -> bool:
        """Makes this caller the one who reads, until then at the latest. False when it is not time."""
        return bool(self.filter(_may_read(now), pk=name).update(next_read_at=until))

    def end_read(self, name: str, until: datetime, then: datetime, usual: float) -> bool:
        """The reader is done; the next read may be ``then``. False when its claim was taken over."""
        mine = self.filter(pk=name, next_read_at=until)
        return bool(mine.update(next_read_at=then, typical_completion_seconds=usual))


class OutboxWorkspace(models.Model):
    """One API key, by its name in the settings. The key itself is never stored."""

    name = models.CharField(_("name"), max_length=64, primary_key=True)
    state = models.CharField(
        _("state"), max_length=12, choices=WorkspaceState.choices, default=WorkspaceState.ACTIVE
    )
    blocked_until = models.DateTimeField(_("held until"), null=True, blank=True)
    reason = models.TextField(_("reason"), blank=True, default="")
    failures = models.PositiveIntegerField(_("failures in a row"), default=0)
    seal_count = models.PositiveBigIntegerField(
        _("sealing attempts"), default=0, help_text=_("Times that a batch was looked for.")
    )
    # Hints for whoever seals next; see pipeline/plan.py. Two columns, as the second is large and seldom written.
    run_queue = models.JSONField(
        _("run queue"), default=dict, blank=True, help_text=_("The groups to be sealed next, and why.")
    )
    arrival_rates = models.JSONField(
        _("arrival rates"),
        default=list,
        blank=True,
        help_text=_("Records a second, of the groups with the most."),
    )
    next_read_at = models.DateTimeField(_("next read at"), null=True, blank=True)
    typical_completion_seconds = models.FloatField(
        _("usual time"), default=0, help_text=_("Seconds that Evermuse takes for a batch, as was seen last.")
    )

    objects = WorkspaceQuerySet.as_manager()

    class Meta:
        verbose_name = _("workspace")
        verbose_name_plural = _("workspaces")

    def __str__(self) -> str:
        return self.name

    def known_arrival_rates(self) -> dict[tuple[str, str], float]:
        """Records a second by ``_type`` and ``_product_id``. Nothing where the column holds what nobody can read."""
        try:
            return {(kind, product): float(flow) for kind, product, flow in self.arrival_rates}
        except (TypeError, ValueError):
            return {}

    def remember_arrival_rates(self, arrival_rates: Mapping[tuple[str, str], float]) -> None:
        """Keeps the greatest of them."""
        greatest = heapq.nlargest(FLOWS, arrival_rates.items(), key=lambda item: item[1])
        self.arrival_rates = [[*group, float(f"{flow:.3g}")] for group, flow in greatest]

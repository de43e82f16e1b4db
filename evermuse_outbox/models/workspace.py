"""Workspaces: whether an API key may be used, and the row lock that serialises sealing.

``delivery/gates/workspace_breaker.py`` explains the circuit breaker, and ``delivery/sealing/lock.py`` the lock.
"""

from __future__ import annotations

import heapq
import time
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import connections, models
from django.db.models import Case, F, Q, Value, When
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from ..database_clock import EpochNow, learn_time
from .columns import ForeignCharField, ForeignJSONField, ForeignTextField
from .query_hints import WithoutJit
from .transitions import StateQuerySet, Transition

MAX_ARRIVAL_RATES = 2_000
"""Number of arrival rates that a workspace remembers, one for each group."""

MAX_READ_INTERVAL = timedelta(hours=1)
"""A stored ``next_read_at`` further away than this comes from a clock that was set back, and is ignored."""


class WorkspaceState(models.TextChoices):
    """The circuit breaker of a workspace. In all states but ACTIVE it is open until ``blocked_until``: records wait.

    RESTORED and HELD have no end: a person must decide.
    """

    ACTIVE = "active", _("active")
    PAUSED = "paused", _("paused")  # 401, 403, or no API key
    NO_CREDITS = "no_credits", _("without credits")  # 402
    BACKING_OFF = "backing_off", _("backing off")  # 5xx, timeout, or no connection
    THROTTLED = "throttled", _("throttled")  # 429
    RESTORED = "restored", _("restored")  # the database is older than what was sent from it
    HELD = "held", _("held")  # by a person


ENDED_BY_HAND = (WorkspaceState.RESTORED, WorkspaceState.HELD)
"""States that only a decision of a person ends."""

AUTOMATIC = tuple(state for state in WorkspaceState if state not in ENDED_BY_HAND)
"""States that an answer of Evermuse or a resume may change."""

TRANSITIONS = {
    "pause": Transition(AUTOMATIC, WorkspaceState.PAUSED),
    "pause_without_credits": Transition(AUTOMATIC, WorkspaceState.NO_CREDITS),
    "throttle": Transition(AUTOMATIC, WorkspaceState.THROTTLED),
    "back_off": Transition(AUTOMATIC, WorkspaceState.BACKING_OFF),
    "back_off_uncounted": Transition(AUTOMATIC, WorkspaceState.BACKING_OFF),
    "end_retry_after": Transition((WorkspaceState.THROTTLED,), WorkspaceState.BACKING_OFF),
    "resume": Transition(AUTOMATIC, WorkspaceState.ACTIVE),
    "force_resume": Transition(AUTOMATIC, WorkspaceState.ACTIVE),
    "hold": Transition(AUTOMATIC, WorkspaceState.HELD),
    "end_hold": Transition((WorkspaceState.HELD,), WorkspaceState.ACTIVE),
    "end_hold_throttled": Transition((WorkspaceState.HELD,), WorkspaceState.THROTTLED),
    "mark_restored": Transition((*AUTOMATIC, WorkspaceState.HELD), WorkspaceState.RESTORED),
    "end_restored": Transition((WorkspaceState.RESTORED,), WorkspaceState.ACTIVE),
}


class WorkspaceQuerySet(StateQuerySet["OutboxWorkspace"]):
    """Look-ups, locks and changes of state of workspaces."""

    transitions = TRANSITIONS

    # --- rows and locks ---------------------------------------------------------------------------

    def ensure_row(self, name: str, **columns: Any) -> OutboxWorkspace:
        """Return the row of a workspace without its large columns; create it at its first use.

        Each run reads the row, so the same statement reads the database's clock for this process. ``columns`` are
        further expressions to read; a row that was created just now does not have them.
        """
        rows = self.defer("run_queue", "arrival_rates")
        # Connecting takes time, and the database reads its clock after it.
        connections[self.db].ensure_connection()
        started = time.monotonic()
        row = rows.annotate(database_seconds=EpochNow(), **columns).filter(pk=name).first()  # type: ignore[no-redef]
        if row is None:
            return self.get_or_create(pk=name)[0]
        learn_time(self.db, row.database_seconds, started, time.monotonic())
        return row

    def lock_for_sealing(self, name: str) -> OutboxWorkspace:
        """Lock the row until the transaction ends, and return it: one process at a time seals in a workspace.

        Two versions of one identity may be in two groups. Sealing both at once could put both in flight.
        """
        # Nothing may be read before the lock is held: under REPEATABLE READ, the first read fixes the snapshot.
        if row := self._lock(name):
            return row
        self.get_or_create(pk=name)
        return self.lock_for_sealing(name)

    def _lock(self, name: str) -> OutboxWorkspace | None:
        rows = self.defer("arrival_rates").annotate(jit=WithoutJit()).filter(pk=name)
        connection = connections[self.db]
        if connection.features.has_select_for_update:
            return rows.select_for_update().first()
        if not _begins_with_write_lock(connection):
            self.filter(pk=name).update(
                seal_count=F("seal_count")
            )  # no row locks; a write locks the database
        return rows.first()

    def read_arrival_rates(self, name: str) -> dict[tuple[str, str], float]:
        """Return records per second by ``_type`` and ``_product_id``; empty if the column is not readable."""
        stored = self.filter(pk=name).values_list("arrival_rates", flat=True).first()
        try:
            return {(kind, product): float(rate) for kind, product, rate in stored or ()}
        except (TypeError, ValueError):
            return {}

    def with_circuit(self, now: datetime) -> WorkspaceQuerySet:
        """Annotate each workspace with ``can_send`` and ``can_read``: whether its circuit breaker allows a request now.

        ``can_read`` is false, too, while the next read is not due.
        """
        is_unblocked = Q(blocked_until__isnull=True) | Q(blocked_until__lte=now)
        can_send = is_unblocked & ~Q(state__in=ENDED_BY_HAND)
        can_read = is_unblocked & ~Q(state=WorkspaceState.RESTORED) & _is_read_due(now)
        return self.annotate(can_send=_as_flag(can_send), can_read=_as_flag(can_read))

    # --- changes of state -------------------------------------------------------------------------
    # If a `retryAfter` of Evermuse ends later than the new block, it is kept: no request may be sent before.

    def pause(self, name: str, until: datetime, reason: str) -> bool:
        """Change any automatic state → paused: the key is refused or missing.

        Return False if a longer ``retryAfter`` is kept.
        """
        return self._block("pause", name, until, reason)

    def pause_without_credits(self, name: str, until: datetime, reason: str) -> bool:
        """Change any automatic state → without credits: Evermuse answered 402.

        Return False if a longer ``retryAfter`` is kept.
        """
        return self._block("pause_without_credits", name, until, reason)

    def throttle(self, name: str, until: datetime, reason: str) -> bool:
        """Change any automatic state → throttled: Evermuse answered 429.

        Return False if a longer ``retryAfter`` is kept.
        """
        return self._block("throttle", name, until, reason)

    def back_off_uncounted(self, name: str, until: datetime, reason: str) -> bool:
        """Change any automatic state → backing off, for a fault that is not the API's.

        Return False if a longer ``retryAfter`` is kept.
        """
        return self._block("back_off_uncounted", name, until, reason)

    def back_off(self, name: str, failures: int, until: datetime, reason: str) -> bool:
        """Change any automatic state → backing off, and count one more failure in a row.

        ``failures`` is the count at the time when the request was admitted. Return False if another failure has been
        counted since: the requests failed together. Return False, too, if a longer ``retryAfter`` is kept.
        """
        counted = self._blockable(name, until).filter(failures=failures)
        columns = {"blocked_until": until, "reason": reason, "failures": failures + 1}
        return bool(counted._change_state("back_off", **columns))

    def _block(self, method: str, name: str, until: datetime, reason: str) -> bool:
        self.ensure_row(name)
        blockable = self._blockable(name, until)
        return bool(blockable._change_state(method, blocked_until=until, reason=reason))

    def _blockable(self, name: str, until: datetime) -> WorkspaceQuerySet:
        return self.filter(pk=name).exclude(state=WorkspaceState.THROTTLED, blocked_until__gt=until)

    def resume(self, name: str, now: datetime, *, sent: bool = True) -> int:
        """Change any automatic state → active, unless a ``retryAfter`` is not over.

        ``sent`` means that a batch was sent, which also resets the count of failures. After failed sends, only a
        successful send closes the circuit breaker. Return 1 if the row was changed, else 0.
        """
        blocked = self._blocked(name)
        # A SELECT first: on MariaDB, an UPDATE that changes nothing still waits for the sealing lock.
        return self.resume_blocked(name, now, sent=sent) if blocked.exists() else 0

    def resume_blocked(self, name: str, now: datetime, *, sent: bool) -> int:
        """Change as :meth:`resume` does, if the caller has read that the workspace is blocked."""
        blocked = self._blocked(name)
        resumable = blocked.exclude(state=WorkspaceState.THROTTLED, blocked_until__gt=now)
        if sent:
            return resumable._change_state("resume", blocked_until=None, reason="", failures=0)
        resumable = resumable.exclude(state=WorkspaceState.BACKING_OFF, failures__gt=0)
        return resumable._change_state("resume", blocked_until=None, reason="")

    def _blocked(self, name: str) -> WorkspaceQuerySet:
        return self.filter(pk=name).exclude(state=WorkspaceState.ACTIVE, failures=0)

    def force_resume(self, name: str) -> int:
        """Change any automatic state → active, even if a ``retryAfter`` is not over.

        Call it only for a person who decides it. Return 1 if the row was changed, else 0.
        """
        return self._blocked(name)._change_state("force_resume", blocked_until=None, reason="", failures=0)

    def mark_restored(self, name: str, reason: str) -> bool:
        """Change any other state → restored: nothing is sent until a person decides. Return False if it was already."""
        self.ensure_row(name)
        columns = {"blocked_until": None, "reason": reason, "failures": 0}
        return bool(self.filter(pk=name)._change_state("mark_restored", **columns))

    def end_restored(self, row: OutboxWorkspace, now: datetime) -> bool:
        """Change restored → active, with a new epoch. Return False if the state or the epoch has changed meanwhile.

        The row in memory gets the new epoch, too.
        """
        epoch = uuid.uuid4()
        columns = {"blocked_until": None, "reason": "", "failures": 0, "released_at": now}
        unchanged = self.filter(pk=row.pk, epoch=row.epoch)
        if not unchanged._change_state("end_restored", epoch=epoch, **columns):
            return False
        row.state, row.epoch = WorkspaceState.ACTIVE, epoch
        return True

    def hold(self, name: str, now: datetime, by: str, reason: str) -> bool:
        """Change any automatic state → held: nothing is sent until a person resumes it. Return False otherwise.

        The end of a ``retryAfter`` is kept, because it applies after the hold, too.
        """
        self.ensure_row(name)
        columns = {"reason": reason, "failures": 0, "held_at": now, "held_by": by}
        throttled = self.filter(pk=name, state=WorkspaceState.THROTTLED)
        is_held = throttled._change_state("hold", **columns)
        return bool(is_held or self.filter(pk=name)._change_state("hold", blocked_until=None, **columns))

    def end_hold(self, name: str, now: datetime) -> bool:
        """Change held → active, or → throttled if a ``retryAfter`` is not over. Return False if it is not held."""
        if self.end_hold_throttled(name, now):
            return True
        columns = {"reason": "", "blocked_until": None, "held_at": None, "held_by": ""}
        return bool(self.filter(pk=name)._change_state("end_hold", **columns))

    def end_hold_throttled(self, name: str, now: datetime) -> bool:
        """Change held → throttled, if a ``retryAfter`` from before the hold is not over. Return False otherwise."""
        throttled = self.filter(pk=name, blocked_until__gt=now)
        reason = "Evermuse sent a retryAfter before the workspace was held."
        columns = {"reason": reason, "held_at": None, "held_by": ""}
        return bool(throttled._change_state("end_hold_throttled", **columns))

    def shorten_block(self, name: str, latest: datetime, now: datetime) -> int:
        """End the wait of a workspace that is blocked until after ``latest``: the next process probes. Return 1 or 0.

        The state stays, so the probe decides.
        """
        blocked = self.filter(pk=name, blocked_until__gt=latest)
        return blocked.update(blocked_until=now) if blocked.exists() else 0

    def end_retry_after(self, row: OutboxWorkspace, until: datetime) -> bool:
        """Change throttled → backing off, and claim the probe. Return False if another process was first.

        The state differs from ``throttled``, so that an accepted probe may make the workspace active.
        """
        unclaimed = self.filter(pk=row.pk, blocked_until=row.blocked_until)
        return bool(unclaimed._change_state("end_retry_after", blocked_until=until))

    def claim_probe(self, row: OutboxWorkspace, until: datetime) -> bool:
        """Let the caller probe a blocked workspace (half-open). Return False if another process was first."""
        unclaimed = self.filter(pk=row.pk, state=row.state, blocked_until=row.blocked_until)
        return bool(unclaimed.update(blocked_until=until))

    def end_probe(self, name: str, until: datetime, now: datetime) -> bool:
        """Let the next process probe now. Return False if the probe has changed the state, or its claim is over."""
        return bool(self.filter(pk=name, blocked_until=until).update(blocked_until=now))

    # --- reads of the listing ---------------------------------------------------------------------

    def can_read(self, name: str, now: datetime) -> bool:
        """Return whether the next read of a workspace is due and no process reads at present."""
        return not self.filter(pk=name).exclude(_is_read_due(now)).exists()

    def claim_read(self, name: str, now: datetime, until: datetime) -> bool:
        """Let the caller read, until ``until`` at the latest. Return False if no read is due."""
        return bool(self.filter(_is_read_due(now), pk=name).update(next_read_at=until))

    def end_read(self, name: str, until: datetime, next_read_at: datetime, typical_seconds: float) -> bool:
        """End a claim, and store when the next read is due. Return False if another process took the claim over."""
        claimed = self.filter(pk=name, next_read_at=until)
        return bool(claimed.update(next_read_at=next_read_at, typical_completion_seconds=typical_seconds))


def _begins_with_write_lock(connection: Any) -> bool:
    """Return whether each transaction of an SQLite connection takes the write lock at its beginning."""
    mode = getattr(connection, "transaction_mode", None)
    return mode in ("IMMEDIATE", "EXCLUSIVE") and bool(connection.settings_dict["AUTOCOMMIT"])


def _is_read_due(now: datetime) -> Q:
    is_unset = Q(next_read_at__isnull=True)
    return is_unset | Q(next_read_at__lte=now) | Q(next_read_at__gt=now + MAX_READ_INTERVAL)


def _as_flag(condition: Q) -> Case:
    return Case(When(condition, then=Value(True)), default=Value(False))


class OutboxWorkspace(models.Model):
    """One API key, by its name in the settings. The key itself is never stored."""

    name = models.CharField(_("name"), max_length=64, primary_key=True)
    state = models.CharField(
        _("state"), max_length=12, choices=WorkspaceState.choices, default=WorkspaceState.ACTIVE
    )
    blocked_until = models.DateTimeField(_("blocked until"), null=True, blank=True)
    reason = ForeignTextField(_("reason"), blank=True, default="")
    failures = models.PositiveIntegerField(_("failures in a row"), default=0)
    seal_count = models.PositiveBigIntegerField(
        _("sealing attempts"), default=0, help_text=_("Number of searches for records to seal.")
    )
    # What the epoch store compares; see delivery/context/epochs.py.
    epoch = models.UUIDField(
        _("epoch"),
        default=uuid.uuid4,
        editable=False,
        help_text=_("Changes when a person releases a restored database."),
    )
    batch_count = models.PositiveBigIntegerField(
        _("sealed batches"),
        default=0,
        help_text=_("Number of batches of pending records, counted while sealing."),
    )
    released_at = models.DateTimeField(
        _("released at"),
        null=True,
        blank=True,
        help_text=_(
            "When a person released it after a restore. Batches that Evermuse had by then raise no alarm."
        ),
    )
    held_at = models.DateTimeField(_("held at"), null=True, blank=True)
    held_by = ForeignCharField(_("held by"), max_length=150, blank=True, default="", db_default="")
    # Hints for the next sealing; see delivery/scheduling. Two columns, because the second is large and rarely written.
    run_queue = models.JSONField(
        _("run queue"),
        default=dict,
        blank=True,
        help_text=_("The groups to seal next, and what is known of them."),
    )
    arrival_rates = models.JSONField(
        _("arrival rates"),
        default=list,
        blank=True,
        help_text=_("Records per second of the busiest groups."),
    )
    key_pool = ForeignJSONField(
        _("API keys"),
        null=True,
        blank=True,
        help_text=_("Only with several API keys: which of them are blocked, by fingerprint."),
    )
    next_read_at = models.DateTimeField(_("next read at"), null=True, blank=True)
    typical_completion_seconds = models.FloatField(
        _("typical completion time"),
        default=0,
        help_text=_("Seconds from acceptance to completion of a batch; 0 if unknown."),
    )

    database_seconds: float  # set only on rows from `ensure_row`

    objects = WorkspaceQuerySet.as_manager()

    class Meta:
        verbose_name = _("workspace")
        verbose_name_plural = _("workspaces")
        permissions = [("pause_outboxworkspace", _("Can pause and resume workspaces and groups"))]

    def __str__(self) -> str:
        return self.name

    def remember_arrival_rates(self, arrival_rates: Mapping[tuple[str, str], float]) -> None:
        """Set ``arrival_rates`` to the highest of the given rates; the row is not saved."""
        highest = heapq.nlargest(MAX_ARRIVAL_RATES, arrival_rates.items(), key=lambda item: item[1])
        self.arrival_rates = [[*group, float(f"{rate:.3g}")] for group, rate in highest]


class OutboxOverview(OutboxWorkspace):
    """The entry of the overview page in the admin: no table of its own, but a name and a permission."""

    class Meta:
        proxy = True
        verbose_name = _("overview")
        # The admin sorts the entries of an app by name. The space makes this one the first in every language.
        verbose_name_plural = format_lazy(" {}", _("Overview"))

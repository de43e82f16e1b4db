"""Jobs: one manual operation on many rows, which workers execute in chunks.

The members of a job are collected first, and are fixed from then on. A chunk changes a few of them, and notes its
progress in the row of the job in the same transaction. So a crash loses nothing and repeats nothing.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import connections, models
from django.db.models import F, Q
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ...database_clock import database_now
from ..columns import ForeignCharField, ForeignTextField
from ..indexes import PartialIndex
from ..transitions import StateQuerySet, Transition


class OperationState(models.TextChoices):
    """The states of a job."""

    COLLECTING = "collecting", _("collecting")  # the members are not complete yet
    READY = "ready", _("ready")  # waits for a confirmation
    RUNNING = "running", _("running")
    PAUSED = "paused", _("paused")
    FINISHED = "finished", _("finished")
    CANCELLED = "cancelled", _("cancelled")
    FAILED = "failed", _("failed")  # its kind cannot be executed; see its message


UNCONFIRMED = (OperationState.COLLECTING, OperationState.READY)
"""States in which nothing has been changed yet."""

UNFINISHED = (*UNCONFIRMED, OperationState.RUNNING, OperationState.PAUSED)
"""States from which a job can be cancelled."""

BACKFILL = "backfill"
"""Kind of the jobs that a command executes, and no worker: it waits for live traffic between two chunks."""

TRANSITIONS = {
    "complete_collecting": Transition((OperationState.COLLECTING,), OperationState.READY),
    "confirm": Transition((OperationState.READY,), OperationState.RUNNING),
    "pause": Transition((OperationState.RUNNING,), OperationState.PAUSED),
    "proceed": Transition((OperationState.PAUSED, OperationState.FAILED), OperationState.RUNNING),
    "finish": Transition((OperationState.RUNNING,), OperationState.FINISHED),
    "cancel": Transition(UNFINISHED, OperationState.CANCELLED),
    "fail": Transition((OperationState.RUNNING,), OperationState.FAILED),
}


class OperationQuerySet(StateQuerySet["OutboxOperation"]):
    """Predicates, the lock and the changes of state of jobs."""

    transitions = TRANSITIONS

    def running(self) -> OperationQuerySet:
        """Return the jobs that workers execute, the oldest first."""
        return self.filter(state=OperationState.RUNNING).exclude(kind=BACKFILL).order_by("pk")

    def lock(self, pk: int, *, skip_locked: bool = False) -> OutboxOperation | None:
        """Lock the row of a job until the transaction ends, and return it.

        Return None if there is no such row, or if another process has locked it and ``skip_locked`` is true.
        """
        features, row = connections[self.db].features, self.filter(pk=pk)
        if not features.has_select_for_update:
            row.update(done_to=F("done_to"))  # SQLite has no row locks; a write locks the database
            return row.first()
        skip_locked = skip_locked and features.has_select_for_update_skip_locked
        return row.select_for_update(skip_locked=skip_locked).first()

    def complete_collecting(self, pk: int) -> bool:
        """Change collecting → ready: the members are fixed. Return False if it was cancelled meanwhile."""
        return bool(self.filter(pk=pk)._change_state("complete_collecting"))

    def confirm(self, pk: int, now: datetime, reason: str) -> bool:
        """Change ready → running, and store the reason. Return False if it is not ready."""
        return bool(self.filter(pk=pk)._change_state("confirm", confirmed_at=now, reason=reason))

    def pause(self, pk: int, message: str = "") -> bool:
        """Change running → paused: no further chunk begins. Return False if it is not running."""
        return bool(self.filter(pk=pk)._change_state("pause", message=message))

    def proceed(self, pk: int) -> bool:
        """Change paused, failed → running. Return False if it is in another state."""
        return bool(self.filter(pk=pk)._change_state("proceed", message="", finished_at=None))

    def finish(self, pk: int, now: datetime) -> bool:
        """Change running → finished: no member is left. Return False if it is not running."""
        return bool(self.filter(pk=pk)._change_state("finish", finished_at=now))

    def cancel(self, pk: int, now: datetime, message: str = "") -> bool:
        """Change any unfinished state → cancelled: the members that are left stay as they are. Return False if over."""
        return bool(self.filter(pk=pk)._change_state("cancel", finished_at=now, message=message))

    def fail(self, pk: int, now: datetime, message: str) -> bool:
        """Change running → failed: none of its members can be changed now. Return False if it is not running."""
        return bool(self.filter(pk=pk)._change_state("fail", finished_at=now, message=message))


class OutboxOperation(models.Model):
    """One job: what a person decided for many rows, and how far it is."""

    kind = models.CharField(_("kind"), max_length=16)
    state = models.CharField(
        _("state"), max_length=10, choices=OperationState.choices, default=OperationState.COLLECTING
    )
    by = ForeignCharField(_("by"), max_length=150)
    reason = ForeignTextField(_("reason"), blank=True, default="")
    selection = ForeignTextField(
        _("selection"), blank=True, default="", help_text=_("What was selected, in words.")
    )
    options = models.JSONField(_("options"), blank=True, default=dict)
    workspace = models.CharField(
        _("workspace"), max_length=64, blank=True, default="", help_text=_("Empty if there are several.")
    )
    created_at = models.DateTimeField(_("created at"))
    confirmed_at = models.DateTimeField(_("confirmed at"), null=True, blank=True)
    started_at = models.DateTimeField(_("started at"), null=True, blank=True)
    finished_at = models.DateTimeField(_("finished at"), null=True, blank=True)
    busy_seconds = models.FloatField(
        _("busy seconds"),
        default=0,
        help_text=_("Duration of all chunks. The remaining time follows from it."),
    )
    max_id = models.BigIntegerField(
        _("highest id"), default=0, help_text=_("Rows with a higher id came later and are no members.")
    )
    collected_to = models.BigIntegerField(_("collected up to id"), default=0)
    done_to = models.BigIntegerField(
        _("done up to id"), default=0, help_text=_("Members are changed in the order of their ids.")
    )
    total = models.PositiveBigIntegerField(_("members"), default=0)
    bytes = models.PositiveBigIntegerField(_("bytes"), default=0)
    groups = models.JSONField(
        _("groups"),
        blank=True,
        default=list,
        help_text=_("Records and bytes of each group, to estimate requests."),
    )
    expected = models.JSONField(
        _("expected refusals"), blank=True, default=dict, help_text=_("Reason → number and examples.")
    )
    changed = models.PositiveBigIntegerField(_("changed"), default=0)
    refused = models.PositiveBigIntegerField(_("refused"), default=0)
    failed = models.PositiveBigIntegerField(
        _("failed"), default=0, help_text=_("Members whose change raised an error; they stay as they are.")
    )
    has_members = models.BooleanField(
        _("has members"), default=True, help_text=_("Whether its members are still stored.")
    )
    message = ForeignTextField(_("message"), blank=True, default="")
    action_id = models.BigIntegerField(_("manual action"), null=True, blank=True)

    objects = OperationQuerySet.as_manager()

    class Meta:
        verbose_name = _("job")
        verbose_name_plural = _("jobs")
        ordering = ["-pk"]
        indexes = [models.Index(name="evermuse_operation_state", fields=["state", "id"])]
        constraints = [
            models.CheckConstraint(
                name="evermuse_operation_known_state",
                condition=Q(state__in=[state.value for state in OperationState]),
            ),
        ]

    def __str__(self) -> str:
        return gettext("job #%s") % self.pk

    @property
    def using(self) -> str:
        """The alias of the database that the row was read from."""
        return self._state.db or "default"

    @property
    def done(self) -> int:
        """Number of members that a chunk has handled."""
        return self.changed + self.refused + self.failed

    @property
    def left(self) -> int:
        """Number of members that no chunk has handled yet."""
        return max(self.total - self.done, 0)

    @property
    def percent(self) -> int:
        """Share of the members that a chunk has handled, rounded down."""
        return 100 * self.done // self.total if self.total else 100 * self.is_over

    @property
    def seconds_left(self) -> float | None:
        """Estimated working time that is left; None if nothing is known about the speed."""
        return self.busy_seconds / self.done * self.left if self.done else None

    @property
    def is_over(self) -> bool:
        """Whether no chunk follows."""
        return self.state not in UNFINISHED


class MemberResult(models.TextChoices):
    """Why a member was not changed."""

    REFUSED = "refused", _("refused")
    FAILED = "failed", _("failed")


class MemberQuerySet(models.QuerySet["OutboxOperationMember"]):
    """Look-ups of members. The indexes serve them, whatever the number of members is."""

    def next_of(self, job: OutboxOperation, limit: int) -> list[int]:
        """Return the ids of the rows that the next chunk changes, at most ``limit``."""
        left = self.filter(operation_id=job.pk, target__gt=job.done_to)
        return list(left.order_by("target").values_list("target", flat=True)[:limit])

    def not_changed(self, job: OutboxOperation) -> MemberQuerySet:
        """Return the members that were refused or have failed, in the order of their ids."""
        results = [result.value for result in MemberResult]
        return self.filter(operation_id=job.pk, result__in=results).order_by("result", "target")

    def add(self, job: OutboxOperation, targets: list[int]) -> None:
        """Insert members, each once."""
        self.bulk_create([OutboxOperationMember(operation_id=job.pk, target=pk) for pk in targets])

    def note(self, job: OutboxOperation, result: MemberResult, notes: dict[int, str]) -> None:
        """Store why members were not changed."""
        pks = self.filter(operation_id=job.pk, target__in=list(notes)).values_list("target", "pk")
        rows = [OutboxOperationMember(pk=pk, result=result, note=notes[target]) for target, pk in pks]
        self.bulk_update(rows, ["result", "note"], batch_size=200)


class OutboxOperationMember(models.Model):
    """One row that a job changes.

    Only the members that were *not* changed get a result, so that a job writes no second row for each record. All
    others up to ``OutboxOperation.done_to`` are changed, and those behind it wait.
    """

    operation = models.ForeignKey(
        OutboxOperation,
        on_delete=models.CASCADE,
        db_constraint=False,
        db_index=False,
        related_name="members",
        verbose_name=_("job"),
    )
    target = models.BigIntegerField(_("id"), help_text=_("Id of a record, or of a batch."))
    result = models.CharField(  # noqa: DJ001 -- NULL keeps the changed members out of the index
        _("result"), max_length=7, null=True, blank=True, choices=MemberResult.choices
    )
    note = ForeignTextField(_("reason"), blank=True, default="")

    objects = MemberQuerySet.as_manager()

    class Meta:
        verbose_name = _("member of a job")
        verbose_name_plural = _("members of jobs")
        indexes = [
            PartialIndex(
                name="evermuse_member_result",
                fields=["operation", "result", "target"],
                where=Q(result__isnull=False),
                instead=["operation", "result", "target"],
            ),
        ]
        constraints = [
            models.UniqueConstraint(name="evermuse_member_once", fields=["operation", "target"]),
        ]

    def __str__(self) -> str:
        return f"#{self.target}"

    def outcome(self, job: OutboxOperation) -> Any:
        """Return what has become of the member, in one word."""
        if self.result:
            return self.get_result_display()
        return _("changed") if self.target <= job.done_to else _("waiting")


def start_operation(using: str, **columns: Any) -> OutboxOperation:
    """Insert a job that collects its members."""
    return OutboxOperation.objects.using(using).create(created_at=database_now(using), **columns)

"""Groups in trouble: Evermuse refuses all of their records with the same error, so no single record is at fault.

A group is the records of a workspace with the same ``_type`` and ``_product_id``. A group without trouble has no row.
The first batch that is refused in full creates one, and enough equal refusals in a row pause the group. The first
accepted record deletes the row; after a pause, it is kept as cleared for a while.

``delivery/gates/group_breaker.py`` decides when a group is paused, and explains why.
"""

from __future__ import annotations

import hashlib
from datetime import datetime

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from .columns import ForeignCharField, ForeignTextField
from .transitions import ANY, NO_ROW, StateQuerySet, Transition


class GroupState(models.TextChoices):
    """The circuit breaker of a group: closed while suspected or cleared, open while paused or held by a person."""

    SUSPECTED = "suspected", _("suspected")
    PAUSED = "paused", _("paused")
    CLEARED = "cleared", _("out of trouble")
    HELD = "held", _("held")


AUTOMATIC = (NO_ROW, GroupState.SUSPECTED, GroupState.PAUSED, GroupState.CLEARED)
"""States that an answer of Evermuse may change."""

TRANSITIONS = {
    "suspect": Transition(AUTOMATIC, GroupState.SUSPECTED),
    "pause": Transition((GroupState.SUSPECTED,), GroupState.PAUSED),
    "clear_suspected": Transition((GroupState.SUSPECTED,), NO_ROW),
    "clear_paused": Transition((GroupState.PAUSED,), GroupState.CLEARED),
    "hold": Transition(AUTOMATIC, GroupState.HELD),
    "resume": Transition((ANY,), NO_ROW),
}


def group_key(workspace: str, record_type: str, product_id: str) -> str:
    """Return the primary key of the row of a group."""
    name = "\0".join((workspace, record_type, product_id))
    return hashlib.blake2b(name.encode(), digest_size=16, person=b"evermuse-group").hexdigest()


class GroupQuerySet(StateQuerySet["OutboxGroup"]):
    """Predicates and changes of state of groups in trouble."""

    transitions = TRANSITIONS

    # --- predicates -------------------------------------------------------------------------------

    def for_group(self, workspace: str, record_type: str, product_id: str) -> GroupQuerySet:
        """Return the row of a group; empty if the group is not in trouble."""
        return self.filter(pk=group_key(workspace, record_type, product_id))

    def paused(self, workspace: str) -> GroupQuerySet:
        """Return the paused and held groups of a workspace. Of a paused one, single records are sealed as probes."""
        return self.filter(workspace=workspace, state__in=(GroupState.PAUSED, GroupState.HELD))

    def stops(self, workspace: str, record_type: str, product_id: str, *, contract: str) -> GroupQuerySet:
        """Return the row of a group whose pause or hold applies to records of ``contract``; empty if none does.

        Another CONTRACT ends a pause, but not a hold.
        """
        row = self.for_group(workspace, record_type, product_id)
        return row.filter(Q(state=GroupState.HELD) | Q(state=GroupState.PAUSED, contract=contract))

    def held(self, workspace: str) -> GroupQuerySet:
        """Return the groups of a workspace that a person holds. None of their records are sealed or sent."""
        return self.filter(workspace=workspace, state=GroupState.HELD)

    # --- changes of state -------------------------------------------------------------------------

    def suspect(self, row: OutboxGroup) -> bool:
        """Change (no row), any but held → suspected: count refusals with the error of ``row``, which is not saved yet.

        An existing row is replaced, unless a person holds the group: then return False. Call it with the sealing lock
        of the workspace held.
        """
        return self._put(row, GroupState.SUSPECTED)

    def count_refusal(self, row: OutboxGroup, *, batches: int, records: int) -> bool:
        """Add to the counts of a suspected group, in the database and in ``row``.

        Return False if the group was resumed or cleared meanwhile.
        """
        counts = {"batches": row.batches + batches, "records": row.records + records}
        if not self.filter(pk=row.pk, state=GroupState.SUSPECTED).update(**counts):
            return False
        row.batches, row.records = counts["batches"], counts["records"]
        return True

    def pause(self, row: OutboxGroup, until: datetime, reason: str, advice: str) -> None:
        """Change suspected → paused, until a probe is accepted or an operator resumes the group.

        Raises:
            UnexpectedState: The group is not suspected, although this transaction has counted a refusal.
        """
        self._change_locked("pause", row.pk, blocked_until=until, reason=reason, advice=advice)

    def clear(self, row: OutboxGroup, now: datetime) -> int:
        """End the suspicion or the pause of a group, because a record was accepted. Return how many groups changed."""
        is_suspected = row.state == GroupState.SUSPECTED
        return (is_suspected and self.clear_suspected(row)) or self.clear_paused(row, now)

    def clear_suspected(self, row: OutboxGroup) -> int:
        """Change suspected → (no row). Return how many groups changed."""
        suspected = self.filter(TRANSITIONS["clear_suspected"].source_condition(), pk=row.pk)
        return suspected.delete()[0]

    def clear_paused(self, row: OutboxGroup, now: datetime) -> int:
        """Change paused → cleared. Return how many groups changed."""
        return self.filter(pk=row.pk)._change_state("clear_paused", since=now, blocked_until=None)

    def hold(self, row: OutboxGroup) -> bool:
        """Change (no row), any but held → held: nothing is sent until a person resumes it. Return False if it is held.

        ``row`` is not saved yet, and replaces an existing row. Call it with the sealing lock of the workspace held.
        """
        return self._put(row, GroupState.HELD)

    def _put(self, row: OutboxGroup, state: GroupState) -> bool:
        if self.filter(pk=row.pk, state=GroupState.HELD).exists():
            return False
        row.state = state
        row.save(using=self.db)
        return True

    def resume(self) -> int:
        """Change any → (no row): forget what was counted. Return how many groups were in trouble."""
        return self.delete()[0]

    def claim_probe(self, row: OutboxGroup, until: datetime) -> bool:
        """Let the caller send one record of a paused group. Return False if another process was first."""
        unclaimed = self.filter(pk=row.pk, state=GroupState.PAUSED, blocked_until=row.blocked_until)
        return bool(unclaimed.update(blocked_until=until, probes=F("probes") + 1))

    def delay_probe(self, row: OutboxGroup, until: datetime) -> bool:
        """Delay the next probe of a paused group. Return False if it is no longer paused."""
        return bool(self.filter(pk=row.pk, state=GroupState.PAUSED).update(blocked_until=until))


class OutboxGroup(models.Model):
    """A group in trouble: what was counted of its refusals, and until when it is paused."""

    # A hash of the three names, because a database may ignore case when it compares text. Evermuse does not.
    scope = models.CharField(_("scope"), max_length=32, primary_key=True)
    workspace = models.CharField(_("workspace"), max_length=64)
    type = models.CharField(_("type"), max_length=32)
    product_id = models.CharField(_("product id"), max_length=128)
    state = models.CharField(
        _("state"), max_length=9, choices=GroupState.choices, default=GroupState.SUSPECTED
    )
    since = models.DateTimeField(
        _("since"),
        help_text=_(
            "Time of the first refusal in a row; if cleared, the end of the pause; if held, the begin of the hold."
        ),
    )
    error_signature = ForeignCharField(
        _("error signature"),
        max_length=200,
        help_text=_("The error message without numbers and names; equal for all refusals."),
    )
    contract = models.CharField(
        _("contract"), max_length=16, help_text=_("The contract of the refused batches.")
    )
    batches = models.PositiveIntegerField(
        _("batches"), default=0, help_text=_("Batches in a row that were refused in full.")
    )
    records = models.PositiveIntegerField(
        _("records"),
        default=0,
        help_text=_("Records known to be refused: sent alone, or all of a batch named."),
    )
    probes = models.PositiveIntegerField(_("probes"), default=0)
    blocked_until = models.DateTimeField(_("next probe"), null=True, blank=True)
    reason = ForeignTextField(_("reason"), blank=True, default="")
    advice = ForeignTextField(_("advice"), blank=True, default="")
    held_by = ForeignCharField(_("held by"), max_length=150, blank=True, default="", db_default="")

    objects = GroupQuerySet.as_manager()

    class Meta:
        verbose_name = _("group in trouble")
        verbose_name_plural = _("groups in trouble")
        constraints = [
            models.CheckConstraint(
                name="evermuse_group_paused_until",
                condition=~models.Q(state=GroupState.PAUSED) | models.Q(blocked_until__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.type} · {self.product_id}"

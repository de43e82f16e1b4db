"""Groups in trouble: in which everything is refused alike, so that no single record can be at fault.

A group that fares well has no row here. The first batch that is refused in full makes one, and enough of the same in
a row pauses the group. The first record that Evermuse accepts takes the row away again, or keeps it as cleared for a
while where the group was paused.
"""

from __future__ import annotations

import hashlib
from datetime import datetime

from django.db import models
from django.utils.translation import gettext_lazy as _


class GroupState(models.TextChoices):
    """How much is known against a group."""

    SUSPECTED = "suspected", _("suspected")
    PAUSED = "paused", _("paused")
    CLEARED = "cleared", _("out of trouble")


def scope_of(workspace: str, record_type: str, product_id: str) -> str:
    """The primary key of that group's row."""
    name = "\0".join((workspace, record_type, product_id))
    return hashlib.blake2b(name.encode(), digest_size=16, person=b"evermuse-group").hexdigest()


class GroupQuerySet(models.QuerySet["OutboxGroup"]):
    """Predicates and changes of state of groups in trouble."""

    def named(self, workspace: str, record_type: str, product_id: str) -> GroupQuerySet:
        """The row of that group, if it is in trouble."""
        return self.filter(pk=scope_of(workspace, record_type, product_id))

    def paused(self, workspace: str) -> GroupQuerySet:
        """Groups of the workspace of which nothing is sealed but a record now and then, as a probe."""
        return self.filter(workspace=workspace, state=GroupState.PAUSED)

    def resume(self) -> int:
        """Any → out of trouble: what was counted is forgotten. Returns how many groups were in trouble."""
        return self.delete()[0]

    def clear(self, row: OutboxGroup, now: datetime) -> int:
        """suspected → no row, paused → cleared since now. Returns how many groups were in trouble."""
        if row.state == GroupState.SUSPECTED:
            return self.resume()
        told = {"state": GroupState.CLEARED, "since": now, "blocked_until": None}
        return self.filter(pk=row.pk, state=GroupState.PAUSED).update(**told)

    def pause(self, row: OutboxGroup, until: datetime, reason: str, advice: str) -> None:
        """suspected → paused, until a probe shows that the trouble is over, or a person says so."""
        told = {"state": GroupState.PAUSED, "blocked_until": until, "reason": reason, "advice": advice}
        self.filter(pk=row.pk).update(**told)

    def delay_probe(self, row: OutboxGroup, until: datetime) -> bool:
        """Delay the next probe of a paused group. Return False if it is no longer paused."""
        return bool(self.filter(pk=row.pk, state=GroupState.PAUSED).update(blocked_until=until))

    def claim_probe(self, row: OutboxGroup, until: datetime) -> bool:
        """Makes this caller the one who tries a record. False when another was first."""
        mine = self.filter(pk=row.pk, state=GroupState.PAUSED, blocked_until=row.blocked_until)
        return bool(mine.update(blocked_until=until, probes=models.F("probes") + 1))


class OutboxGroup(models.Model):
    """One ``_type`` and ``_product_id`` of a workspace in which nothing was accepted of late."""

    # A database may compare text without regard to case; Evermuse does not.
    scope = models.CharField(_("scope"), max_length=32, primary_key=True)
    workspace = models.CharField(_("workspace"), max_length=64)
    type = models.CharField(_("type"), max_length=32)
    product_id = models.CharField(_("product id"), max_length=128)
    state = models.CharField(
        _("state"), max_length=9, choices=GroupState.choices, default=GroupState.SUSPECTED
    )
    since = models.DateTimeField(
        _("since"), help_text=_("The first refusal of this row of refusals, or its end.")
    )
    error_signature = models.CharField(
        _("error_signature"),
        max_length=200,
        help_text=_("What was said, without numbers and names: alike in all."),
    )
    contract = models.CharField(_("contract"), max_length=16, help_text=_("The contract it was sent under."))
    batches = models.PositiveIntegerField(
        _("batches"), default=0, help_text=_("Refused in full, one after the other.")
    )
    records = models.PositiveIntegerField(
        _("records"), default=0, help_text=_("Refused for certain: alone, or all of a batch by name.")
    )
    probes = models.PositiveIntegerField(_("probes"), default=0)
    blocked_until = models.DateTimeField(_("next probe"), null=True, blank=True)
    reason = models.TextField(_("reason"), blank=True, default="")
    advice = models.TextField(_("advice"), blank=True, default="")

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

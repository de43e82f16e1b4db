"""Standing rules: a person holds back or discards records before they are sent, also those of the future.

A rule has conditions, and a record matches it if it meets all of them. ``delivery/rules`` compares them.
"""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from ..columns import ForeignCharField, ForeignTextField
from ..transitions import NO_ROW, StateQuerySet, Transition


class RuleAction(models.TextChoices):
    """What happens to a record that matches."""

    HOLD = "hold", _("hold back")
    DISCARD = "discard", _("discard")


class RuleState(models.TextChoices):
    """The states of a rule. It applies to records only while it is active."""

    ACTIVE = "active", _("active")
    ENDING = "ending", _("ending")
    ENDED = "ended", _("ended")


TRANSITIONS = {
    "make": Transition((NO_ROW,), RuleState.ACTIVE),
    "end": Transition((RuleState.ACTIVE,), RuleState.ENDING),
    "finish": Transition((RuleState.ENDING,), RuleState.ENDED),
}


class RuleQuerySet(StateQuerySet["OutboxRule"]):
    """Predicates and changes of state of standing rules."""

    transitions = TRANSITIONS

    # --- predicates -------------------------------------------------------------------------------

    def active(self) -> RuleQuerySet:
        """Return the rules that were not ended. The time of a rule with ``until`` may be over."""
        return self.filter(state=RuleState.ACTIVE)

    def applies_to(self, workspace: str) -> RuleQuerySet:
        """Return the rules for the records of a workspace: its own, and those for every workspace."""
        return self.filter(workspace__in=("", workspace))

    def unapplied(self) -> RuleQuerySet:
        """Return the active rules that batches of before may still evade; see ``applied_at``."""
        return self.active().filter(applied_at__isnull=True)

    def over(self, now: datetime) -> RuleQuerySet:
        """Return the active rules whose time is over."""
        return self.active().filter(until__lte=now)

    # --- changes of state -------------------------------------------------------------------------

    def make(self, rule: OutboxRule) -> None:
        """Change (no row) → active: insert the rule, which applies from the commit on."""
        rule.state = RuleState.ACTIVE
        rule.save(using=self.db, force_insert=True)

    def end(self, now: datetime, by: str = "", reason: str = "") -> int:
        """Change active → ending: no further record is held or discarded. Return how many rules changed."""
        return self._change_state("end", ended_at=now, ended_by=by, end_reason=reason)

    def finish(self) -> int:
        """Change ending → ended, because no record is held by the rule any more. Return how many rules changed."""
        return self._change_state("finish")

    def note_applied(self, now: datetime) -> int:
        """Note that no batch which was sealed before these rules waits with a matching record. Return how many."""
        return self.unapplied().update(applied_at=now)

    def count_matches(self, pk: int, *, held: int = 0, discarded: int = 0) -> None:
        """Add to the numbers of records that a rule has held and discarded."""
        self.filter(pk=pk).update(held=F("held") + held, discarded=F("discarded") + discarded)


class OutboxRule(models.Model):
    """A standing rule: its conditions, what happens to matching records, until when, the person and the reason.

    An empty condition is met by every record. The conditions compare exactly, as Evermuse does.
    """

    workspace = models.CharField(
        _("workspace"), max_length=64, blank=True, default="", help_text=_("Empty for every workspace.")
    )
    type = models.CharField(_("type"), max_length=32, blank=True, default="")
    product_id = models.CharField(_("product id"), max_length=128, blank=True, default="")
    label_name = models.CharField(_("label"), max_length=64, blank=True, default="")
    label_value = models.CharField(_("value of the label"), max_length=256, blank=True, default="")
    vendor_id = models.CharField(
        _("vendor id"),
        max_length=400,
        blank=True,
        default="",
        help_text=_("Pattern of an entry of _vendor_ids: VALUE or NAME=VALUE, each with * and ?."),
    )
    action = models.CharField(_("action"), max_length=8, choices=RuleAction.choices)
    state = models.CharField(
        _("state"), max_length=8, choices=RuleState.choices, default=RuleState.ACTIVE, db_index=True
    )
    until = models.DateTimeField(
        _("until"), null=True, blank=True, help_text=_("Empty: until a person ends the rule.")
    )
    reason = ForeignTextField(_("reason"))
    by = ForeignCharField(_("by"), max_length=150)
    created_at = models.DateTimeField(_("since"))
    applied_at = models.DateTimeField(
        _("applied at"),
        null=True,
        blank=True,
        help_text=_("Since then, no batch that was sealed before the rule waits with a matching record."),
    )
    ended_at = models.DateTimeField(_("ended at"), null=True, blank=True)
    ended_by = ForeignCharField(
        _("ended by"), max_length=150, blank=True, default="", help_text=_("Empty if its time was over.")
    )
    end_reason = ForeignTextField(_("reason of the end"), blank=True, default="")
    held = models.PositiveBigIntegerField(_("held"), default=0)
    discarded = models.PositiveBigIntegerField(_("discarded"), default=0)

    objects = RuleQuerySet.as_manager()

    class Meta:
        verbose_name = _("standing rule")
        verbose_name_plural = _("standing rules")
        permissions = [("manage_outboxrule", _("Can make and end standing rules"))]
        constraints = [
            models.CheckConstraint(
                name="evermuse_rule_ended_at",
                condition=Q(state=RuleState.ACTIVE, ended_at__isnull=True)
                | Q(~Q(state=RuleState.ACTIVE), ended_at__isnull=False),
            ),
            models.CheckConstraint(
                name="evermuse_rule_label",
                condition=Q(label_name="", label_value="") | Q(~Q(label_name="")),
            ),
        ]

    def __str__(self) -> str:
        return f"rule #{self.pk}"

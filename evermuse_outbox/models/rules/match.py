"""Which rule has discarded a record. Which one holds it, its deferral says."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from django.db import connections, models
from django.utils.translation import gettext_lazy as _

from .rule import OutboxRule

ROWS_PER_STATEMENT = 500
"""Maximum number of rows in one statement. Old versions of SQLite allow 999 parameters."""


class RuleMatchQuerySet(models.QuerySet["OutboxRuleMatch"]):
    """Predicates and writes of matches."""

    def of_rule(self, rule: int) -> RuleMatchQuerySet:
        """Return the records that a rule has discarded, the oldest first."""
        return self.filter(rule=rule).order_by("rule", "pk")

    def note(self, rule: int, records: Iterable[int]) -> None:
        """Note that a rule has discarded these records. An earlier note is replaced."""
        rows = [OutboxRuleMatch(pk=pk, rule_id=rule) for pk in records]
        self.bulk_create(
            rows,
            batch_size=ROWS_PER_STATEMENT,
            update_conflicts=True,
            update_fields=["rule"],
            unique_fields=_unique_fields(self.db),
        )

    def forget(self, records: Collection[int]) -> None:
        """Delete the notes about these records."""
        if records:
            self.filter(pk__in=records)._raw_delete(self.db)


class OutboxRuleMatch(models.Model):
    """A record that a rule has discarded."""

    # No foreign keys in the database: the table is written a thousand rows at a time, under the sealing lock.
    record_id = models.BigIntegerField(_("record"), primary_key=True)
    rule = models.ForeignKey(
        OutboxRule,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="matches",
        verbose_name=_("rule"),
    )

    objects = RuleMatchQuerySet.as_manager()

    class Meta:
        verbose_name = _("record of a rule")
        verbose_name_plural = _("records of rules")
        indexes = [models.Index(name="evermuse_rule_match_rule", fields=["rule", "record_id"])]

    def __str__(self) -> str:
        return f"record #{self.pk}, rule #{self.rule_id}"


def _unique_fields(using: str) -> list[str]:
    """Return the columns of the conflict; MySQL and MariaDB do not take any."""
    is_named = connections[using].features.supports_update_conflicts_with_target
    return ["record_id"] if is_named else []

"""The rows of the search index, and how far it is filled."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class OutboxTerm(models.Model):
    """A record contains a term: a vendor id, a thread id, or the id or e-mail address of a participant.

    Only a hash of the term is stored. There is no foreign key, because rows are inserted and deleted in bulk.
    """

    pk = models.CompositePrimaryKey("term", "record_id")
    term = models.BigIntegerField(_("term"), help_text=_("64 bits of a hash of the term."))
    record_id = models.BigIntegerField(_("record"))

    class Meta:
        verbose_name = _("search term")
        verbose_name_plural = _("search terms")
        indexes = [models.Index(name="evermuse_term_record", fields=["record_id"])]

    def __str__(self) -> str:
        return f"{self.term} in record #{self.record_id}"


class ProgressQuerySet(models.QuerySet["OutboxSearchProgress"]):
    """The writes of the resume points."""

    def advance(self, before: OutboxSearchProgress, *, indexed_to: int, verified_to: int) -> bool:
        """Move the resume points. Return False if another process has moved them since ``before`` was read."""
        unchanged = self.filter(pk=before.pk, indexed_to=before.indexed_to, verified_to=before.verified_to)
        return bool(unchanged.update(indexed_to=indexed_to, verified_to=verified_to))


class OutboxSearchProgress(models.Model):
    """How far the search index is filled. There is one row in each database."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    indexed_to = models.BigIntegerField(
        _("indexed up to"),
        default=0,
        help_text=_("Records up to this id are in the search index, except those that were committed late."),
    )
    verified_to = models.BigIntegerField(
        _("verified up to"),
        default=0,
        help_text=_("Up to this id, records that were committed late are in the search index, too."),
    )

    objects = ProgressQuerySet.as_manager()

    class Meta:
        verbose_name = _("progress of the search index")
        verbose_name_plural = _("progress of the search index")

    def __str__(self) -> str:
        return f"record #{self.indexed_to}"

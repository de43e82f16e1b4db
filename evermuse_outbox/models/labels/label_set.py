"""Label sets: the labels that many records share are stored once."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from django.db import models, transaction
from django.utils.translation import gettext_lazy as _

from .run import OutboxRun


class LabelSetQuerySet(models.QuerySet["OutboxLabelSet"]):
    """The predicates on label sets, and their INSERT."""

    def in_use(self, digest: uuid.UUID) -> LabelSetQuerySet:
        """Return the sets with this digest that new records may name, the oldest first."""
        return self.filter(digest=digest, retired_at__isnull=True).order_by("pk")

    def with_label(self, name: str, value: str) -> LabelSetQuerySet:
        """Return the sets that have this label."""
        labels = OutboxLabel.objects.using(self.db).filter(name=name, value=value)
        return self.filter(pk__in=labels.values("label_set_id"))

    def labels_of(self, pk: int) -> dict[str, str]:
        """Return the labels of a set: name → value."""
        rows = OutboxLabel.objects.using(self.db).filter(label_set_id=pk).order_by("name")
        return dict(rows.values_list("name", "value"))

    def add(self, digest: uuid.UUID, labels: Mapping[str, str], run_id: int | None) -> int:
        """Insert a set with its labels; return its id."""
        with transaction.atomic(using=self.db, savepoint=False):
            pk = int(self.create(digest=digest, run_id=run_id).pk)
            OutboxLabel.objects.using(self.db).bulk_create(
                [OutboxLabel(label_set_id=pk, name=name, value=value) for name, value in labels.items()]
            )
        return pk


class OutboxLabelSet(models.Model):
    """The labels of a record, and its run. All records with the same labels name one set, or a few.

    The digest is not unique. Two transactions may insert a set with the same labels at once, and then both sets stay.
    A unique index would let one transaction wait for the end of the other, which may be a long transaction of the host.
    """

    digest = models.UUIDField(_("digest"), editable=False, help_text=_("Hash of the run and the labels."))
    # No foreign key in the database: its check would lock the row of the run, which workers write.
    run = models.ForeignKey(
        OutboxRun,
        on_delete=models.DO_NOTHING,
        null=True,
        blank=True,
        db_constraint=False,
        related_name="label_sets",
        verbose_name=_("run"),
    )
    retired_at = models.DateTimeField(
        _("retired at"), null=True, blank=True, help_text=_("New records do not name a retired set.")
    )

    objects = LabelSetQuerySet.as_manager()

    class Meta:
        verbose_name = _("label set")
        verbose_name_plural = _("label sets")
        indexes = [models.Index(name="evermuse_label_set_digest", fields=["digest"])]

    def __str__(self) -> str:
        return f"label set #{self.pk}"


class OutboxLabel(models.Model):
    """One label of a label set: a name and a value of the host, which do not go to Evermuse."""

    label_set = models.ForeignKey(
        OutboxLabelSet,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        related_name="labels",
        verbose_name=_("label set"),
    )
    name = models.CharField(_("name"), max_length=64)
    value = models.CharField(_("value"), max_length=256)

    class Meta:
        verbose_name = _("label")
        verbose_name_plural = _("labels")
        indexes = [models.Index(name="evermuse_label_value", fields=["name", "value"])]

    def __str__(self) -> str:
        return f"{self.name}={self.value}"

"""Rejections: why a record was rejected."""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.utils.translation import gettext_lazy as _

from .batch import OutboxBatch
from .columns import ForeignCharField, ForeignTextField


class OutboxRejection(models.Model):
    """Why a record was rejected: by Evermuse in an answer, or by the outbox because it cannot be sent."""

    record = models.ForeignKey(
        "evermuse_outbox.OutboxRecord",
        on_delete=models.CASCADE,
        db_constraint=False,
        related_name="rejections",
        verbose_name=_("record"),
    )
    batch = models.ForeignKey(
        OutboxBatch,
        on_delete=models.SET_NULL,
        null=True,
        db_constraint=False,
        related_name="rejections",
        verbose_name=_("batch"),
    )
    position = models.PositiveSmallIntegerField(
        _("position"), null=True, help_text=_("Position in the batch; the first is 0.")
    )
    code = ForeignCharField(_("code"), max_length=64)
    message = ForeignTextField(_("message"))
    rejected_at = models.DateTimeField(_("rejected at"))

    class Meta:
        verbose_name = _("rejection")
        verbose_name_plural = _("rejections")

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"

    @classmethod
    def local(cls, record_id: int, code: str, message: str, at: datetime) -> OutboxRejection:
        """Return a rejection that the outbox decides without a request; it is not saved yet."""
        return cls(record_id=record_id, code=code, message=message, rejected_at=at)

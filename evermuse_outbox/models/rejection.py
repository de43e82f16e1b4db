"""Rejections: why a record was rejected."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.utils.translation import gettext_lazy as _

from .batch import OutboxBatch
from .columns import ForeignCharField, ForeignTextField

MAX_SIGNATURE = 200
"""Characters of an error signature."""


def signature_of(message: str) -> str:
    """Return the part of a message that is the same for all records with this error. It is never empty."""
    # Late, because a host that only enqueues must not load the HTTP client.
    from ..evermuse.api import make_error_signature

    return make_error_signature(message)[:MAX_SIGNATURE] or "-"


class SignatureField(ForeignCharField):
    """The part of the message that is the same for all records with this error. Each INSERT fills it."""

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        """Return the signature of the row's message."""
        signature = signature_of(getattr(model_instance, "message", ""))
        setattr(model_instance, self.attname, signature)
        return signature

    def deconstruct(self) -> tuple[str, str, Any, Any]:
        """Return Django's field for migrations."""
        name, _, arguments, options = super().deconstruct()
        return name, "django.db.models.CharField", arguments, options


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
    signature = SignatureField(
        _("error signature"),
        max_length=MAX_SIGNATURE,
        blank=True,
        default="",
        db_default="",
        help_text=_(
            "The message without its numbers, ids and quoted words; empty until workers have filled it."
        ),
    )
    rejected_at = models.DateTimeField(_("rejected at"))

    class Meta:
        verbose_name = _("rejection")
        verbose_name_plural = _("rejections")
        indexes = [
            models.Index(name="evermuse_rejection_signature", fields=["signature", "record"]),
            models.Index(name="evermuse_rejection_code", fields=["code", "record"]),
        ]

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"

    @classmethod
    def local(cls, record_id: int, code: str, message: str, at: datetime) -> OutboxRejection:
        """Return a rejection that the outbox decides without a request; it is not saved yet."""
        return cls(record_id=record_id, code=code, message=message, rejected_at=at)


def is_last_rejection() -> Q:
    """Return the condition that a rejection is the last one of its record. A retry can lead to another one."""
    later = OutboxRejection.objects.filter(record=OuterRef("record"), pk__gt=OuterRef("pk"))
    return ~Q(Exists(later.order_by()))

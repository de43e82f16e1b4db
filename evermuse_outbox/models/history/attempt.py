"""The log of attempts: one row for each HTTP call.

Two more rows stand for no call: the result of a reconciliation or the decision to do without it, and an attempt of a
worker that died.
"""

from __future__ import annotations

from django.db import models
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from ..columns import ForeignTextField

OUTCOME_LABELS: dict[str, str | Promise] = {
    "accepted": _("accepted"),
    "read": _("read"),
    "refused": _("refused"),
    "too_large": _("too large"),
    "key_refused": _("key refused"),
    "no_credits": _("no credits"),
    "throttled": _("throttled"),
    "in_doubt": _("in doubt"),
    "unavailable": _("unavailable"),
    "lost": _("lost"),
    "skipped": _("skipped"),
}
"""The name of each outcome of an attempt."""


class OutboxAttempt(models.Model):
    """One HTTP call: its time, duration, status and answer. It never contains the API key.

    A listing call covers many batches, so its row has no batch. The row with the result of a reconciliation has one.
    """

    class Call(models.TextChoices):
        """The kinds of calls."""

        INGEST = "ingest", _("send")
        STATUS = "status", _("status")
        LISTING = "listing", _("listing")

    batch = models.ForeignKey(
        "evermuse_outbox.OutboxBatch",
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        db_constraint=False,
        related_name="attempts",
        verbose_name=_("batch"),
    )
    workspace = models.CharField(_("workspace"), max_length=64)
    api_key = models.CharField(  # noqa: DJ001 - workers of earlier versions insert attempts without it
        _("API key"), max_length=24, null=True, help_text=_("Fingerprint of the key that it was made with.")
    )
    call = models.CharField(_("call"), max_length=8, choices=Call.choices)
    started_at = models.DateTimeField(_("started at"), db_index=True)
    seconds = models.FloatField(
        _("seconds"), null=True, help_text=_("From the first byte sent to the last byte received.")
    )
    status = models.PositiveSmallIntegerField(_("HTTP status"), null=True)
    outcome = models.CharField(_("outcome"), max_length=16)
    detail = ForeignTextField(_("answer"), blank=True, default="")

    class Meta:
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.get_call_display()} → {self.outcome_label}"

    @property
    def outcome_label(self) -> str:
        """The outcome in the language of the person."""
        return str(OUTCOME_LABELS.get(self.outcome, self.outcome))

"""Batches: sealed once, then sent until Evermuse has said what became of them.

::

    sealed ──lease──▶ sending ──202──▶ accepted ──COMPLETE──▶ complete, split
      ▲                 │  │                 └─FAILED, 404───▶ failed
      └── not taken ────┘  ├── 400, 413 ─────▶ refused, split, or dividing ──▶ split
                           ├── unclear ──────▶ in_doubt ──lease──▶ sending
                           └── cannot be sent ▶ failed
    sealed ──its group is paused──▶ withdrawn

Every change after a lease is fenced by state and lease token: its row count tells whether the lease
was still held.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from ..evermuse import limits
from .indexes import PartialIndex


class BatchState(models.TextChoices):
    """Our state of a batch; Evermuse's own word stands in ``remote_status``."""

    SEALED = "sealed", _("sealed")
    SENDING = "sending", _("sending")
    IN_DOUBT = "in_doubt", _("in doubt")
    ACCEPTED = "accepted", _("accepted")
    COMPLETE = "complete", _("complete")
    REFUSED = "refused", _("refused")
    SPLIT = "split", _("split")
    ISOLATING = "isolating", _("isolating")
    FAILED = "failed", _("failed")
    WITHDRAWN = "withdrawn", _("withdrawn")


SENDABLE = (BatchState.SEALED, BatchState.IN_DOUBT)
OPEN = (*SENDABLE, BatchState.SENDING, BatchState.ACCEPTED, BatchState.ISOLATING)
REMOTE = (BatchState.ACCEPTED, BatchState.COMPLETE)


class BatchQuerySet(models.QuerySet["OutboxBatch"]):
    """Predicates and changes of state of batches."""

    def open(self) -> BatchQuerySet:
        """Not at their end: their records are in flight."""
        return self.filter(state__in=OPEN)

    def sendable(self, workspace: str) -> BatchQuerySet:
        """Waiting to be sent, now or later."""
        return self.filter(state__in=SENDABLE, workspace=workspace)

    def due(self, workspace: str, now: datetime) -> BatchQuerySet:
        """Waiting to be sent now, the longest waiting first."""
        return self.sendable(workspace).filter(due_at__lte=now).order_by("due_at", "pk")

    def followed(self, workspace: str) -> BatchQuerySet:
        """Evermuse has them, and may have more to say."""
        return self.filter(workspace=workspace, next_poll_at__isnull=False)

    def poll_due(self, workspace: str, now: datetime) -> BatchQuerySet:
        """To be asked about now, the longest waiting first."""
        return self.followed(workspace).filter(next_poll_at__lte=now).order_by("next_poll_at", "pk")

    def in_stretch(self, workspace: str, cursor: str | None) -> BatchQuerySet:
        """Followed, and found on the page of the listing behind ``cursor``."""
        stretch = self.followed(workspace)
        if cursor is None:
            return stretch.filter(listing_cursor__isnull=True)
        return stretch.filter(listing_cursor=cursor)

    def expired(self, now: datetime) -> BatchQuerySet:
        """Leased to a worker that has not come back in time."""
        return self.filter(state=BatchState.SENDING, leased_until__lt=now)

    def leased(self, batch: OutboxBatch) -> BatchQuerySet:
        """``batch``, as long as the lease that it was taken with still holds."""
        return self.filter(pk=batch.pk, state=BatchState.SENDING, lease_token=batch.lease_token)

    # --- changes of state -------------------------------------------------------------------------

    def lease(self, batch: OutboxBatch, until: datetime) -> bool:
        """sealed or in doubt → sending. False when another worker was first."""
        token = uuid.uuid4()
        taken = self.filter(pk=batch.pk, state__in=SENDABLE, due_at=batch.due_at).update(
            state=BatchState.SENDING, lease_token=token, leased_until=until
        )
        if taken:
            batch.state, batch.lease_token, batch.leased_until = BatchState.SENDING, token, until
        return bool(taken)

    def withdraw(self, batch: OutboxBatch, now: datetime, message: str) -> bool:
        """sealed or dividing → withdrawn: it will not be sent. False when it is neither any more."""
        mine = self.filter(pk=batch.pk, state__in=(BatchState.SEALED, BatchState.ISOLATING))
        ended = {"state": BatchState.WITHDRAWN, "finished_at": now, "message": message, "isolation": None}
        return bool(mine.update(**ended))

    def isolate(self, batch: OutboxBatch, isolation: dict[str, Any]) -> bool:
        """Change refused, split or isolating → isolating: its records are tried part by part."""
        states = (BatchState.REFUSED, BatchState.SPLIT, BatchState.ISOLATING)
        fields = {"state": BatchState.ISOLATING, "isolation": isolation, "finished_at": None}
        return bool(self.filter(pk=batch.pk, state__in=states).update(**fields))

    def split(self, batch: OutboxBatch, now: datetime) -> bool:
        """Change refused or isolating → split: its records went on in other batches."""
        states = (BatchState.REFUSED, BatchState.SPLIT, BatchState.ISOLATING)
        fields = {"state": BatchState.SPLIT, "isolation": None, "finished_at": now}
        return bool(self.filter(pk=batch.pk, state__in=states).update(**fields))

    def renew(self, batch: OutboxBatch, until: datetime) -> bool:
        """The lease goes on until then. False when it was lost."""
        return bool(self.leased(batch).update(leased_until=until))

    def tell(self, ids: list[int], before: BatchState, **changes: Any) -> int:
        """What Evermuse says of several batches alike, as far as they still are in the state ``before``."""
        mine = self.filter(pk__in=ids, state=before, next_poll_at__isnull=False)
        return mine.update(polls=models.F("polls") + 1, **changes)

    def ask_later(self, ids: list[int], now: datetime, later: datetime, **changes: Any) -> int:
        """Nothing was learned of these batches: the next look is then, for those that nobody has moved since."""
        still_due = self.filter(pk__in=ids, next_poll_at__lte=now)
        return still_due.update(next_poll_at=later, polls=models.F("polls") + 1, **changes)

    def place(self, ids: list[int], cursor: str | None) -> int:
        """Followed batches that the listing shows behind ``cursor``, or not at all: None."""
        return self.filter(pk__in=ids, next_poll_at__isnull=False).update(listing_cursor=cursor)

    def settle(self, batch: OutboxBatch, state: BatchState, **changes: Any) -> bool:
        """sending → ``state``, giving the lease back. False when the lease was lost: nothing is changed."""
        written = dict(changes, state=state, lease_token=None, leased_until=None)
        if not self.leased(batch).update(**written):
            return False
        for name, value in written.items():
            setattr(batch, name, value)
        return True


class OutboxBatch(models.Model):
    """The records of one request: members, order, exact bytes and key, committed before the first POST.

    Members are the records that point here, in the order of their ids; the bytes are their lines
    joined in that order in ``body_format``, and ``sha256`` proves it at every resend.
    """

    workspace = models.CharField(_("workspace"), max_length=64)
    type = models.CharField(_("type"), max_length=32)
    product_id = models.CharField(_("product id"), max_length=128)
    contract = models.CharField(_("contract"), max_length=16)
    body_format = models.CharField(_("body format"), max_length=8)
    format_hint = models.CharField(_("format hint"), max_length=8, blank=True, default="")
    key = models.CharField(_("idempotency key"), max_length=64, unique=True)
    sha256 = models.CharField(_("SHA-256"), max_length=64, help_text=_("Of the request body."))
    record_count = models.PositiveIntegerField(_("records"))
    byte_count = models.PositiveIntegerField(_("bytes"))
    attachment_count = models.PositiveIntegerField(_("attachments"), default=0)
    parent = models.ForeignKey(
        "self",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        db_constraint=False,
        related_name="parts",
        verbose_name=_("comes from"),
    )
    resends = models.PositiveSmallIntegerField(
        _("resends"), default=0, help_text=_("Sent again under a new key after Evermuse said FAILED.")
    )

    state = models.CharField(_("state"), max_length=9, choices=BatchState.choices, default=BatchState.SEALED)
    in_doubt = models.BooleanField(
        _("in doubt"),
        default=False,
        help_text=_("An attempt ended without telling whether Evermuse took it."),
    )
    isolation = models.JSONField(
        _("isolation"),
        null=True,
        blank=True,
        help_text=_("What is known of its bad records while it is divided."),
    )
    failures = models.PositiveIntegerField(_("failures in a row"), default=0)
    message = models.TextField(_("message"), blank=True, default="")
    sealed_at = models.DateTimeField(_("sealed at"))
    due_at = models.DateTimeField(_("due at"))
    lease_token = models.UUIDField(_("lease"), null=True, blank=True)
    leased_until = models.DateTimeField(_("leased until"), null=True, blank=True)
    accepted_at = models.DateTimeField(_("accepted at"), null=True, blank=True)
    finished_at = models.DateTimeField(_("finished at"), null=True, blank=True)

    remote_id = models.CharField(
        _("batch id at Evermuse"), max_length=128, blank=True, default="", db_index=True
    )
    remote_status = models.CharField(_("status at Evermuse"), max_length=32, blank=True, default="")
    accepted_count = models.PositiveIntegerField(_("accepted"), null=True, blank=True)
    rejected_count = models.PositiveIntegerField(_("rejected"), null=True, blank=True)
    total_error_count = models.PositiveIntegerField(_("errors in all"), null=True, blank=True)
    errors = models.JSONField(_("errors"), default=list, blank=True)
    attachment_status = models.CharField(_("attachment status"), max_length=32, blank=True, default="")
    attachment_total = models.PositiveIntegerField(_("attachments to fetch"), null=True, blank=True)
    attachment_complete = models.PositiveIntegerField(_("attachments fetched"), null=True, blank=True)
    attachment_failed = models.PositiveIntegerField(_("attachments failed"), null=True, blank=True)
    polls = models.PositiveIntegerField(_("polls"), default=0)
    next_poll_at = models.DateTimeField(_("next poll at"), null=True, blank=True)
    listing_cursor = models.CharField(  # noqa: DJ001 - empty is the newest page, null is no page
        _("place in the listing"),
        max_length=limits.MAX_CURSOR,
        null=True,
        blank=True,
        default="",
        help_text=_("The cursor of its page; empty for the newest page, none where it was not shown."),
    )

    objects = BatchQuerySet.as_manager()

    class Meta:
        verbose_name = _("batch")
        verbose_name_plural = _("batches")
        indexes = [
            PartialIndex(
                name="evermuse_batch_due",
                fields=["workspace", "due_at", "id"],
                where=Q(state__in=[state.value for state in SENDABLE]),
                instead=["state", "workspace", "due_at", "id"],
            ),
            PartialIndex(
                name="evermuse_batch_poll",
                fields=["workspace", "next_poll_at", "id"],
                where=Q(next_poll_at__isnull=False),
                instead=["workspace", "next_poll_at", "id"],
            ),
            PartialIndex(
                name="evermuse_batch_lease",
                fields=["leased_until"],
                where=Q(state=BatchState.SENDING),
                instead=["leased_until"],
            ),
            PartialIndex(
                name="evermuse_batch_over",
                fields=["finished_at", "id"],
                where=Q(finished_at__isnull=False, next_poll_at__isnull=True),
                instead=["next_poll_at", "finished_at", "id"],
            ),
            models.Index(name="evermuse_batch_state", fields=["state", "id"]),
        ]
        constraints = [
            models.CheckConstraint(
                name="evermuse_batch_known_state",
                condition=Q(state__in=[state.value for state in BatchState]),
            ),
            models.CheckConstraint(
                name="evermuse_batch_leased",
                condition=Q(state=BatchState.SENDING, lease_token__isnull=False, leased_until__isnull=False)
                | (~Q(state=BatchState.SENDING) & Q(lease_token__isnull=True, leased_until__isnull=True)),
            ),
            models.CheckConstraint(
                name="evermuse_batch_remote",
                condition=~Q(state__in=[state.value for state in REMOTE]) | ~Q(remote_id=""),
            ),
        ]

    def __str__(self) -> str:
        return f"batch #{self.pk}"

    @property
    def age_at(self) -> timedelta | None:
        """From sealing to the end; None while it is open."""
        return self.finished_at - self.sealed_at if self.finished_at else None

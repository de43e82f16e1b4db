"""Batches: sealed once, then sent until Evermuse has reported their result.

Every change of state is a method of :class:`BatchQuerySet`, fenced by the state that it starts from. During a lease, it
is fenced by the lease token, too: a worker that has lost its lease changes nothing. ``TRANSITIONS`` lists the changes;
``docs/reference/states.md`` explains them.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from django.db import models
from django.db.models import Exists, F, OuterRef, Q
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..evermuse import limits
from .batch_states import OPEN, REMOTE, SENDABLE, TRANSITIONS, BatchState
from .columns import ForeignCharField, ForeignJSONField, ForeignTextField
from .group import GroupState, OutboxGroup
from .indexes import PartialIndex
from .settled import notify_batch, notify_completed
from .transitions import StateQuerySet


class BatchQuerySet(StateQuerySet["OutboxBatch"]):
    """Predicates and changes of state of batches."""

    transitions = TRANSITIONS

    # --- predicates -------------------------------------------------------------------------------

    def open(self) -> BatchQuerySet:
        """Return the batches that are not finished; their records are in flight."""
        return self.filter(state__in=OPEN)

    def sendable(self, workspace: str | OuterRef) -> BatchQuerySet:
        """Return the batches that wait to be sent, now or later."""
        return self.filter(state__in=SENDABLE, workspace=workspace)

    def due(self, workspace: str | OuterRef, now: datetime) -> BatchQuerySet:
        """Return the batches that are to be sent now, the longest waiting first."""
        return self.sendable(workspace).not_held().filter(due_at__lte=now).order_by("due_at", "pk")

    def not_held(self) -> BatchQuerySet:
        """Return the batches of groups that no person holds."""
        names = {name: OuterRef(name) for name in ("workspace", "type", "product_id")}
        return self.exclude(Exists(OutboxGroup.objects.filter(state=GroupState.HELD, **names)))

    def with_payloads(self) -> BatchQuerySet:
        """Return the complete batches whose records still have their payloads."""
        return self.filter(state=BatchState.COMPLETE, payloads_dropped_at__isnull=True)

    def polled(self, workspace: str | OuterRef) -> BatchQuerySet:
        """Return the batches that are polled, because Evermuse may still change their status."""
        return self.filter(workspace=workspace, next_poll_at__isnull=False)

    def poll_due(self, workspace: str | OuterRef, now: datetime) -> BatchQuerySet:
        """Return the batches that are to be polled now, the longest waiting first."""
        return self.polled(workspace).filter(next_poll_at__lte=now).order_by("next_poll_at", "pk")

    def on_listing_page(self, workspace: str, cursor: str | None) -> BatchQuerySet:
        """Return the polled batches on the listing page of ``cursor``; with None, those that are on no page."""
        polled = self.polled(workspace)
        if cursor is None:
            return polled.filter(listing_cursor__isnull=True)
        return polled.filter(listing_cursor=cursor)

    def lease_expired(self, now: datetime, latest: datetime) -> BatchQuerySet:
        """Return the batches with an expired lease, or with one that ends after ``latest``, as no lease can."""
        return self.filter(Q(leased_until__lt=now) | Q(leased_until__gt=latest), state=BatchState.SENDING)

    def leased(self, batch: OutboxBatch) -> BatchQuerySet:
        """Return only ``batch``, or nothing if its lease was lost since it was read."""
        return self.filter(pk=batch.pk, state=BatchState.SENDING, lease_token=batch.lease_token)

    # --- changes of state: the lease --------------------------------------------------------------

    def lease(self, batch: OutboxBatch, until: datetime, **columns: Any) -> bool:
        """Change sealed, in doubt → sending. Return False if another worker leased or rescheduled it first."""
        token = uuid.uuid4()
        unchanged = self.filter(pk=batch.pk, due_at=batch.due_at)
        if not unchanged._change_state("lease", lease_token=token, leased_until=until, **columns):
            return False
        batch.state, batch.lease_token, batch.leased_until = BatchState.SENDING, token, until
        return True

    def renew_lease(self, batch: OutboxBatch, until: datetime, **columns: Any) -> bool:
        """Extend the lease. Return False if it was lost."""
        return bool(self.leased(batch).update(leased_until=until, **columns))

    def renew(self, batch: OutboxBatch, **columns: Any) -> bool:
        """Write another key and other bytes of a leased batch that Evermuse cannot have.

        Return False, and change nothing, if the lease was lost or an attempt of the batch was unclear.
        """
        return bool(self.leased(batch).filter(in_doubt=False).update(**columns))

    def give_back(self, batch: OutboxBatch, **columns: Any) -> bool:
        """Change sending → sealed, or → in doubt if an earlier attempt of the batch was unclear.

        Return False, and change nothing, if the lease was lost.
        """
        release = self.mark_in_doubt if batch.in_doubt else self.requeue
        return release(batch, **columns)

    def requeue(self, batch: OutboxBatch, **columns: Any) -> bool:
        """Change sending → sealed: Evermuse took nothing. Return False if the lease was lost."""
        return self._settle("requeue", batch, **columns)

    def mark_in_doubt(self, batch: OutboxBatch, **columns: Any) -> bool:
        """Change sending → in doubt: Evermuse may have taken it. Return False if the lease was lost."""
        return self._settle("mark_in_doubt", batch, in_doubt=True, **columns)

    def accept(self, batch: OutboxBatch, **columns: Any) -> bool:
        """Change sending → accepted: Evermuse has it. Return False if the lease was lost."""
        return self._settle("accept", batch, **columns)

    def refuse(self, batch: OutboxBatch, **columns: Any) -> bool:
        """Change sending → refused. Return False if the lease was lost.

        Evermuse took none of the batch, or it took a part and did not name all records that it rejected.
        """
        return self._settle("refuse", batch, **columns)

    def split_changed(self, batch: OutboxBatch, **columns: Any) -> bool:
        """Change sending → split: records were removed or altered, so its bytes cannot be sent again.

        The same transaction seals its other records in new batches. Return False if the lease was lost.
        """
        return self._settle("split_changed", batch, **columns)

    def _settle(self, method: str, batch: OutboxBatch, **columns: Any) -> bool:
        """End the lease with a change of state. Return False, and change nothing, if the lease was lost."""
        columns |= {"lease_token": None, "leased_until": None}
        with_lease = self.filter(pk=batch.pk, lease_token=batch.lease_token)
        if not with_lease._change_state(method, **columns):
            return False
        batch.state = TRANSITIONS[method].target
        for name, value in columns.items():
            setattr(batch, name, value)
        notify_batch(self.db, batch, batch.state)
        return True

    # --- changes of state: what Evermuse reports later --------------------------------------------

    def complete(self, ids: Collection[int], **columns: Any) -> int:
        """Change accepted → complete, for those of ``ids`` that are still accepted. Return how many changed."""
        count = self.filter(pk__in=ids)._change_state("complete", polls=F("polls") + 1, **columns)
        notify_completed(self, ids, count, columns.get("finished_at"), BatchState.COMPLETE)
        return count

    def update_status(self, ids: Collection[int], state: BatchState, **columns: Any) -> int:
        """Write the reported columns of polled batches that were read in ``state`` and stay in it. Return how many."""
        unchanged = self.filter(pk__in=ids, state=state, next_poll_at__isnull=False)
        return unchanged.update(polls=F("polls") + 1, **columns)

    def fail_accepted(self, batch: OutboxBatch, **columns: Any) -> bool:
        """Change accepted → failed. Return False if it is no longer accepted."""
        return self._settle_row("fail_accepted", batch, polls=F("polls") + 1, **columns)

    def refuse_accepted(self, batch: OutboxBatch, **columns: Any) -> bool:
        """Change accepted → refused: Evermuse reports COMPLETE with rejected records, and does not name all of them.

        The same transaction splits or isolates the batch. Return False if it is no longer accepted.
        """
        return self._settle_row("refuse_accepted", batch, polls=F("polls") + 1, **columns)

    def postpone_polls(self, ids: Collection[int], now: datetime, later: datetime, **columns: Any) -> int:
        """Poll these batches again ``later``, unless another process has rescheduled them. Return how many."""
        due = self.filter(pk__in=ids, next_poll_at__lte=now)
        return due.update(next_poll_at=later, polls=F("polls") + 1, **columns)

    def set_listing_cursor(self, ids: Collection[int], cursor: str | None) -> int:
        """Store the cursor of the listing page that is expected to show polled batches; None if no page does."""
        return self.filter(pk__in=ids, next_poll_at__isnull=False).update(listing_cursor=cursor)

    # --- changes of state: isolation --------------------------------------------------------------
    # The caller holds the sealing lock of the workspace, so no other isolation or pause changes the batch meanwhile.
    # Only a lease needs no sealing lock. If a batch is leased first, `withdraw` changes nothing.

    def isolate(self, batch: OutboxBatch, isolation: dict[str, Any]) -> None:
        """Change refused → isolating: the records are tried part by part. Store what is known of them.

        For a batch that is isolating already, only ``isolation`` changes.

        Raises:
            UnexpectedState: The batch is neither refused nor isolating.
        """
        self._change_locked("isolate", batch.pk, isolation=isolation, finished_at=None)

    def split(self, batch: OutboxBatch, now: datetime) -> None:
        """Change refused, isolating → split: its open records went on in other batches, or none is left.

        Raises:
            UnexpectedState: The batch is neither refused nor isolating.
        """
        self._change_locked("split", batch.pk, isolation=None, finished_at=now, in_doubt=False)

    def abandon(self, batch: OutboxBatch, now: datetime, message: str) -> bool:
        """Change in doubt → withdrawn: Evermuse may have it, and it is not sent again. Return False if it was leased.

        Call it only if its records are discarded: they must not be sent in another batch.
        """
        return self._settle_row("abandon", batch, finished_at=now, message=message)

    def withdraw(self, batch: OutboxBatch, now: datetime, message: str) -> bool:
        """Change sealed, isolating → withdrawn: it will not be sent. Return False if it was leased or ended before."""
        return self._settle_row("withdraw", batch, finished_at=now, message=message, isolation=None)

    # --- due times: the state stays; each method is fenced by the states in which the time counts -
    def send_now(self, now: datetime) -> int:
        """Make those of these batches due that wait for a later time to be sent. Return how many."""
        return self.filter(state__in=SENDABLE, due_at__gt=now).update(due_at=now)

    def poll_now(self, now: datetime) -> int:
        """Make those of these batches due that wait for a later time to be polled. Return how many."""
        return self.filter(next_poll_at__gt=now).update(next_poll_at=now)

    def stop_polling(self, message: str) -> int:
        """Poll those of these batches no more that are complete. Return how many."""
        return self.filter(state=BatchState.COMPLETE).update(next_poll_at=None, message=message)


class OutboxBatch(models.Model):
    """The records of one request: members, order, exact bytes and key, committed before the first POST.

    Members are the records that refer to the batch, in the order of their ids. The body is their lines, joined in that
    order in ``body_format``. ``sha256`` proves at every resend that the body is unchanged.
    """

    workspace = models.CharField(_("workspace"), max_length=64)
    type = models.CharField(_("type"), max_length=32)
    product_id = models.CharField(_("product id"), max_length=128)
    contract = models.CharField(_("contract"), max_length=16)
    body_format = models.CharField(_("body format"), max_length=8)
    format_hint = models.CharField(_("format hint"), max_length=8, blank=True, default="")
    key = models.CharField(_("idempotency key"), max_length=64, unique=True)
    sha256 = models.CharField(_("SHA-256"), max_length=64, help_text=_("Hash of the request body."))
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
        verbose_name=_("parent"),
    )
    api_key = models.CharField(  # noqa: DJ001 - workers of earlier versions insert batches without it
        _("API key"), max_length=24, null=True, help_text=_("Fingerprint of the key that sends it.")
    )
    resends = models.PositiveSmallIntegerField(
        _("resends"),
        default=0,
        help_text=_("Number of resends under a new key after Evermuse reported FAILED."),
    )

    state = models.CharField(_("state"), max_length=9, choices=BatchState.choices, default=BatchState.SEALED)
    in_doubt = models.BooleanField(
        _("in doubt"),
        default=False,
        help_text=_("An attempt ended without a clear answer: Evermuse may have the batch."),
    )
    isolation = models.JSONField(
        _("isolation"),
        null=True,
        blank=True,
        help_text=_("What is known of its bad records during isolation."),
    )
    failures = models.PositiveIntegerField(_("failures in a row"), default=0)
    message = ForeignTextField(_("message"), blank=True, default="")
    sealed_at = models.DateTimeField(_("sealed at"))
    due_at = models.DateTimeField(_("due at"))
    lease_token = models.UUIDField(_("lease token"), null=True, blank=True)
    leased_until = models.DateTimeField(_("leased until"), null=True, blank=True)
    accepted_at = models.DateTimeField(_("accepted at"), null=True, blank=True)
    finished_at = models.DateTimeField(_("finished at"), null=True, blank=True)

    urls_renewed_at = models.DateTimeField(
        _("URLs renewed at"),
        null=True,
        blank=True,
        help_text=_("When the function of the setting RENEW_URL gave new URLs to its attachments."),
    )
    payloads_dropped_at = models.DateTimeField(
        _("payloads dropped at"),
        null=True,
        blank=True,
        help_text=_("When the payloads of its delivered records were dropped; see PAYLOAD_RETENTION_DAYS."),
    )

    remote_id = ForeignCharField(
        _("batch id at Evermuse"), max_length=128, blank=True, default="", db_index=True
    )
    remote_status = ForeignCharField(_("status at Evermuse"), max_length=32, blank=True, default="")
    accepted_count = models.PositiveIntegerField(_("accepted"), null=True, blank=True)
    rejected_count = models.PositiveIntegerField(_("rejected"), null=True, blank=True)
    total_error_count = models.PositiveIntegerField(_("total errors"), null=True, blank=True)
    errors = ForeignJSONField(_("errors"), default=list, blank=True)
    attachment_status = ForeignCharField(_("attachment status"), max_length=32, blank=True, default="")
    attachment_total = models.PositiveIntegerField(_("attachments to fetch"), null=True, blank=True)
    attachment_complete = models.PositiveIntegerField(_("attachments fetched"), null=True, blank=True)
    attachment_failed = models.PositiveIntegerField(_("attachments failed"), null=True, blank=True)
    polls = models.PositiveIntegerField(_("polls"), default=0)
    next_poll_at = models.DateTimeField(_("next poll at"), null=True, blank=True)
    unknown_since = models.DateTimeField(
        _("unknown since"),
        null=True,
        blank=True,
        help_text=_("Time of the first 404 for it since the last status."),
    )
    listing_cursor = ForeignCharField(
        _("listing cursor"),
        max_length=limits.MAX_CURSOR,
        null=True,
        blank=True,
        default="",
        help_text=_("Cursor of its listing page; empty for the newest page, null if it is on no page."),
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
            PartialIndex(
                name="evermuse_batch_payloads",
                fields=["state", "finished_at", "id"],
                # No constant: SQLite compares the condition with that of the query before it knows the parameters.
                where=Q(finished_at__isnull=False, payloads_dropped_at__isnull=True),
                instead=["state", "payloads_dropped_at", "finished_at", "id"],
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
        return gettext("batch #%s") % self.pk

    def is_tried_part(self, part: OutboxBatch) -> bool:
        """Return whether ``part`` is the part of this isolating batch that is tried now; others go on alone."""
        return (self.isolation or {}).get("part") in (None, part.pk)

    @property
    def duration(self) -> timedelta | None:
        """Time from sealing to the end; None while the batch is open."""
        return self.finished_at - self.sealed_at if self.finished_at else None

    def seconds_since_accepted(self, now: datetime) -> float:
        """Return for how many seconds Evermuse has had the batch."""
        return (now - (self.accepted_at or self.sealed_at)).total_seconds()

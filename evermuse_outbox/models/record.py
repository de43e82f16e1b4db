"""Records and their rejections.

A record is written twice in its life: at enqueue, and when a batch takes it. How it ends follows from
its batch, so that finishing a thousand records is one UPDATE of one batch row. Only the few that end
otherwise (rejected, superseded, discarded) carry their end themselves, in ``closed_as``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.db import models
from django.db.models import Case, Exists, F, OuterRef, Q, Subquery, Value, When
from django.db.models.lookups import IsNull
from django.utils.translation import gettext_lazy as _

from .batch import BatchState, OutboxBatch
from .indexes import PartialIndex
from .query_hints import by_id, unset


class RecordState(models.TextChoices):
    """Where a record is; every committed record is in exactly one of these."""

    PENDING = "pending", _("pending")
    IN_FLIGHT = "in_flight", _("in flight")
    DELIVERED = "delivered", _("delivered")
    REJECTED = "rejected", _("rejected")
    SUPERSEDED = "superseded", _("superseded")
    DISCARDED = "discarded", _("discarded")


CLOSING = (RecordState.REJECTED, RecordState.SUPERSEDED, RecordState.DISCARDED)

FAILED_CODES = ("FAILED", "NOT_SENDABLE")
"""The codes of rejections that our own end of a batch gives its records: Evermuse may have had them."""

STATE = Case(
    When(closed_as__isnull=False, then=F("closed_as")),
    When(batch__isnull=True, then=Value(RecordState.PENDING.value)),
    When(batch__state=BatchState.COMPLETE, then=Value(RecordState.DELIVERED.value)),
    default=Value(RecordState.IN_FLIGHT.value),
    output_field=models.CharField(choices=RecordState.choices),
)


NO_BATCH, STILL_OPEN = unset("batch_id", never=0), unset("closed_as", never="")
"""As ``pending()`` has it, for records that are found by their ids or their identity."""


class RecordQuerySet(models.QuerySet["OutboxRecord"]):
    """Predicates that indexes serve, and the changes of state of records."""

    # --- predicates -------------------------------------------------------------------------------

    def pending(self) -> RecordQuerySet:
        """Committed, in no batch yet."""
        return self.filter(batch__isnull=True, closed_as__isnull=True)

    def in_flight(self) -> RecordQuerySet:
        """In a batch that is not at its end."""
        return self.filter(closed_as__isnull=True, batch_id__in=OutboxBatch.objects.open().values("pk"))

    def delivered(self) -> RecordQuerySet:
        """Evermuse has completed their batch."""
        return self.filter(closed_as__isnull=True, batch__state=BatchState.COMPLETE)

    def rejected(self) -> RecordQuerySet:
        """Refused with a message; they wait for a person."""
        return self.filter(closed_as=RecordState.REJECTED)

    def in_state(self, state: str) -> RecordQuerySet:
        """The records in ``state`` (a value of :class:`RecordState`), by way of an index."""
        named = {
            RecordState.PENDING: self.pending,
            RecordState.IN_FLIGHT: self.in_flight,
            RecordState.DELIVERED: self.delivered,
        }
        return named[RecordState(state)]() if state in named else self.filter(closed_as=state)

    def group(self, workspace: str, record_type: str, product_id: str) -> RecordQuerySet:
        """The records of one group."""
        return self.filter(workspace=workspace, type=record_type, product_id=product_id)

    def with_state(self) -> RecordQuerySet:
        """Each record with its ``state``, in the same query."""
        return self.annotate(state=STATE)  # type: ignore[no-redef]

    def overtaking(self) -> RecordQuerySet:
        """Versions that no older one may follow: Evermuse has them, may have had them, or will."""
        # A superseded one may have been among those of a 202 that did not say which ones it took.
        superseded = Q(closed_as=RecordState.SUPERSEDED)
        failed = Exists(OutboxRejection.objects.filter(record=OuterRef("pk"), code__in=FAILED_CODES))
        return self.filter(Q(closed_as__isnull=True) | superseded | failed)

    def sole_versions(self) -> RecordQuerySet:
        """Records of whose identity there is no other version, whatever became of it."""
        others = OutboxRecord.rows.filter(identity=OuterRef("identity")).exclude(pk=OuterRef("pk"))
        # With LIMIT, so that it is looked up for each record and never made a join with the whole table.
        return self.filter(IsNull(Subquery(others.order_by().values("pk")[:1]), True))

    def with_versions(self) -> RecordQuerySet:
        """Each record with what its other versions mean for it.

        ``newer`` is the id of the newest later version that is pending, under way or delivered, or that
        Evermuse may have accepted before it was failed or superseded: an older one must not follow any of
        them, whatever became of them since. ``older_batch`` is the batch of the latest earlier version that a
        batch has taken.
        """
        same = OutboxRecord.rows.filter(identity=OuterRef("identity")).order_by("-pk")
        later = same.overtaking().filter(pk__gt=OuterRef("pk"))
        earlier = same.filter(~NO_BATCH, STILL_OPEN, pk__lt=OuterRef("pk"))
        newer, older = later.values("pk")[:1], earlier.values("batch_id")[:1]
        return self.annotate(newer=Subquery(newer), older_batch=Subquery(older))  # type: ignore[no-redef]

    # --- changes of state -------------------------------------------------------------------------

    def take_into(self, batch: OutboxBatch, pks: Sequence[int]) -> int:
        """pending → in flight. Returns how many records were still pending and are now in ``batch``."""
        return self.filter(by_id(pks), NO_BATCH, STILL_OPEN).update(batch=batch)

    def move(self, pks: Sequence[int], source: OutboxBatch, target: OutboxBatch) -> int:
        """In flight in ``source`` → in flight in ``target``. Returns how many moved."""
        return self.filter(by_id(pks), STILL_OPEN, batch=source).update(batch=target)

    def release(self, batch: OutboxBatch) -> int:
        """In flight in ``batch`` → pending, once nothing of it is under way. Returns how many."""
        return self.filter(batch=batch, closed_as__isnull=True).update(batch=None)

    def reject(self, rejections: Iterable[OutboxRejection]) -> int:
        """in flight or pending → rejected, each with its message. Returns how many."""
        rows = list(rejections)
        closed = self.filter(pk__in=[row.record_id for row in rows], closed_as__isnull=True)
        count = closed.update(closed_as=RecordState.REJECTED)
        OutboxRejection.objects.using(self.db).bulk_create(rows, batch_size=500)
        return count

    def supersede(self, newer_by_pk: dict[int, int]) -> int:
        """Unsent → superseded by the given newer version. Returns how many."""
        rows = [
            OutboxRecord(pk=pk, closed_as=RecordState.SUPERSEDED, superseded_by=newer)
            for pk, newer in newer_by_pk.items()
        ]
        written = ["closed_as", "superseded_by"]
        return OutboxRecord.rows.using(self.db).bulk_update(rows, written, batch_size=500) if rows else 0

    def discard(self) -> int:
        """pending or rejected → discarded: it will not be sent. Returns how many; others stay as they are."""
        unsent = Q(batch__isnull=True, closed_as__isnull=True) | Q(closed_as=RecordState.REJECTED)
        pks = list(self.filter(unsent).values_list("pk", flat=True))
        # By id and from the one table: an UPDATE around a subquery does not look again at a row that it had to
        # wait for (PostgreSQL), or waits for rows that are not meant (MariaDB).
        rows = OutboxRecord.rows.using(self._db).filter(unsent)  # type: ignore[attr-defined]
        chunks = (pks[start : start + 500] for start in range(0, len(pks), 500))
        return sum(rows.filter(pk__in=chunk).update(closed_as=RecordState.DISCARDED) for chunk in chunks)

    def reopen(self, pks: Sequence[int]) -> int:
        """rejected → pending. Returns how many."""
        return self.rejected().filter(pk__in=pks).update(closed_as=None, batch=None, superseded_by=None)


class StateManager(models.Manager.from_queryset(RecordQuerySet)):  # type: ignore[misc]
    """Records with their ``state``, which filters, orders and counts like a column."""

    def get_queryset(self) -> RecordQuerySet:
        rows: RecordQuerySet = super().get_queryset()
        return rows.with_state()


class OutboxRecord(models.Model):
    """One record as the host handed it over: the Integration Envelope, as the exact line that is sent."""

    workspace = models.CharField(_("workspace"), max_length=64, help_text=_("Whose API key sends it."))
    type = models.CharField(_("type"), max_length=32)
    product_id = models.CharField(_("product id"), max_length=128)
    identity = models.UUIDField(
        _("identity"),
        help_text=_("Hash of workspace, _type, _vendor_ids and _event_at: equal for all versions."),
    )
    contract = models.CharField(
        _("contract"), max_length=16, help_text=_("The contract its line is written in.")
    )
    payload = models.TextField(_("payload"), help_text=_("The exact JSON line, without its newline."))
    size = models.PositiveIntegerField(_("size"), help_text=_("Bytes of the line in UTF-8."))
    attachments = models.PositiveSmallIntegerField(_("attachments"), default=0)
    enqueued_at = models.DateTimeField(_("enqueued at"))
    # No constraint in the database: a thousand checks a batch would cost more than the claim itself.
    # The row a record points to is written in the same transaction, and purged after its records.
    batch = models.ForeignKey(
        OutboxBatch,
        on_delete=models.DO_NOTHING,
        null=True,
        blank=True,
        db_constraint=False,
        db_index=False,
        related_name="records",
        verbose_name=_("batch"),
    )
    closed_as = models.CharField(  # noqa: DJ001 -- NULL keeps the open rows out of the index of the closed ones
        _("closed as"),
        max_length=10,
        null=True,
        blank=True,
        choices=[(state.value, state.label) for state in CLOSING],
    )
    superseded_by = models.BigIntegerField(_("superseded by"), null=True, blank=True)

    # Only on records that `with_versions` has read.
    newer: int | None
    older_batch: int | None

    objects = StateManager()
    rows = RecordQuerySet.as_manager()

    class Meta:
        verbose_name = _("record")
        verbose_name_plural = _("records")
        indexes = [
            PartialIndex(
                name="evermuse_record_pending",
                fields=["workspace", "type", "product_id", "enqueued_at", "id"],
                where=Q(batch__isnull=True, closed_as__isnull=True),
                instead=["batch", "closed_as", "workspace", "type", "product_id", "enqueued_at", "id"],
            ),
            PartialIndex(
                name="evermuse_record_batch", fields=["batch"], where=Q(batch__isnull=False), instead=[]
            ),
            PartialIndex(
                name="evermuse_record_closed",
                fields=["closed_as", "id"],
                where=Q(closed_as__isnull=False),
                instead=["closed_as", "id"],
            ),
            models.Index(name="evermuse_record_identity", fields=["identity", "id"]),
        ]
        constraints = [
            models.CheckConstraint(
                name="evermuse_record_closed_as",
                condition=Q(closed_as__isnull=True) | Q(closed_as__in=[state.value for state in CLOSING]),
            ),
            models.CheckConstraint(
                name="evermuse_record_superseded_by",
                condition=Q(superseded_by__isnull=True) | Q(closed_as=RecordState.SUPERSEDED),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.type} #{self.pk}"

    @property
    def state(self) -> str:
        """Where the record is: a value of :class:`RecordState`."""
        read: str | None = self.__dict__.get("_state_read")
        return read or self._derived_state()

    @state.setter
    def state(self, value: str) -> None:
        self.__dict__["_state_read"] = value

    def get_state_display(self) -> str:
        """The state in words."""
        return str(RecordState(self.state).label)

    def refresh_from_db(self, *args: Any, **options: Any) -> None:
        """As Django's; the state is derived anew as well."""
        self.__dict__.pop("_state_read", None)
        super().refresh_from_db(*args, **options)

    def envelope(self) -> dict[str, Any]:
        """The record as Evermuse reads it."""
        read: dict[str, Any] = json.loads(self.payload)
        return read

    def _derived_state(self) -> str:
        if self.closed_as:
            return self.closed_as
        if self.batch is None:
            return RecordState.PENDING
        delivered = self.batch.state == BatchState.COMPLETE
        return RecordState.DELIVERED if delivered else RecordState.IN_FLIGHT


class OutboxRejection(models.Model):
    """Why a record was refused: by Evermuse in an answer, or by us before it could be sent."""

    record = models.ForeignKey(
        OutboxRecord,
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
        _("position"), null=True, help_text=_("In the batch, from 0.")
    )
    code = models.CharField(_("code"), max_length=64)
    message = models.TextField(_("message"))
    rejected_at = models.DateTimeField(_("rejected at"))

    class Meta:
        verbose_name = _("rejection")
        verbose_name_plural = _("rejections")

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"

    @classmethod
    def local(cls, record_id: int, code: str, message: str, at: datetime) -> OutboxRejection:
        """A rejection that no request was needed for."""
        return cls(record_id=record_id, code=code, message=message, rejected_at=at)

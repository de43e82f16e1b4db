"""Records, and every change of their state.

Most records are written twice: at enqueue, and when a batch takes them. Their end follows from their batch, so one
UPDATE of one batch row finishes a thousand records. Only records that end otherwise, such as rejected ones, store their
end themselves, in ``closed_as``. It also keeps scheduled and held records out of sealing: see ``deferral``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from django.db import connections, models, router, transaction
from django.db.models import Exists, OuterRef, Q, Subquery
from django.db.models.lookups import IsNull
from django.utils.translation import gettext_lazy as _

from .batch import OutboxBatch
from .batch_states import BatchState
from .deferral import OutboxDeferral
from .history import Decision, OutboxAction
from .indexes import PartialIndex
from .payloads import PayloadField, UnreadableLine, drop_lines
from .query_hints import ROWS_PER_STATEMENT, by_id
from .record_states import (
    CLOSING,
    FAILED_CODES,
    HAS_LABELS,
    NO_BATCH,
    PENDING,
    REJECTED,
    SOURCE_CONDITIONS,
    STATE,
    STILL_OPEN,
    TRANSITIONS,
    PayloadDropped,
    RecordState,
)
from .rejection import OutboxRejection
from .settled import notify_rejected


class RecordQuerySet(models.QuerySet["OutboxRecord"]):
    """Predicates that indexes serve, and the changes of state of records."""

    # --- predicates -------------------------------------------------------------------------------

    def pending(self) -> RecordQuerySet:
        """Return the open records that are in no batch."""
        return self.filter(PENDING)

    def in_flight(self) -> RecordQuerySet:
        """Return the records in a batch that is not finished."""
        return self.filter(closed_as__isnull=True, batch_id__in=OutboxBatch.objects.open().values("pk"))

    def delivered(self) -> RecordQuerySet:
        """Return the records in a batch that Evermuse has completed."""
        return self.filter(closed_as__isnull=True, batch__state=BatchState.COMPLETE)

    def rejected(self) -> RecordQuerySet:
        """Return the records that were refused with a message and wait for an operator."""
        return self.filter(REJECTED)

    def failed_again(self) -> RecordQuerySet:
        """Return those of the records that were rejected more than once: a retry did not help."""
        rejections = OutboxRejection.objects.filter(record=OuterRef("pk")).order_by()
        # OFFSET makes this a look-up of two rows for each record; a count would read all rejections.
        return self.filter(IsNull(Subquery(rejections.values("pk")[1:2]), False))

    def in_state(self, state: str) -> RecordQuerySet:
        """Return the records in ``state``, a value of :class:`RecordState`. An index finds them."""
        predicates = {
            RecordState.PENDING: self.pending,
            RecordState.IN_FLIGHT: self.in_flight,
            RecordState.DELIVERED: self.delivered,
        }
        return predicates[RecordState(state)]() if state in predicates else self.filter(closed_as=state)

    def group(self, workspace: str, record_type: str, product_id: str) -> RecordQuerySet:
        """Return the records of one group."""
        return self.filter(workspace=workspace, type=record_type, product_id=product_id)

    def with_state(self) -> RecordQuerySet:
        """Annotate each record with its ``state``, in the same query."""
        return self.annotate(state=STATE)  # type: ignore[no-redef]

    def versions_that_block_older(self) -> RecordQuerySet:
        """Return the versions that Evermuse has, may have had or will get: an older version must not follow them."""
        # A 202 may have accepted a superseded record: in part, without naming the records that it rejected.
        # One that was never sent, such as a debounced version, leaves it to the version that replaced it.
        rejections = OutboxRejection.objects.filter(record=OuterRef("pk"))
        superseded = Q(closed_as=RecordState.SUPERSEDED) & (~NO_BATCH | Exists(rejections))
        failed = Exists(rejections.filter(code__in=FAILED_CODES))
        return self.filter(Q(closed_as__isnull=True) | superseded | failed)

    def sole_versions(self) -> RecordQuerySet:
        """Return the records without another version of their identity, in any state."""
        others = OutboxRecord.rows.filter(identity=OuterRef("identity")).exclude(pk=OuterRef("pk"))
        # LIMIT keeps this a look-up for each record; without it, planners join with the complete table.
        return self.filter(IsNull(Subquery(others.order_by().values("pk")[:1]), True))

    def with_versions(self) -> RecordQuerySet:
        """Annotate each record with what its other versions mean for it.

        ``newer`` is the id of the newest later version of :meth:`versions_that_block_older`, or None. This record
        must not be sent after it. ``older_batch`` is the batch of the latest earlier version that a batch has taken.
        """
        versions = OutboxRecord.rows.filter(identity=OuterRef("identity")).order_by("-pk")
        later = versions.versions_that_block_older().filter(pk__gt=OuterRef("pk"))
        earlier = versions.filter(~NO_BATCH, STILL_OPEN, pk__lt=OuterRef("pk"))
        newer, older = later.values("pk")[:1], earlier.values("batch_id")[:1]
        return self.annotate(newer=Subquery(newer), older_batch=Subquery(older))  # type: ignore[no-redef]

    def lock_rows(self, pks: Sequence[int]) -> None:
        """Lock these records until the transaction ends, in the order of their ids. SQLite has no row locks."""
        if connections[self.db].features.has_select_for_update:
            list(self.filter(by_id(pks)).order_by("pk").select_for_update().values_list("pk"))

    # --- changes of state -------------------------------------------------------------------------

    def take_into(self, batch: OutboxBatch, pks: Sequence[int]) -> int:
        """Change pending → in flight. Return how many records were still pending and are now in ``batch``."""
        return self._in_source("take_into").filter(by_id(pks)).update(batch=batch)

    def move(self, pks: Sequence[int], source: OutboxBatch, target: OutboxBatch) -> int:
        """Move open records from one batch to another; they stay in flight. Return how many moved."""
        return self.filter(by_id(pks), STILL_OPEN, batch=source).update(batch=target)

    def release(self, batch: OutboxBatch, pks: Sequence[int] | None = None) -> int:
        """Change in flight → pending, for the records in ``batch``, or those with the given ids. Return how many.

        Call it only if Evermuse has nothing of the batch.
        """
        members = self._in_source("release").filter(batch=batch)
        members = members if pks is None else members.filter(by_id(pks))
        OutboxDeferral.objects.using(self.db).look_at_expiry(list(members.values_list("pk", flat=True)))
        return members.update(batch=None)

    def reject(self, rejections: Iterable[OutboxRejection]) -> int:
        """Change pending, in flight → rejected, and store the message of each that exists. Return how many records."""
        rows = list(rejections)
        pks = [row.record_id for row in rows]
        count = self._in_source("reject").filter(pk__in=pks).update(closed_as=RecordState.REJECTED)
        workspaces = dict(self.filter(pk__in=pks).values_list("pk", "workspace"))  # of those that still exist
        stored = [row for row in rows if row.record_id in workspaces]
        OutboxRejection.objects.using(self.db).bulk_create(stored, batch_size=ROWS_PER_STATEMENT)
        notify_rejected(self.db, self.model, stored, workspaces)
        return count

    def supersede(self, newer_by_pk: dict[int, int]) -> int:
        """Change pending, in flight → superseded, each by the given newer version. Return how many.

        Call it for a record in flight only if its batch was refused or failed, before the record is sealed again.
        """
        return self._supersede_by("supersede", newer_by_pk)

    def coalesce(self, newer_by_pk: dict[int, int]) -> int:
        """Change scheduled → superseded, each by a newer scheduled version. Return how many."""
        return self._supersede_by("coalesce", newer_by_pk)

    def hold(self, pks: Sequence[int]) -> int:
        """Change pending → held, until their deferral ends, which the caller writes. Return how many."""
        return self._in_source("hold").filter(by_id(pks)).update(closed_as=RecordState.HELD)

    def make_due(self, pks: Sequence[int]) -> int:
        """Change scheduled, held → pending. Return how many."""
        return self._in_source("make_due").filter(by_id(pks)).update(closed_as=None)

    def expire(self, pks: Sequence[int]) -> int:
        """Change pending, scheduled, held → expired: it is too late to send them. Return how many."""
        return self._in_source("expire").filter(by_id(pks)).update(closed_as=RecordState.EXPIRED)

    def correct(self, newer_by_pk: dict[int, int]) -> int:
        """Change rejected → superseded, each by a newer version that Evermuse has. Return how many."""
        return self._supersede_by("correct", newer_by_pk)

    def _supersede_by(self, method: str, newer_by_pk: dict[int, int]) -> int:
        """Change records to superseded by the given newer versions. Return how many."""
        if not newer_by_pk:
            return 0
        rows = [
            OutboxRecord(pk=pk, closed_as=RecordState.SUPERSEDED, superseded_by=newer)
            for pk, newer in newer_by_pk.items()
        ]
        return self._in_source(method).bulk_update(rows, ["closed_as", "superseded_by"], ROWS_PER_STATEMENT)

    def discard(self, *, by: str = "", reason: str = "", action: OutboxAction | None = None) -> int:
        """Change pending, rejected, scheduled, held → discarded: they will not be sent. Return how many.

        Others stay as they are. The same transaction records the action of the person ``by``, empty for the user of
        this process, with the ``reason``; or it is a step of ``action``, which was recorded before.
        """
        using = self._db or router.db_for_write(OutboxRecord)  # type: ignore[attr-defined]
        members = list(self.using(using)._in_source("discard").values_list("pk", "workspace"))
        with transaction.atomic(using=using, savepoint=False):
            count = OutboxRecord.rows.using(using).discard_by_id([pk for pk, _ in members])
            OutboxAction.objects.using(using).log_discard(members, count, Decision(by, reason), action)
        return count

    def discard_by_id(self, pks: Sequence[int]) -> int:
        """Change pending, rejected, scheduled, held → discarded. Return how many. The caller records the action."""
        # The UPDATE names ids and reads one table, because an UPDATE with a subquery has two faults. PostgreSQL would
        # not check the condition again after a wait for a row. MariaDB would also wait for rows that do not match.
        rows = self._in_source("discard")
        chunks = (pks[start : start + ROWS_PER_STATEMENT] for start in range(0, len(pks), ROWS_PER_STATEMENT))
        count = 0
        for chunk in chunks:
            count += rows.filter(by_id(chunk)).update(closed_as=RecordState.DISCARDED)
            discarded = OutboxRecord.rows.using(self.db).filter(closed_as=RecordState.DISCARDED)
            OutboxDeferral.objects.using(self.db).forget_closed(chunk, discarded)
        return count

    def reopen(self, pks: Sequence[int]) -> int:
        """Change rejected → pending. Return how many."""
        rejected = self._in_source("reopen").filter(by_id(pks))
        return rejected.update(closed_as=None, batch=None, superseded_by=None)

    def replace(self, newer_by_pk: dict[int, int]) -> int:
        """Change rejected → superseded, each by the version that an operator made of it. Return how many."""
        return self._supersede_by("replace", newer_by_pk)

    def drop_payloads(self) -> int:
        """Replace the payloads of these records by their hashes. Return how many. The state stays."""
        return drop_lines(self.filter(payload_sha256__isnull=True))

    def _in_source(self, method: str) -> RecordQuerySet:
        """Return the records in the source states of a transition."""
        return self.filter(SOURCE_CONDITIONS[TRANSITIONS[method].sources])


class StateManager(models.Manager.from_queryset(RecordQuerySet)):  # type: ignore[misc]
    """Manager of records with their ``state``, which filters, orders and counts like a column."""

    def get_queryset(self) -> RecordQuerySet:
        """Return the records, each with its ``state``."""
        rows: RecordQuerySet = super().get_queryset()
        return rows.with_state()


class OutboxRecord(models.Model):
    """One record of the host: an Integration Envelope, stored as the exact line that is sent."""

    workspace = models.CharField(
        _("workspace"), max_length=64, help_text=_("The workspace that sends the record.")
    )
    type = models.CharField(_("type"), max_length=32)
    product_id = models.CharField(_("product id"), max_length=128)
    identity = models.UUIDField(
        _("identity"),
        help_text=_("Hash of workspace, _type, _vendor_ids and _event_at: equal for all versions."),
    )
    contract = models.CharField(
        _("contract"), max_length=16, help_text=_("The contract that the line is written in.")
    )
    payload = PayloadField(_("payload"), help_text=_("The exact JSON line, without the newline."))
    size = models.PositiveIntegerField(_("size"), help_text=_("Bytes of the line in UTF-8."))
    attachments = models.PositiveSmallIntegerField(_("attachments"), default=0)
    checksum = models.BigIntegerField(
        _("checksum"),
        null=True,
        blank=True,
        editable=False,
        help_text=_("CRC-32 of what was enqueued. Rows of earlier versions have none."),
    )
    enqueued_at = models.DateTimeField(_("enqueued at"))
    # No foreign key in the database: a thousand checks a batch would cost more than taking the records.
    # The batch is written in the same transaction as the reference, and purged after its records.
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
    payload_sha256 = models.CharField(  # noqa: DJ001 -- NULL: the payload is there. The column of an old row is NULL
        _("SHA-256 of the payload"),
        max_length=64,
        null=True,
        blank=True,
        help_text=_("Hash of the dropped line. Until the payload is dropped, there is none."),
    )
    trace_context = models.CharField(_("trace"), max_length=55, null=True, blank=True)  # noqa: DJ001 -- NULL: no trace
    label_set_id = models.BigIntegerField(_("label set"), null=True, blank=True, editable=False)

    # Set only on records that `with_versions` has read.
    newer: int | None
    older_batch: int | None

    objects = StateManager()
    rows = RecordQuerySet.as_manager()

    class Meta:
        verbose_name = _("record")
        verbose_name_plural = _("records")
        permissions = [
            ("view_payload_outboxrecord", _("Can view the payloads of records")),
            ("retry_outboxrecord", _("Can retry rejected records, and edit them before")),
            ("discard_outboxrecord", _("Can discard records")),
            ("erase_outboxrecord", _("Can erase records")),
        ]
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
            PartialIndex(name="evermuse_record_labels", fields=["label_set_id", "id"], where=HAS_LABELS),
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
        """The state: a value of :class:`RecordState`."""
        annotated: str | None = self.__dict__.get("_annotated_state")
        return annotated or self._derive_state()

    @state.setter
    def state(self, value: str) -> None:
        self.__dict__["_annotated_state"] = value

    def get_state_display(self) -> str:
        """Return the label of the state."""
        return str(RecordState(self.state).label)

    def refresh_from_db(self, using: str | None = None, *args: Any, **options: Any) -> None:
        """Reload from this row's database, not the router's, also for a deferred column. Derive the state again."""
        self.__dict__.pop("_annotated_state", None)
        super().refresh_from_db(using or self._state.db, *args, **options)

    @property
    def is_payload_dropped(self) -> bool:
        """Whether only the hash and the size of the line are left; see the setting PAYLOAD_RETENTION_DAYS."""
        return self.payload_sha256 is not None

    def read_batch(self) -> OutboxBatch | None:
        """Return the batch. If this row was read without it, read it from the same database, not by the router."""
        relation: Any = self._meta.get_field("batch")
        if self.batch_id is not None and not relation.is_cached(self):
            batch = OutboxBatch.objects.using(self._state.db).filter(pk=self.batch_id).first()
            relation.set_cached_value(self, batch)
        return None if self.batch_id is None else self.batch

    def envelope(self) -> dict[str, Any]:
        """Return the envelope that the stored line contains.

        Raises:
            PayloadDropped: Only the hash of the line is left, or its data key is missing or destroyed.
        """
        if self.is_payload_dropped:
            raise PayloadDropped(f"the payload of record #{self.pk} was dropped after its delivery")
        if isinstance(self.payload, UnreadableLine):
            raise PayloadDropped(self.payload.message)
        envelope: dict[str, Any] = json.loads(self.payload)
        return envelope

    def _derive_state(self) -> str:
        if self.closed_as:
            return self.closed_as
        batch = self.read_batch()
        if batch is None:
            return RecordState.PENDING
        return RecordState.DELIVERED if batch.state == BatchState.COMPLETE else RecordState.IN_FLIGHT

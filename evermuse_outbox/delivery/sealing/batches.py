"""Write sealed batches and read them again: members, order, exact bytes and idempotency key.

A batch is written before its first POST. So after a crash it is sent again with the same key and bytes, and Evermuse
recognises it.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from django.db.models import Case, When

from ...evermuse import FORMATS, BodyFormat, fingerprint, limits
from ...foreign_text import HiddenText
from ...models import (
    BatchState,
    BoundPayload,
    OutboxBatch,
    OutboxRecord,
    PayloadField,
    RecordQuerySet,
    by_id,
    raise_if_waiting,
)
from ...tracing import SpanContext
from ..context import DeliveryContext
from .packing import Limits

MAX_SIZE_READ_WITH_PAGE = limits.MAX_BODY_BYTES // limits.MAX_BATCH_RECORDS
"""Bytes up to which a payload is read with its page, that is, with the other records that one query reads. A larger one
is read only if it is packed. So a page in memory is never much larger than a request."""

PAYLOAD_IF_SMALL = Case(
    When(size__lte=MAX_SIZE_READ_WITH_PAGE, then=BoundPayload()), output_field=PayloadField()
)


class PendingRecord(NamedTuple):
    """The columns of a pending record that sealing needs. ``line`` is None if the payload was not read yet."""

    pk: int
    type: str
    product_id: str
    contract: str
    size: int
    attachments: int
    checksum: int | None
    line: str | None

    def __repr__(self) -> str:
        return f"PendingRecord(pk={self.pk})"


@dataclass(frozen=True, slots=True)
class SealedBatch:
    """A batch with its body and the ids of its members in order.

    The other fields are set if the batch was sealed just now: ``epoch`` and ``number``, see
    ``delivery/gates/epochs.py``; and ``trace``, the span of the sealing, if it is traced.
    """

    batch: OutboxBatch
    members: tuple[int, ...]
    body: bytes = field(repr=False)
    epoch: uuid.UUID | None = field(default=None, compare=False)
    number: int = field(default=0, compare=False)
    trace: SpanContext = field(default=None, compare=False)

    @property
    def content_type(self) -> str:
        """The media type of the body."""
        return FORMATS[self.batch.body_format].content_type


class SealRaced(Exception):
    """Another transaction changed a record during the sealing. The complete sealing is rolled back."""


class BodyChanged(Exception):
    """A stored payload was altered or removed after the sealing, so the sealed bytes cannot be sent again."""


def read_records(rows: RecordQuerySet) -> list[PendingRecord]:
    """Read the columns that sealing needs."""
    columns = rows.annotate(line=PAYLOAD_IF_SMALL).values_list(*PendingRecord._fields)
    return [PendingRecord._make(row) for row in columns]


def write_batch(
    context: DeliveryContext,
    records: list[PendingRecord],
    *,
    parent: OutboxBatch | None = None,
    resends: int = 0,
    due_at: datetime | None = None,
    state: BatchState = BatchState.SEALED,
) -> SealedBatch:
    """Insert a batch and make ``records`` its members. Needs the sealing lock.

    Args:
        context: the delivery context.
        records: the members, with their lines. All have the same ``_type`` and ``_product_id``.
        parent: the batch that the records are moved from; None if they are pending.
        resends: how often these records were sent again after Evermuse reported FAILED.
        due_at: when the batch may be sent; None for now.
        state: SEALED; SENDING if the caller sends the batch now; IN_DOUBT if Evermuse may have the records already.

    Raise ``SealRaced`` if another transaction has changed a record, so that not all could become members.
    """
    members = sorted(records)
    body_format = _body_format_name(context, records)
    body = FORMATS[body_format].join(record.line or "" for record in members)
    now = context.clock.now()
    batch = OutboxBatch(
        workspace=context.workspace_name,
        type=records[0].type,
        product_id=records[0].product_id,
        contract=context.workspace.contract,
        body_format=body_format,
        format_hint=context.settings.format_hints.get(records[0].type, ""),
        key=new_key(),
        sha256=fingerprint(body),
        record_count=len(members),
        byte_count=len(body),
        attachment_count=sum(record.attachments for record in records),
        parent_id=parent.pk if parent else None,
        urls_renewed_at=parent.urls_renewed_at if parent else None,
        api_key=context.key_fingerprint,
        resends=resends,
        sealed_at=now,
        due_at=due_at or now,
        state=state,
        in_doubt=state == BatchState.IN_DOUBT,
        **(_lease(context) if state == BatchState.SENDING else {}),
    )
    batch.save(using=context.using, force_insert=True)
    ids, rows = tuple([record.pk for record in members]), OutboxRecord.rows.using(context.using)
    claimed = rows.move(ids, parent, batch) if parent else rows.take_into(batch, ids)
    if claimed != len(records):
        raise SealRaced(f"{claimed} of {len(records)} records could be claimed for batch #{batch.pk}")
    return SealedBatch(batch, ids, body)


def open_sealed(context: DeliveryContext, batch: OutboxBatch) -> SealedBatch:
    """Read a batch that was sealed before, with the same body as then.

    Raise ``BodyChanged`` if the stored payloads no longer give the bytes that were sealed, and ``PayloadsUnreadable``
    if they do when a missing key is there again.
    """
    sealed = read_members(context, batch)
    if fingerprint(sealed.body) != batch.sha256:
        rows = OutboxRecord.rows.using(context.using).filter(by_id(sealed.members))
        raise_if_waiting(rows.values_list("payload", flat=True))
        raise BodyChanged(f"the records of batch #{batch.pk} no longer give the bytes that were sealed")
    return sealed


def read_members(context: DeliveryContext, batch: OutboxBatch) -> SealedBatch:
    """Read the open members of a batch and join their lines, without a comparison with what was sealed."""
    rows = OutboxRecord.rows.using(context.using).filter(batch=batch, closed_as__isnull=True)
    payloads = rows.order_by("pk").values_list("pk", "payload")
    lines = {pk: HiddenText(payload) for pk, payload in payloads}
    return SealedBatch(batch, tuple(lines), FORMATS[batch.body_format].join(lines.values()))


def new_key() -> str:
    """Return a new idempotency key."""
    return f"eob-{uuid.uuid4().hex}"


def request_limits(context: DeliveryContext) -> Limits:
    """Return the limits of a request from the settings."""
    settings = context.settings
    return Limits(settings.max_batch_records, settings.max_batch_bytes, settings.max_batch_attachments)


def body_format(context: DeliveryContext) -> BodyFormat:
    """Return the body format of the settings."""
    return FORMATS[context.settings.body_format]


def _body_format_name(context: DeliveryContext, records: list[PendingRecord]) -> str:
    """Return the format of the settings, or NDJSON if only NDJSON is small enough for a record of maximum size."""
    fits = body_format(context).size([record.size for record in records]) <= limits.MAX_BODY_BYTES
    return context.settings.body_format if fits else "ndjson"


def _lease(context: DeliveryContext) -> dict[str, Any]:
    until = context.clock.after(context.settings.lease)
    return {"lease_token": uuid.uuid4(), "leased_until": until}

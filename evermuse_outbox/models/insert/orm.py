"""The same INSERTs by the ORM, for databases that this package has no SQL for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...database_clock import database_now
from ...evermuse.records import Envelope
from .. import OutboxRecord
from .rows import Extras, ManyExtras, separate_extras


def insert_row(using: str, workspace: str, contract: str, envelope: Envelope, extras: Extras) -> OutboxRecord:
    """Insert one row and return the record."""
    record = _unsaved(using, workspace, contract, envelope, extras)
    record.save(using=using, force_insert=True)
    return record


def insert_rows(
    using: str, workspace: str, contract: str, envelopes: Sequence[Envelope], extras: ManyExtras
) -> list[int]:
    """Insert rows in the given order, and return their ids."""
    shared, varying = separate_extras(extras)
    records = []
    for position, envelope in enumerate(envelopes):
        numbers = {name: values[position] for name, values in varying.items()}
        records.append(_unsaved(using, workspace, contract, envelope, {**shared, **numbers}))
    return [record.pk for record in OutboxRecord.rows.using(using).bulk_create(records)]


def _unsaved(
    using: str, workspace: str, contract: str, envelope: Envelope, extras: Mapping[str, str | int | None]
) -> OutboxRecord:
    return OutboxRecord(
        workspace=workspace,
        type=envelope.type,
        product_id=envelope.product_id,
        identity=envelope.identity,
        contract=contract,
        payload=envelope.line,
        size=envelope.size,
        attachments=envelope.attachments,
        checksum=envelope.checksum,
        # Django has no expression for the current time that is right in every time zone of a session.
        enqueued_at=database_now(using),
        **extras,
    )

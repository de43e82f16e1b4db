"""The same INSERTs by the ORM, for databases that this package has no SQL for."""

from __future__ import annotations

from collections.abc import Sequence

from ...database_clock import database_now
from ...evermuse.records import Envelope
from .. import OutboxRecord
from .rows import Extras


def insert_row(using: str, workspace: str, contract: str, envelope: Envelope, extras: Extras) -> OutboxRecord:
    """Insert one row and return the record."""
    record = _unsaved(using, workspace, contract, envelope, extras)
    record.save(using=using, force_insert=True)
    return record


def insert_rows(
    using: str, workspace: str, contract: str, envelopes: Sequence[Envelope], extras: Extras
) -> None:
    """Insert rows in the given order."""
    records = [_unsaved(using, workspace, contract, envelope, extras) for envelope in envelopes]
    OutboxRecord.rows.using(using).bulk_create(records)


def _unsaved(using: str, workspace: str, contract: str, envelope: Envelope, extras: Extras) -> OutboxRecord:
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

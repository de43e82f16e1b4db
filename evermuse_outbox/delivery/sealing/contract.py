"""Bring records into the contract that the workspace uses now.

A contract is a published description of the records that Evermuse accepts, and the contracts differ. A record is stored
in the contract of its enqueueing. If the setting CONTRACT has changed since, it must be rewritten before it is sealed.
"""

from __future__ import annotations

from ...evermuse import Untranslatable
from ...evermuse.records import make_checksum, translate
from ...models import OutboxRecord, OutboxRejection
from ...models.payloads import stored_forms
from ..context import DeliveryContext
from .batches import PendingRecord
from .stored_lines import read_intact


def translate_or_reject(context: DeliveryContext, records: list[PendingRecord]) -> list[PendingRecord]:
    """Rewrite the payload of each record of another contract; reject a record that cannot be rewritten.

    Return the records that are in the workspace's contract now.
    """
    contract = context.workspace.contract
    translated = (
        record if record.contract == contract else _translate_or_reject(context, record) for record in records
    )
    return [record for record in translated if record]


def _translate_or_reject(context: DeliveryContext, record: PendingRecord) -> PendingRecord | None:
    contract, nature = context.workspace.contract, context.settings.default_nature
    rows = OutboxRecord.rows.using(context.using)
    if not (intact := read_intact(context, [record])):
        return None
    try:
        line = translate(intact[0].line or "", to=contract, default_nature=nature)
    except Untranslatable as error:
        rejection = OutboxRejection.local(record.pk, "UNTRANSLATABLE", str(error), context.clock.now())
        rows.reject([rejection])
        return None
    encoded = line.encode()
    checksum = make_checksum(encoded, context.workspace_name, record.type, record.product_id)
    record = record._replace(line=line, size=len(encoded), contract=contract, checksum=checksum)
    row = rows.filter(pk=record.pk)
    stored = stored_forms(row, context.workspace_name, {record.pk: line})
    row.update(payload=stored[record.pk], size=record.size, contract=contract, checksum=checksum)
    return record

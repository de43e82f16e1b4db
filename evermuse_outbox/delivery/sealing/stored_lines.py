"""Compare stored lines with what was enqueued, before they are sealed. A line that differs is not sent.

A database may alter text without an error: a MariaDB that is not strict stores ``?`` for a character that the character
set of the table lacks. A host may alter it with SQL of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ...evermuse.records import make_checksum
from ...foreign_text import HiddenBytes, HiddenText
from ...models import (
    ALTERED,
    KEY_DESTROYED,
    NOT_SENDABLE,
    Cause,
    OutboxBatch,
    OutboxRecord,
    OutboxRejection,
    RecordQuerySet,
    UnreadableLine,
    by_id,
    cause_of,
    raise_if_waiting,
)
from ...models.payloads import destroyed_among
from ..context import DeliveryContext
from .batches import PendingRecord

MESSAGE = (
    "The database does not have what was enqueued, so the record was not sent: the line or a name of the group was "
    "altered. The line had {given:,} bytes and has {stored:,} now. Look for the cause with manage.py check --database "
    "{database}, then enqueue the record again or edit it."
)

DESTROYED = "Its data key #{key} was destroyed, so that nothing can read or send the payload any more."

REASONS_PER_STATEMENT = 500
"""Maximum number of rows in one INSERT."""


def read_intact(
    context: DeliveryContext, records: Sequence[PendingRecord], batch: OutboxBatch | None = None
) -> list[PendingRecord]:
    """Return the records whose stored line is what was enqueued, with their lines; reject the others.

    A record whose data key was destroyed is discarded. Raise ``PayloadsUnreadable`` if a key is missing: then nothing
    is known about the line.

    Args:
        context: the delivery context.
        records: records of one request, because all their lines are in memory then.
        batch: the batch that the records are in; None if they are pending.
    """
    intact, rejections, destroyed, workspace = [], [], [], context.workspace_name
    for record in _with_lines(context, records):
        line = HiddenBytes((record.line or "").encode())
        checksum = make_checksum(line, workspace, record.type, record.product_id)
        # A row of an earlier version has no checksum.
        if len(line) == record.size and record.checksum in (checksum, None):
            intact.append(record)
            continue
        stored = "" if record.line is None else record.line
        raise_if_waiting([stored])
        if cause_of(stored) is Cause.DESTROYED:
            destroyed.append(record.pk)
        if batch or record.pk not in destroyed:
            rejections.append(_rejection(context, record, len(line), batch))
    rows = OutboxRecord.rows.using(context.using)
    if rejections:
        rows.reject(rejections)
    if destroyed:
        discard_destroyed(rows, destroyed, context.clock.now())
    return intact


def discard_destroyed(rows: RecordQuerySet, pks: list[int], now: datetime) -> int:
    """Change pending, rejected → discarded, for those of the records whose data key was destroyed. Return how many.

    The reason is stored as a rejection of each record. Call it in a transaction; the caller records the action.
    """
    keys = destroyed_among(rows, pks)
    reasons = [
        OutboxRejection.local(pk, KEY_DESTROYED, DESTROYED.format(key=key), now) for pk, key in keys.items()
    ]
    OutboxRejection.objects.using(rows.db).bulk_create(reasons, batch_size=REASONS_PER_STATEMENT)
    return rows.discard_by_id(sorted(keys))


def _rejection(
    context: DeliveryContext, record: PendingRecord, stored: int, batch: OutboxBatch | None
) -> OutboxRejection:
    code, message = ALTERED, MESSAGE.format(given=record.size, stored=stored, database=context.using)
    if isinstance(record.line, UnreadableLine):
        message = f"{record.line.message} The record was not sent."
    code = NOT_SENDABLE if batch else code
    rejection = OutboxRejection.local(record.pk, code, message, context.clock.now())
    rejection.batch_id = batch.pk if batch else None
    return rejection


def _with_lines(context: DeliveryContext, records: Sequence[PendingRecord]) -> Sequence[PendingRecord]:
    """Return the records with their lines; read those that were too large for their page."""
    unread = [record.pk for record in records if record.line is None]
    if not unread:
        return records
    rows = OutboxRecord.rows.using(context.using).filter(by_id(unread))
    lines = {pk: _hidden(payload) for pk, payload in rows.values_list("pk", "payload")}
    # A row that was deleted meanwhile has no line, so it is left out as an altered one is.
    return [
        record if record.line is not None else record._replace(line=lines.get(record.pk, ""))
        for record in records
    ]


def _hidden(line: str) -> str:
    """Return a line whose ``repr`` shows nothing."""
    return line if isinstance(line, UnreadableLine) else HiddenText(line)

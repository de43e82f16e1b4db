"""The columns of a new record, and their values as a database driver takes them."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from django.db.models import DEFERRED

from ...evermuse.records import Envelope
from .. import OutboxRecord

COLUMNS = (
    "workspace",
    "type",
    "product_id",
    "identity",
    "contract",
    "payload",
    "size",
    "attachments",
    "checksum",
    "enqueued_at",
)
"""The columns of a new record in the order of the model. The others stay NULL until it is sealed or closed.

The database's clock gives the last one, ``enqueued_at``: a host with a wrong clock must not delay its records.
"""

TRACED_COLUMNS = (*COLUMNS, "trace_context")
"""The columns if a trace is active. It is rare for a host to have one, and a NULL in an INSERT costs time, too."""

Row = tuple[str, str, str, UUID, str, str, int, int, int]
"""One value for each of ``COLUMNS`` but the last."""


def make_row(workspace: str, contract: str, envelope: Envelope) -> Row:
    """Return the values of one record."""
    return (
        workspace,
        envelope.type,
        envelope.product_id,
        envelope.identity,
        contract,
        envelope.line,
        envelope.size,
        envelope.attachments,
        envelope.checksum,
    )


def adapt_row(row: Row, connection: Any, trace_context: str | None) -> tuple[Any, ...]:
    """Return the row as the driver takes it. Text and numbers need no conversion on any database."""
    workspace, kind, product_id, identity, *rest = row
    prepared = _field("identity").get_db_prep_save(identity, connection)
    if trace_context is None:
        return (workspace, kind, product_id, prepared, *rest)
    return (workspace, kind, product_id, prepared, *rest, trace_context)


@cache
def insert_into(quote: str, *, is_traced: bool) -> str:
    """Return ``INSERT INTO`` with the table and the columns, quoted with the given character."""
    names = TRACED_COLUMNS if is_traced else COLUMNS
    columns = ", ".join(f"{quote}{_field(name).column}{quote}" for name in names)
    return f"INSERT INTO {quote}{OutboxRecord._meta.db_table}{quote} ({columns})"


def placeholders(clock: str, *, is_traced: bool) -> str:
    """Return the row of a VALUES clause; ``clock`` is SQL for the time of the INSERT."""
    return f"({'%s, ' * (len(COLUMNS) - 1)}{clock}{', %s' if is_traced else ''})"


def as_record(
    using: str, pk: int | None, row: Row, enqueued_at: datetime | None, trace_context: str | None
) -> OutboxRecord:
    """Return the record as if it had been read from the database.

    If ``enqueued_at`` is None, the attribute is deferred: Django reads it at the first use.
    """
    names = _field_names()
    at: Any = DEFERRED if enqueued_at is None else enqueued_at
    values = [pk, *row, at, *[None] * (len(names) - len(COLUMNS) - 1)]
    if trace_context is not None:
        values[names.index("trace_context")] = trace_context
    if enqueued_at is not None:
        return OutboxRecord.from_db(using, names, values)
    loaded = [(name, value) for name, value in zip(names, values, strict=True) if value is not DEFERRED]
    return OutboxRecord.from_db(using, *zip(*loaded, strict=True))


@cache
def _field(name: str) -> Any:
    return OutboxRecord._meta.get_field(name)


@cache
def _field_names() -> list[str]:
    return [field.attname for field in OutboxRecord._meta.concrete_fields]

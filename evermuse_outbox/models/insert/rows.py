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
    "enqueued_at",
)
"""The columns of a new record in the order of the model. The others stay NULL until it is sealed or closed.

The database's clock gives the last one, ``enqueued_at``: a host with a wrong clock must not delay its records.
"""

Row = tuple[str, str, str, UUID, str, str, int, int]
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
    )


def adapt_row(row: Row, connection: Any) -> tuple[Any, ...]:
    """Return the row as the driver takes it. Text and numbers need no conversion on any database."""
    workspace, kind, product_id, identity, *rest = row
    return (workspace, kind, product_id, _field("identity").get_db_prep_save(identity, connection), *rest)


@cache
def insert_into(quote: str) -> str:
    """Return ``INSERT INTO`` with the table and the columns, quoted with the given character."""
    columns = ", ".join(f"{quote}{_field(name).column}{quote}" for name in COLUMNS)
    return f"INSERT INTO {quote}{OutboxRecord._meta.db_table}{quote} ({columns})"


def placeholders(clock: str) -> str:
    """Return the row of a VALUES clause; ``clock`` is SQL for the time of the INSERT."""
    return f"({'%s, ' * (len(COLUMNS) - 1)}{clock})"


def as_record(using: str, pk: int | None, row: Row, enqueued_at: datetime | None) -> OutboxRecord:
    """Return the record as if it had been read from the database.

    If ``enqueued_at`` is None, the attribute is deferred: Django reads it at the first use.
    """
    names = _field_names()
    at: Any = DEFERRED if enqueued_at is None else enqueued_at
    values = [pk, *row, at, *[None] * (len(names) - len(COLUMNS) - 1)]
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

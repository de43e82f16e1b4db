"""The columns of a new record, and their values as a database driver takes them."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

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
"""The columns of a new record in the order of the model. The others stay NULL until it is sealed or closed."""

Row = tuple[str, str, str, UUID, str, str, int, int, datetime]
"""One value for each of ``COLUMNS``."""


def make_row(workspace: str, contract: str, envelope: Envelope, at: datetime) -> Row:
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
        at,
    )


def adapt_row(row: Row, connection: Any, timestamp: Any) -> tuple[Any, ...]:
    """Return the row as the driver takes it. Text and numbers need no conversion on any database."""
    workspace, kind, product_id, identity, *rest, _ = row
    adapted = _field("identity").get_db_prep_save(identity, connection)
    return (workspace, kind, product_id, adapted, *rest, timestamp)


def adapt_timestamp(at: datetime, connection: Any) -> Any:
    """Return ``at`` as the driver takes it. It is the slowest value to convert, so convert it once for all rows."""
    return _field("enqueued_at").get_db_prep_save(at, connection)


@cache
def insert_into(quote: str) -> str:
    """Return ``INSERT INTO`` with the table and the columns, quoted with the given character."""
    columns = ", ".join(f"{quote}{_field(name).column}{quote}" for name in COLUMNS)
    return f"INSERT INTO {quote}{OutboxRecord._meta.db_table}{quote} ({columns})"


@cache
def placeholders() -> str:
    """Return the VALUES clause for one row."""
    return f"VALUES ({', '.join(['%s'] * len(COLUMNS))})"


def as_record(using: str, pk: int | None, row: Row) -> OutboxRecord:
    """Return the record as if it had been read from the database."""
    names = _field_names()
    return OutboxRecord.from_db(using, names, [pk, *row, *[None] * (len(names) - 1 - len(row))])


@cache
def _field(name: str) -> Any:
    return OutboxRecord._meta.get_field(name)


@cache
def _field_names() -> list[str]:
    return [field.attname for field in OutboxRecord._meta.concrete_fields]

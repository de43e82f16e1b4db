"""The columns of a new record, and their values as a database driver takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from django.db.models.base import ModelState

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

Extras = Mapping[str, str | int]
"""Further columns with a value: name → value, which all rows of an INSERT share.

Most records have none of them. A column without a value is not named in the INSERT, because a NULL costs time, too.
"""

NO_EXTRAS: Extras = {}

Numbers = Sequence[int | None]

ManyExtras = Mapping[str, str | int | Numbers]
"""Further columns of many rows: name → the value that all rows share, or numbers, one for each row."""

Row = tuple[str | int | None, ...]
"""One value for each of ``COLUMNS`` but the last, then the values of the extras.

Text and numbers need no conversion on any database. All of them read the identity from its 32 hexadecimal digits.
"""


def make_row(workspace: str, contract: str, envelope: Envelope, extras: Extras) -> Row:
    """Return the values of one record as a driver takes them."""
    row: Row = (
        workspace,
        envelope.type,
        envelope.product_id,
        envelope.identity.hex,
        contract,
        envelope.line,
        envelope.size,
        envelope.attachments,
        envelope.checksum,
    )
    return (*row, *extras.values()) if extras else row


def separate_extras(extras: ManyExtras) -> tuple[Extras, dict[str, Numbers]]:
    """Return the extras that all rows share, and those in which they differ."""
    shared = {name: value for name, value in extras.items() if isinstance(value, str | int)}
    varying = {name: value for name, value in extras.items() if not isinstance(value, str | int)}
    return shared, varying


@cache
def insert_into(quote: str, extra: tuple[str, ...]) -> str:
    """Return ``INSERT INTO`` with the table and the columns, quoted with the given character."""
    columns = ", ".join(f"{quote}{_field(name).column}{quote}" for name in (*COLUMNS, *extra))
    return f"INSERT INTO {quote}{OutboxRecord._meta.db_table}{quote} ({columns})"


def placeholders(clock: str, extra: tuple[str, ...]) -> str:
    """Return the row of a VALUES clause; ``clock`` is SQL for the time of the INSERT."""
    return f"({'%s, ' * (len(COLUMNS) - 1)}{clock}{', %s' * len(extra)})"


def as_record(
    using: str, pk: int, row: Row, extras: Extras, identity: UUID, enqueued_at: datetime | None
) -> OutboxRecord:
    """Return the record as if it had been read from the database.

    If ``enqueued_at`` is None, the attribute is deferred: Django reads it at the first use.
    """
    # Not by the model's `__init__`, which costs a twentieth of an `enqueue`. It would also send two signals.
    record = OutboxRecord.__new__(OutboxRecord)
    state = ModelState()
    state.db, state.adding = using, False
    columns = dict(zip(_NAMES, row, strict=False))
    record.__dict__ = {
        "_state": state,
        "id": pk,
        **_empty_columns(),
        **columns,
        **extras,
        "identity": identity,
    }
    if enqueued_at is not None:
        record.enqueued_at = enqueued_at
    return record


_NAMES = COLUMNS[:-1]
"""The attributes that the first values of a :data:`Row` belong to."""


@cache
def _field(name: str) -> Any:
    return OutboxRecord._meta.get_field(name)


@cache
def _empty_columns() -> dict[str, None]:
    return {
        field.attname: None
        for field in OutboxRecord._meta.concrete_fields
        if field.column not in (*COLUMNS, "id")
    }

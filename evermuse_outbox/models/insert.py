"""New records into their table by the shortest way: INSERTs whose text is made once.

``save()`` puts its statement together anew for each row and asks each field for its value, which costs a host
about as much as the INSERT does; ``bulk_create`` likewise. All goes through Django's cursors, so that what watches
a connection sees it (``execute_wrapper``, ``assertNumQueries``) and errors are Django's. Neither ``pre_save``
nor ``post_save`` is sent. A database that is none of Django's own is left to the ORM.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from django.db import connections, transaction

from ..evermuse.records import Envelope
from .record import OutboxRecord

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
"""The columns of a new record in the model's order; the others are NULL until it is sealed or closed."""

OWN = ("postgresql", "mysql", "sqlite")
"""Vendors whose INSERTs are written here; Django calls MariaDB ``mysql``."""

FROM_COLUMNS = """
    SELECT %s::text, kind, product_id, identity::uuid, %s::text, line, size::int, attachments::int, %s::timestamptz
    FROM ROWS FROM (
        json_array_elements_text(%s::json), json_array_elements_text(%s::json),
        unnest(string_to_array(%s::text, ',')), unnest(string_to_array(%s::text, E'\\n')),
        unnest(string_to_array(%s::text, ',')), unnest(string_to_array(%s::text, ','))
    ) WITH ORDINALITY AS given (kind, product_id, identity, line, size, attachments, position)
    ORDER BY position"""
"""The rows of :func:`_columns` on PostgreSQL: nearly as fast as COPY, but a statement like any other.

It needs nothing of the driver but to quote text, so it is the same for psycopg 2 and 3 and behind a pooler.
"""

Row = tuple[str, str, str, UUID, str, str, int, int, datetime]


def insert(using: str, workspace: str, contract: str, envelope: Envelope, at: datetime) -> OutboxRecord:
    """Inserts one record in whatever transaction is open on ``using``; raises what the database raises.

    One INSERT and no savepoint. As after ``save()``, the row has its id, and an error inside of ``atomic`` lets
    that block do nothing but roll back.
    """
    connection = connections[using]
    row = _row(workspace, contract, envelope, at)
    if connection.vendor not in OWN:
        return _saved(using, row)
    with transaction.mark_for_rollback_on_error(using=using), connection.cursor() as cursor:
        cursor.execute(_one(connection.vendor), _adapted(row, connection, _moment(at, connection)))
        pk = cursor.fetchone()[0] if connection.vendor == "postgresql" else cursor.lastrowid
    return OutboxRecord.from_db(using, *_whole(pk, row))


def insert_many(
    using: str, workspace: str, contract: str, envelopes: Sequence[Envelope], at: datetime
) -> None:
    """Inserts records whose ids grow in the order given, for that order says which version is the latest.

    One statement for the cursor (a driver for MySQL and MariaDB cuts it where it gets long); to be called in a
    transaction.
    """
    connection = connections[using]
    if connection.vendor not in OWN:
        _saved_many(using, [_row(workspace, contract, envelope, at) for envelope in envelopes])
        return
    with transaction.mark_for_rollback_on_error(using=using), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(_many(), _columns(workspace, contract, envelopes, at))
            return
        moment = _moment(at, connection)
        rows = (_row(workspace, contract, envelope, at) for envelope in envelopes)
        cursor.executemany(_plain(connection.vendor), [_adapted(row, connection, moment) for row in rows])


def _row(workspace: str, contract: str, envelope: Envelope, at: datetime) -> Row:
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


def _adapted(row: Row, connection: Any, moment: Any) -> tuple[Any, ...]:
    """The row as the database's driver wants it: text and numbers go as they are everywhere."""
    workspace, kind, product_id, identity, *rest, _ = row
    adapted = _field("identity").get_db_prep_save(identity, connection)
    return (workspace, kind, product_id, adapted, *rest, moment)


def _moment(at: datetime, connection: Any) -> Any:
    """``at`` as the driver wants it: once for all rows, for it is the dearest of the values to adapt."""
    return _field("enqueued_at").get_db_prep_save(at, connection)


@cache
def _field(name: str) -> Any:
    return OutboxRecord._meta.get_field(name)


# --- the statements -----------------------------------------------------------------------------------


@cache
def _one(vendor: str) -> str:
    # SQLite, MySQL and MariaDB tell a new id unasked, and their drivers keep it.
    return f'{_plain(vendor)} RETURNING "id"' if vendor == "postgresql" else _plain(vendor)


@cache
def _plain(vendor: str) -> str:
    return f"{_into(vendor)} VALUES ({', '.join(['%s'] * len(COLUMNS))})"


@cache
def _many() -> str:
    return f"{_into('postgresql')} {FROM_COLUMNS}"


def _columns(workspace: str, contract: str, envelopes: Sequence[Envelope], at: datetime) -> tuple[Any, ...]:
    """What all rows share, and each other column as one text: no line of JSON has a newline in it."""
    return (
        workspace,
        contract,
        at,
        json.dumps([envelope.type for envelope in envelopes]),
        json.dumps([envelope.product_id for envelope in envelopes], ensure_ascii=False),
        ",".join([envelope.identity.hex for envelope in envelopes]),
        "\n".join([envelope.line for envelope in envelopes]),
        ",".join([str(envelope.size) for envelope in envelopes]),
        ",".join([str(envelope.attachments) for envelope in envelopes]),
    )


def _into(vendor: str) -> str:
    quote = "`" if vendor == "mysql" else '"'
    columns = ", ".join(f"{quote}{_field(name).column}{quote}" for name in COLUMNS)
    return f"INSERT INTO {quote}{OutboxRecord._meta.db_table}{quote} ({columns})"


# --- Django's way -------------------------------------------------------------------------------------


def _whole(pk: int | None, row: Row) -> tuple[list[str], list[Any]]:
    """The names and values of all fields."""
    names = _names()
    return names, [pk, *row, *[None] * (len(names) - 1 - len(row))]


@cache
def _names() -> list[str]:
    return [field.attname for field in OutboxRecord._meta.concrete_fields]


def _saved(using: str, row: Row) -> OutboxRecord:
    made = OutboxRecord(**dict(zip(COLUMNS, row, strict=True)))
    made.save(using=using, force_insert=True)
    return made


def _saved_many(using: str, rows: Sequence[Row]) -> None:
    made = [OutboxRecord(**dict(zip(COLUMNS, row, strict=True))) for row in rows]
    OutboxRecord.rows.using(using).bulk_create(made)

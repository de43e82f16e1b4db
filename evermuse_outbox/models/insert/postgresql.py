"""INSERT statements for PostgreSQL.

Why not the ORM: ``bulk_create`` sends ten parameters for each row. This statement sends nine parameters for all rows:
two shared values, and one text for each other column. PostgreSQL splits the texts into rows. It is nearly as fast as
COPY. It works with psycopg 2 and 3 and behind a pooler, because the driver only has to quote text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any

from django.db.models import IntegerField

from ...evermuse.records import Envelope
from .. import OutboxRecord
from .rows import ManyExtras, Numbers, Row, insert_into, placeholders, separate_extras

SELECT_FROM_COLUMNS = """
    SELECT %s::text, kind, product_id, identity::uuid, %s::text, line, size::int, attachments::int, checksum::bigint,
           statement_timestamp(){extras}{varying}
    FROM ROWS FROM (
        json_array_elements_text(%s::json), json_array_elements_text(%s::json),
        unnest(string_to_array(%s::text, ',')), unnest(string_to_array(%s::text, E'\\n')),
        unnest(string_to_array(%s::text, ',')), unnest(string_to_array(%s::text, ',')),
        unnest(string_to_array(%s::text, ',')){lists}
    ) WITH ORDINALITY AS given (kind, product_id, identity, line, size, attachments, checksum{varying}, position)
    ORDER BY position"""
"""The rows of :func:`_columns`, in their order."""


def insert_row(cursor: Any, connection: Any, row: Row, extra: tuple[str, ...]) -> tuple[int, datetime]:
    """Insert one row; return its id and the time of the INSERT."""
    # All values are text, and so is the time that comes back. A new cursor of psycopg looks up each type that it
    # meets, and its loader of times is written in Python. Both took a tenth of the time of `enqueue`.
    cursor.execute(_insert_one(extra), [*map(str, row)])
    pk, enqueued_at = cursor.fetchone()
    return pk, _as_django_reads(enqueued_at, connection)


def _as_django_reads(text: str, connection: Any) -> datetime:
    """Return a time as a query of Django returns it; it is naive without ``USE_TZ``."""
    at, zone = datetime.fromisoformat(text), connection.timezone
    return at.astimezone(zone) if zone else at.replace(tzinfo=None)


def insert_rows(  # noqa: PLR0913 -- the values of the rows, and where they go
    cursor: Any,
    connection: Any,  # noqa: ARG001 -- the other modules need it
    workspace: str,
    contract: str,
    envelopes: Sequence[Envelope],
    extras: ManyExtras,
    *,
    returns_ids: bool,
) -> list[int]:
    """Insert one row for each envelope, with one statement. Return the ids if the caller needs them."""
    shared, varying = separate_extras(extras)
    values = (workspace, contract, *map(str, shared.values()), *_columns(envelopes))
    numbers = [_as_list(each) for each in varying.values()]
    statement = _insert_many(tuple(shared), tuple(varying))
    cursor.execute(f'{statement} RETURNING "id"' if returns_ids else statement, (*values, *numbers))
    return [pk for (pk,) in cursor.fetchall()] if returns_ids else []


def _columns(envelopes: Sequence[Envelope]) -> tuple[str, ...]:
    """Return each column in which the rows differ as one text."""
    # A stored line is JSON without line breaks, so a line break separates lines.
    return (
        json.dumps([envelope.type for envelope in envelopes]),
        json.dumps([envelope.product_id for envelope in envelopes], ensure_ascii=False),
        ",".join([envelope.identity.hex for envelope in envelopes]),
        "\n".join([envelope.line for envelope in envelopes]),
        ",".join([str(envelope.size) for envelope in envelopes]),
        ",".join([str(envelope.attachments) for envelope in envelopes]),
        ",".join([str(envelope.checksum) for envelope in envelopes]),
    )


@cache
def _insert_one(extra: tuple[str, ...]) -> str:
    row = placeholders("statement_timestamp()", extra)
    return f"""{insert_into('"', extra)} VALUES {row} RETURNING "id", "enqueued_at"::text"""


@cache
def _insert_many(extra: tuple[str, ...], varying: tuple[str, ...]) -> str:
    select = SELECT_FROM_COLUMNS.format(
        extras="".join(f", %s::{_type_of(name)}" for name in extra),
        varying="".join(f", {name}" for name in varying),
        lists=", unnest(string_to_array(%s::text, ',', '')::bigint[])" * len(varying),
    )
    return f"""{insert_into('"', (*extra, *varying))} {select}"""


def _as_list(values: Numbers) -> str:
    """Return numbers as a text in which an empty place means NULL."""
    return ",".join(["" if value is None else str(value) for value in values])


def _type_of(name: str) -> str:
    """Return the type that the text of an extra column is cast to."""
    return "bigint" if isinstance(OutboxRecord._meta.get_field(name), IntegerField) else "text"

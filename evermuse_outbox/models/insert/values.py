"""INSERT … VALUES statements for MySQL, MariaDB and SQLite.

Why not the ORM: it builds the statement and converts each value anew for each row. Here the text is built once for each
process, and ``executemany`` lets the driver repeat it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any

from ...evermuse.records import Envelope
from .rows import Row, adapt_row, adapt_timestamp, insert_into, make_row, placeholders


def insert_row(cursor: Any, connection: Any, row: Row) -> int:
    """Insert one row and return its id, which these databases report without RETURNING."""
    cursor.execute(
        _insert(connection.vendor), adapt_row(row, connection, adapt_timestamp(row[-1], connection))
    )
    pk: int = cursor.lastrowid
    return pk


def insert_rows(
    cursor: Any,
    connection: Any,
    workspace: str,
    contract: str,
    envelopes: Sequence[Envelope],
    at: datetime,
) -> None:
    """Insert one row for each envelope, with one call of ``executemany``."""
    timestamp = adapt_timestamp(at, connection)
    rows = (make_row(workspace, contract, envelope, at) for envelope in envelopes)
    cursor.executemany(_insert(connection.vendor), [adapt_row(row, connection, timestamp) for row in rows])


@cache
def _insert(vendor: str) -> str:
    quote = "`" if vendor == "mysql" else '"'
    return f"{insert_into(quote)} {placeholders()}"

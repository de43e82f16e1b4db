"""INSERT … VALUES statements for MySQL, MariaDB and SQLite.

Why not the ORM: it builds the statement and converts each value anew for each row. Here the text of a row is
built once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from django.conf import settings
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from ...evermuse.records import Envelope
from .rows import COLUMNS, ManyExtras, Row, insert_into, make_row, placeholders, separate_extras

PAYLOAD = COLUMNS.index("payload")
"""The position of the payload in a row."""


MAX_STATEMENT = 1_000_000
"""Characters of payload in one statement on MySQL and MariaDB, escaped 8 MB at most. A packet may have 16 MB."""


def insert_row(cursor: Any, connection: Any, row: Row, extra: tuple[str, ...]) -> tuple[int, datetime | None]:
    """Insert one row; return its id and, if the database has RETURNING, the time of the INSERT."""
    values = placeholders(_clock(connection), extra)
    statement = f"{_insert(connection.vendor, extra)} {values}"
    if not connection.features.can_return_columns_from_insert:  # MySQL
        cursor.execute(statement, row)
        return cursor.lastrowid, None
    cursor.execute(f"{statement} RETURNING id, enqueued_at", row)
    ((pk, at),) = cursor.fetchall()  # SQLite ends the statement only when all rows are read
    return pk, _as_django_reads(at, connection)


def insert_rows(  # noqa: PLR0913 -- the values of the rows, and where they go
    cursor: Any,
    connection: Any,
    workspace: str,
    contract: str,
    envelopes: Sequence[Envelope],
    extras: ManyExtras,
    *,
    returns_ids: bool,
) -> list[int]:
    """Insert one row for each envelope: one call of ``executemany`` on SQLite, else statements of many rows.

    Return the ids if the caller needs them.
    """
    shared, varying = separate_extras(extras)
    rows = [make_row(workspace, contract, envelope, shared) for envelope in envelopes]
    if varying:
        rows = [
            (*row, *numbers) for row, numbers in zip(rows, zip(*varying.values(), strict=True), strict=True)
        ]
    extra = (*shared, *varying)
    insert, values = _insert(connection.vendor, extra), placeholders(_clock(connection), extra)
    if connection.vendor == "sqlite":
        cursor.executemany(f"{insert} {values}", rows)
        return _last_ids(cursor, len(rows)) if returns_ids else []
    # The drivers' `executemany` sends each row alone if the VALUES clause has anything but placeholders.
    pks: list[int] = []
    has_returning = returns_ids and connection.features.can_return_rows_from_bulk_insert  # not MySQL
    for part in _split(rows):
        statement = f"{insert} {', '.join([values] * len(part))}"
        parameters = [value for row in part for value in row]
        cursor.execute(f"{statement} RETURNING id" if has_returning else statement, parameters)
        if has_returning:
            pks += [pk for (pk,) in cursor.fetchall()]
        elif returns_ids:
            pks += _ids_from(cursor, cursor.lastrowid, len(part))
    return pks


def _last_ids(cursor: Any, count: int) -> list[int]:
    """Return the last ids that SQLite gave. The transaction has the only write lock, so there is no gap."""
    cursor.execute("SELECT last_insert_rowid()")
    (last,) = cursor.fetchone()
    return list(range(last - count + 1, last + 1))


def _ids_from(cursor: Any, first: int, count: int) -> list[int]:
    """Return the ids that MySQL gave to the rows of one statement, of which it names the first."""
    cursor.execute("SELECT @@SESSION.auto_increment_increment")
    (step,) = cursor.fetchone()
    return list(range(first, first + count * step, step))


def _split(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Yield the rows in parts of about ``MAX_STATEMENT`` characters."""
    start, characters = 0, 0
    for end, row in enumerate(rows):
        length = len(str(row[PAYLOAD]))
        characters += length
        if characters > MAX_STATEMENT and end > start:
            yield rows[start:end]
            start, characters = end, length
    yield rows[start:]


@cache
def _insert(vendor: str, extra: tuple[str, ...]) -> str:
    quote = "`" if vendor == "mysql" else '"'
    return f"{insert_into(quote, extra)} VALUES"


def _clock(connection: Any) -> str:
    """Return SQL for the current time as Django stores it: in the time zone of the connection, without its name."""
    zone = connection.timezone or timezone.get_default_timezone()
    # The offset from UTC, not the time, comes from this machine. It is wrong only if the clocks differ around the
    # start or end of summer time.
    offset = 0 if zone is UTC else round((datetime.now(zone).utcoffset() or timedelta(0)).total_seconds())
    return CLOCKS[connection.vendor](offset)


CLOCKS: dict[str, Callable[[int], str]] = {
    "mysql": lambda offset: f"UTC_TIMESTAMP(6) + INTERVAL {offset} SECOND" if offset else "UTC_TIMESTAMP(6)",
    # SQLite's clock has milliseconds. Django stores microseconds as text, and texts are compared.
    "sqlite": lambda offset: f"strftime('%%Y-%%m-%%d %%H:%%M:%%f000', 'now', '{offset:+d} seconds')",
}
"""Vendor of a connection → SQL for the time that is ``offset`` seconds ahead of UTC."""


def _as_django_reads(at: Any, connection: Any) -> datetime:
    """Return a stored time as a query of Django returns it."""
    value: Any = parse_datetime(at) if isinstance(at, str) else at
    read: datetime = timezone.make_aware(value, connection.timezone) if settings.USE_TZ else value
    return read

"""Find what would make a database store another text than it was given, or hide the tables."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.db import connections

CHARACTER_SET = "utf8mb4"
"""The only character set of MySQL and MariaDB that has all characters of Unicode."""

STRICT_MODES = {"STRICT_TRANS_TABLES", "STRICT_ALL_TABLES", "TRADITIONAL"}

ALL_COLUMNS = """
    SELECT table_name, column_name, character_set_name FROM information_schema.columns
    WHERE table_schema = DATABASE() AND character_set_name IS NOT NULL"""

WRONG_COLUMNS = f"{ALL_COLUMNS} AND character_set_name <> 'utf8mb4' ORDER BY table_name, ordinal_position"

_BEYOND_UTF8MB3 = re.compile("[\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class WrongTable:
    """A table with text columns of a character set that lacks characters."""

    name: str
    columns: tuple[str, ...]
    character_set: str
    remedy: str


def find_wrong_tables(using: str, tables: Iterable[str]) -> list[WrongTable]:
    """Return those of the tables that cannot store all characters; only MySQL and MariaDB can have any."""
    connection: Any = connections[using]
    if connection.vendor != "mysql":
        return []
    by_table: dict[str, list[tuple[str, str]]] = {}
    for table, column, character_set in _fetch(using, WRONG_COLUMNS):
        by_table.setdefault(table, []).append((column, character_set))
    statement = "ALTER TABLE `{}` CONVERT TO CHARACTER SET utf8mb4 COLLATE {};"
    return [
        WrongTable(
            table,
            tuple(column for column, _ in by_table[table]),
            by_table[table][0][1],
            statement.format(table, exact_collation(using)),
        )
        for table in tables
        if table in by_table
    ]


def storable(text: str, using: str, table: str, column: str) -> str:
    """Return the text with another character for each one that a column of MySQL or MariaDB lacks."""
    match _character_set(using, table, column):
        case "utf8mb4" | "":
            return text
        case "utf8mb3" | "utf8":
            return _BEYOND_UTF8MB3.sub("\ufffd", text)
        case _:
            return text.encode("ascii", "replace").decode()


@cache
def _character_set(using: str, table: str, column: str) -> str:
    rows = _fetch(using, f"{ALL_COLUMNS} AND table_name = %s AND column_name = %s", table, column)
    return str(rows[0][2]) if rows else ""


def exact_collation(using: str) -> str:
    """Return the collation of MySQL or MariaDB that distinguishes all texts, as the migrations use it."""
    connection: Any = connections[using]
    if connection.mysql_is_mariadb:
        return "utf8mb4_nopad_bin"
    return "utf8mb4_0900_bin" if connection.mysql_version >= (8, 0, 17) else "utf8mb4_bin"


def wrong_encoding(using: str) -> str:
    """Return the encoding of the connection or of the server if it lacks characters; otherwise an empty text."""
    match connections[using].vendor:
        case "mysql":
            (row,) = _fetch(using, "SELECT @@character_set_client, @@character_set_connection")
            return next((name for name in row if name != CHARACTER_SET), "")
        case "postgresql":
            ((name,),) = _fetch(using, "SELECT current_setting('server_encoding')")
            return "" if name == "UTF8" else str(name)
        case _:
            return ""


def is_lenient(using: str) -> bool:
    """Return whether the connection alters a value that does not fit, where other databases raise an error."""
    if connections[using].vendor != "mysql":
        return False
    ((mode,),) = _fetch(using, "SELECT @@SESSION.sql_mode")
    return not STRICT_MODES & set(str(mode).split(","))


def hidden_tables(using: str, tables: Iterable[str]) -> list[str]:
    """Return those of the tables that the connection does not see; none before the first migration of the app."""
    connection = connections[using]
    with connection.cursor() as cursor:
        visible = set(connection.introspection.table_names(cursor))
    hidden = [table for table in tables if table not in visible]
    is_in_use = bool(visible & set(tables)) or ("django_migrations" in visible and _is_migrated(using))
    return hidden if is_in_use or _are_in_another_schema(using, hidden) else []


def _is_migrated(using: str) -> bool:
    return bool(_fetch(using, "SELECT 1 FROM django_migrations WHERE app = 'evermuse_outbox' LIMIT 1"))


def _are_in_another_schema(using: str, tables: list[str]) -> bool:
    if connections[using].vendor != "postgresql" or not tables:
        return False
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM pg_class WHERE relname = ANY(%s))", [tables])
        return bool(cursor.fetchone()[0])


def _fetch(using: str, sql: str, *parameters: str) -> list[tuple[Any, ...]]:
    with connections[using].cursor() as cursor:
        cursor.execute(sql, parameters or None)
        return list(cursor.fetchall())

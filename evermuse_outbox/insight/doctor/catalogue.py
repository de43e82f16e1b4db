"""Read the columns, indexes and check constraints of a table from the catalogue of the database.

Django's introspection has no conditions of indexes and constraints, and it does not say whether they are valid. So this
module adds raw SQL for each database.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from django.db import connections

POSTGRESQL_COLUMNS = """
    SELECT attname, format_type(atttypid, atttypmod), NOT attnotnull, ''
    FROM pg_attribute a JOIN pg_class t ON t.oid = a.attrelid
    WHERE t.relname = %s AND pg_table_is_visible(t.oid) AND attnum > 0 AND NOT attisdropped"""

POSTGRESQL_CONDITIONS = """
    SELECT c.relname, i.indisvalid AND i.indisready, coalesce(pg_get_expr(i.indpred, i.indrelid), '')
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
    WHERE t.relname = %s AND pg_table_is_visible(t.oid)
    UNION ALL
    SELECT k.conname, k.convalidated, pg_get_constraintdef(k.oid)
    FROM pg_constraint k JOIN pg_class t ON t.oid = k.conrelid
    WHERE t.relname = %s AND pg_table_is_visible(t.oid) AND k.contype = 'c'"""

MYSQL_COLUMNS = """
    SELECT column_name, column_type, is_nullable = 'YES', coalesce(collation_name, '')
    FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = %s"""

MYSQL_CONDITIONS = """
    SELECT constraint_name, check_clause FROM information_schema.check_constraints
    WHERE constraint_schema = DATABASE()"""

MARIADB_COLUMN_CHECKS = """
    SELECT constraint_name, check_clause FROM information_schema.check_constraints
    WHERE constraint_schema = DATABASE() AND table_name = %s AND level = 'Column'"""

MYSQL_IGNORED = """
    SELECT DISTINCT index_name FROM information_schema.statistics
    WHERE table_schema = DATABASE() AND table_name = %s AND {} """

SQLITE_COLUMNS = "SELECT name, type, NOT \"notnull\", '' FROM pragma_table_info(%s)"
SQLITE_STATEMENTS = "SELECT type, name, sql FROM sqlite_master WHERE tbl_name = %s AND sql IS NOT NULL"


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its type as the database writes it, and its collation on MySQL and MariaDB."""

    type: str
    is_nullable: bool
    collation: str


@dataclass(frozen=True, slots=True)
class Entry:
    """An index or a constraint. ``condition`` is SQL; empty if it has none."""

    name: str
    columns: tuple[str, ...]
    is_unique: bool
    is_check: bool
    condition: str = ""
    is_valid: bool = True


@dataclass(slots=True)
class Table:
    """The columns, and the indexes and constraints by name."""

    columns: dict[str, Column]
    entries: dict[str, Entry] = field(default_factory=dict)


def read_table(using: str, table: str) -> Table | None:
    """Return what the catalogue says about a table; None if there is no such table."""
    connection: Any = connections[using]
    columns_sql = {"postgresql": POSTGRESQL_COLUMNS, "mysql": MYSQL_COLUMNS, "sqlite": SQLITE_COLUMNS}
    rows = _fetch(using, columns_sql[connection.vendor], table)
    if not rows:
        return None
    described = Table({name: Column(_text(kind), bool(null), _text(coll)) for name, kind, null, coll in rows})
    with connection.cursor() as cursor:
        constraints = connection.introspection.get_constraints(cursor, table)
    conditions = _read_conditions(using, table)
    for name, entry in constraints.items():
        is_valid, condition = conditions.get(name, (True, ""))
        is_check = bool(entry["check"])
        columns = tuple(entry["columns"] or ())
        described.entries[name] = Entry(name, columns, bool(entry["unique"]), is_check, condition, is_valid)
    if connection.vendor == "mysql" and connection.mysql_is_mariadb:
        for name, clause in _fetch(
            using, MARIADB_COLUMN_CHECKS, table
        ):  # Django's introspection loses their names
            described.entries[name] = Entry(
                name, (name,), is_unique=False, is_check=True, condition=_text(clause)
            )
    return described


def _read_conditions(using: str, table: str) -> dict[str, tuple[bool, str]]:
    """Return whether each index and check constraint is valid, and its condition."""
    match connections[using].vendor:
        case "postgresql":
            rows = _fetch(using, POSTGRESQL_CONDITIONS, table, table)
            return {name: (bool(is_valid), condition) for name, is_valid, condition in rows}
        case "mysql":
            checks = {name: (True, _text(clause)) for name, clause in _fetch(using, MYSQL_CONDITIONS)}
            return checks | dict.fromkeys(_ignored_indexes(using, table), (False, ""))
        case _:
            return _read_sqlite(using, table)


def _ignored_indexes(using: str, table: str) -> list[str]:
    """Return the indexes that the planner does not use, because they are switched off."""
    connection: Any = connections[using]
    if connection.mysql_is_mariadb and connection.mysql_version < (10, 6):
        return []
    is_ignored = "ignored = 'YES'" if connection.mysql_is_mariadb else "is_visible = 'NO'"
    return [name for (name,) in _fetch(using, MYSQL_IGNORED.format(is_ignored), table)]


def _read_sqlite(using: str, table: str) -> dict[str, tuple[bool, str]]:
    conditions = {}
    for kind, name, sql in _fetch(using, SQLITE_STATEMENTS, table):
        if kind == "index":
            conditions[name] = (True, sql.partition(" WHERE ")[2])
        for match in re.finditer(r'CONSTRAINT "(\w+)" CHECK ', sql):
            conditions[match[1]] = (True, _up_to_closing(sql[match.end() :]))
    return conditions


def _up_to_closing(sql: str) -> str:
    """Return the first expression in parentheses."""
    depth = 0
    for position, character in enumerate(sql):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return sql[: position + 1]
    return sql


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _fetch(using: str, sql: str, *parameters: str) -> list[tuple[Any, ...]]:
    with connections[using].cursor() as cursor:
        cursor.execute(sql, parameters or None)
        return list(cursor.fetchall())

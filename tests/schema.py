"""Read the schema of the outbox from a database, so that tests can compare two ways to create it."""

from __future__ import annotations

import re
from typing import Any

from django.db import connections

PREFIX = "evermuse_outbox_"

POSTGRESQL = {
    "columns": """
        SELECT table_name, column_name, data_type, character_maximum_length, is_nullable, column_default, is_identity,
               collation_name
        FROM information_schema.columns WHERE table_schema = current_schema() AND table_name LIKE %s""",
    "indexes": """
        SELECT tablename, indexname, indexdef FROM pg_indexes
        WHERE schemaname = current_schema() AND tablename LIKE %s""",
    "constraints": """
        SELECT c.relname, CASE WHEN k.conname LIKE '%%_check' THEN NULL ELSE k.conname END, pg_get_constraintdef(k.oid)
        FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
        WHERE pg_table_is_visible(c.oid) AND c.relname LIKE %s AND k.contype <> 'n'""",
    "storage parameters": """
        SELECT relname, unnest(reloptions) FROM pg_class
        WHERE pg_table_is_visible(oid) AND relname LIKE %s AND relkind = 'r'""",
    "sequences": """
        SELECT sequence_name, data_type FROM information_schema.sequences
        WHERE sequence_schema = current_schema() AND sequence_name LIKE %s""",
}
MYSQL = {
    "columns": """
        SELECT table_name, column_name, column_type, is_nullable, column_default, extra, collation_name
        FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name LIKE %s""",
    "indexes": """
        SELECT table_name, index_name, seq_in_index, column_name, non_unique, sub_part
        FROM information_schema.statistics WHERE table_schema = DATABASE() AND table_name LIKE %s""",
    "constraints": """
        SELECT table_name, constraint_name, constraint_type FROM information_schema.table_constraints
        WHERE table_schema = DATABASE() AND table_name LIKE %s AND constraint_type <> 'CHECK'""",
    "checks": """
        SELECT table_name, IF(level = 'Table', constraint_name, NULL), check_clause
        FROM information_schema.check_constraints
        WHERE constraint_schema = DATABASE() AND table_name LIKE %s""",
    "tables": """
        SELECT table_name, engine, table_collation FROM information_schema.tables
        WHERE table_schema = DATABASE() AND table_name LIKE %s""",
}


def read_schema(alias: str) -> dict[str, list[Any]]:
    """Return every part of the schema as a sorted list.

    Not part of it: the order of columns, the names that databases give to the checks of single columns, and casts that
    PostgreSQL adds to the text of a condition.
    """
    vendor = connections[alias].vendor
    if vendor == "sqlite":
        return _read_sqlite(alias)
    queries = {"postgresql": POSTGRESQL, "mysql": MYSQL}[vendor]
    return {part: _rows(alias, query, f"{PREFIX}%") for part, query in queries.items()}


def _read_sqlite(alias: str) -> dict[str, list[Any]]:
    query = "SELECT type, name, sql FROM sqlite_master WHERE tbl_name LIKE %s AND sql IS NOT NULL"
    with connections[alias].cursor() as cursor:
        cursor.execute(query, [f"{PREFIX}%"])
        rows = sorted(cursor.fetchall())
    return {
        "tables": [(name, sorted(_definitions(sql))) for kind, name, sql in rows if kind == "table"],
        "indexes": [(name, sql) for kind, name, sql in rows if kind == "index"],
    }


def _definitions(sql: str) -> list[str]:
    """Return the definitions of columns and constraints of a CREATE TABLE statement."""
    inside = sql[sql.index("(") + 1 : sql.rindex(")")]
    definitions, start, depth = [], 0, 0
    for position, character in enumerate(inside):
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            definitions.append(inside[start:position].strip())
            start = position + 1
    return [*definitions, inside[start:].strip()]


def _rows(alias: str, query: str, *parameters: Any) -> list[Any]:
    with connections[alias].cursor() as cursor:
        cursor.execute(query, parameters)
        return sorted((tuple(_without_casts(value) for value in row) for row in cursor.fetchall()), key=repr)


def _without_casts(value: Any) -> Any:
    return re.sub(r"::(character varying|text)(\[\])?|[()]", "", value) if isinstance(value, str) else value

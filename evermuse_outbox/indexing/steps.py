"""Compare the expected indexes and constraints with the catalogue of the database, and return what is left to do.

The ORM has no access to the catalogue, so the queries are raw SQL. They read no row of a table of the outbox.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from django.db import connections

from ..models import OutboxRecord
from .expected import ExpectedIndex, expected_indexes

POSTGRESQL_INDEXES = """
    SELECT c.relname, i.indisvalid AND i.indisready FROM pg_index i
    JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
    WHERE t.relname = ANY(%s) AND pg_table_is_visible(t.oid)"""

POSTGRESQL_CONSTRAINTS = """
    SELECT t.relname, k.conname FROM pg_constraint k JOIN pg_class t ON t.oid = k.conrelid
    WHERE t.relname = ANY(%s) AND pg_table_is_visible(t.oid) AND k.contype = 'c' AND NOT k.convalidated
    ORDER BY t.relname, k.conname"""

MYSQL_INDEXES = """
    SELECT DISTINCT index_name, 1 FROM information_schema.statistics
    WHERE table_schema = DATABASE() AND table_name IN %s"""

SQLITE_INDEXES = "SELECT name, 1 FROM sqlite_master WHERE type = 'index'"

Problem = Literal["missing", "not valid"]


@dataclass(frozen=True, slots=True)
class Step:
    """One index to build, or one constraint to validate.

    Attributes:
        kind: ``index`` or ``constraint``.
        name: The name of the index or constraint.
        table: Its table.
        problem: ``missing``, or ``not valid``: an interrupted build, or rows that were not checked.
        statements: The SQL, one statement after the other, each outside of a transaction.
    """

    kind: Literal["index", "constraint"]
    name: str
    table: str
    problem: Problem
    statements: tuple[str, ...]


def find_steps(using: str) -> list[Step]:
    """Return what is left to do in a database: first the indexes, then the constraints."""
    return [*_missing_indexes(using), *_unvalidated_constraints(using)]


def unbuilt_indexes(using: str) -> list[ExpectedIndex]:
    """Return the expected indexes that are missing or not valid. This costs one query of the catalogue."""
    return [each for each, _ in _compare(using)]


def is_built(using: str, name: str) -> bool:
    """Return whether an index of the table of records exists and is valid. This costs one query of the catalogue."""
    return _read_indexes(using, [OutboxRecord._meta.db_table]).get(name, False)


def _missing_indexes(using: str) -> Iterator[Step]:
    for each, problem in _compare(using):
        yield Step("index", each.name, each.table, problem, _statements(using, each, problem))


def _compare(using: str) -> Iterator[tuple[ExpectedIndex, Problem]]:
    """Yield the indexes to build, except for those of columns that only ``migrate`` adds."""
    expected = list(expected_indexes(using))
    is_valid = _read_indexes(using, sorted({each.table for each in expected}))
    for each in expected:
        if not is_valid.get(each.name) and _has_columns(using, each):
            yield each, "not valid" if each.name in is_valid else "missing"


def _has_columns(using: str, expected: ExpectedIndex) -> bool:
    introspection = connections[using].introspection
    with connections[using].cursor() as cursor:
        existing = {column.name for column in introspection.get_table_description(cursor, expected.table)}
    return existing.issuperset(expected.columns)


def _statements(using: str, expected: ExpectedIndex, problem: Problem) -> tuple[str, ...]:
    connection: Any = connections[using]
    editor = connection.SchemaEditorClass(connection, collect_sql=True)
    match connection.vendor:
        case "postgresql":
            create = str(expected.index.create_sql(expected.model, editor, concurrently=True))
            drop = f"DROP INDEX CONCURRENTLY IF EXISTS {editor.quote_name(expected.name)}"
            return (drop, create) if problem == "not valid" else (create,)
        case "mysql":
            # A table with this algorithm is neither copied nor locked. If the server cannot do so, it refuses.
            algorithm = "NOCOPY" if connection.mysql_is_mariadb else "INPLACE"
            create = str(expected.index.create_sql(expected.model, editor))
            return (f"{create} ALGORITHM={algorithm} LOCK=NONE",)
        case _:
            return (str(expected.index.create_sql(expected.model, editor)),)


def _unvalidated_constraints(using: str) -> Iterator[Step]:
    if connections[using].vendor != "postgresql":
        return
    tables = sorted({each.table for each in expected_indexes(using)})
    quote = connections[using].ops.quote_name
    for table, name in _fetch(using, POSTGRESQL_CONSTRAINTS, tables):
        statement = f"ALTER TABLE {quote(table)} VALIDATE CONSTRAINT {quote(name)}"
        yield Step("constraint", name, table, "not valid", (statement,))


def _read_indexes(using: str, tables: list[str]) -> dict[str, bool]:
    """Return name → whether the index is valid, for the indexes of these tables."""
    if not tables:  # before the first migration
        return {}
    match connections[using].vendor:
        case "postgresql":
            rows = _fetch(using, POSTGRESQL_INDEXES, tables)
        case "mysql":
            rows = _fetch(using, MYSQL_INDEXES, tuple(tables))
        case _:
            rows = _fetch(using, SQLITE_INDEXES)
    return {str(name): bool(is_valid) for name, is_valid in rows}


def _fetch(using: str, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with connections[using].cursor() as cursor:
        cursor.execute(sql, parameters or None)
        return list(cursor.fetchall())

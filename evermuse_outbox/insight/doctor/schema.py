"""Compare the tables with the models: columns, indexes and constraints."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.db import connections, models

from ...indexing import ExpectedIndex, expected_indexes
from ...models.columns import exact_collation
from .catalogue import Entry, Table, read_table
from .finding import Finding

GROUP = ("workspace", "type", "product_id")
EXACT = {
    "OutboxRecord": GROUP,
    "OutboxBatch": GROUP,
    "OutboxGroup": GROUP,
    "OutboxWorkspace": ("name",),
}
"""Columns that MySQL and MariaDB must compare exactly. In all other tables, it is the column ``workspace``."""

BINARY = "_bin"
"""End of the name of a collation that compares exactly."""

SYNONYMS = (
    (r"\bvarchar\b", "character varying"),
    (r"\binteger\b|\bint\b", "int"),
    (r"\b(tinyint|smallint|int|bigint)\(\d+\)", r"\1"),  # a display width
    (r"\bbool\b|\bboolean\b|\btinyint\b", "bool"),
    (r"\bdouble precision\b|\bdouble\b", "double"),
    (r"\bjson\b", "longtext"),  # MariaDB has no type JSON
    (r"\bauto_increment\b", ""),  # no part of the type
)
"""Names of types that mean the same."""


def examine_schema(using: str) -> Iterator[Finding]:
    """Yield what is missing, altered or invalid in the tables of a database."""
    expected = list(expected_indexes(using))
    for model in apps.get_app_config("evermuse_outbox").get_models():
        if not model._meta.managed:
            continue
        table = read_table(using, model._meta.db_table)
        if table is None:
            yield Finding("schema", using, f"The table {model._meta.db_table} is missing.", RESTORE)
        else:
            yield from _Examined(using, model, table, expected).findings()


RESTORE = (
    "The migrations are recorded as applied, so the table was removed later: restore a backup, or migrate "
    "evermuse_outbox to zero and again on an outbox without records."
)


@dataclass(frozen=True, slots=True)
class _Examined:
    """A table and the model that it should be like."""

    using: str
    model: type[models.Model]
    table: Table
    expected: Sequence[ExpectedIndex]

    @property
    def connection(self) -> Any:
        return connections[self.using]

    @property
    def editor(self) -> Any:
        """Builds statements, and executes none of them."""
        return self.connection.SchemaEditorClass(self.connection, collect_sql=True)

    def findings(self) -> Iterator[Finding]:
        yield from self._columns()
        yield from self._indexes()
        yield from self._constraints()

    def _fields(self) -> Sequence[Any]:
        return self.model._meta.concrete_fields

    def _finding(self, problem: str, remedy: str) -> Finding:
        return Finding("schema", f"{self.using}: {self.model._meta.db_table}", problem, remedy)

    # --- columns ----------------------------------------------------------------------------------

    def _columns(self) -> Iterator[Finding]:
        for field in self._fields():
            column = self.table.columns.get(field.column)
            if column is None:
                definition = self.editor.column_sql(self.model, field)[0]
                yield self._finding(
                    f"The column {field.column} is missing.",
                    f"{self._alter()} ADD COLUMN {field.column} {definition};",
                )
                continue
            expected = field.db_type(self.connection) or ""
            if _plain_type(column.type) != _plain_type(expected):
                yield self._finding(
                    f"The column {field.column} is {column.type}, and should be {expected}.",
                    self._modify(field),
                )
            if column.is_nullable != field.null and not field.primary_key:
                should = "allow" if field.null else "refuse"
                yield self._finding(f"The column {field.column} should {should} NULL.", self._modify(field))
            if self._must_be_exact(field) and not column.collation.endswith(BINARY):
                yield self._finding(
                    f"The column {field.column} has the collation {column.collation}, which takes different names "
                    "for the same one.",
                    f"Modify it to COLLATE {self._exact_collation()}, with its type {expected} and NOT NULL.",
                )

    def _modify(self, field: Any) -> str:
        definition = self.editor.column_sql(self.model, field)[0]
        return f"Alter the column to: {field.column} {definition}. Read the migrations for the reason."

    def _must_be_exact(self, field: Any) -> bool:
        if self.connection.vendor != "mysql":
            return False
        return field.column in EXACT.get(self.model.__name__, ("workspace",))

    def _exact_collation(self) -> str:
        return exact_collation(self.using)

    def _alter(self) -> str:
        return f"ALTER TABLE {self.model._meta.db_table}"

    # --- indexes ----------------------------------------------------------------------------------

    def _indexes(self) -> Iterator[Finding]:
        for expected in self.expected:
            if expected.model is self.model:
                statement = str(expected.index.create_sql(self.model, self.editor))
                yield from self._named(expected.name, expected.columns, statement)
        for field in self._fields():
            if (field.db_index or field.unique) and not field.primary_key and not self._is_indexed(field):
                kind = "unique constraint" if field.unique else "index"
                yield self._finding(
                    f"There is no {kind} on the column {field.column}.", self._index_statement(field)
                )

    def _named(self, name: str, columns: tuple[str, ...], statement: str) -> Iterator[Finding]:
        entry = self.table.entries.get(name)
        if entry is None:
            yield self._finding(f"The index {name} is missing.", self._build())
        elif entry.columns != columns or _essence(entry.condition) != _essence(
            statement.partition(" WHERE ")[2]
        ):
            yield self._finding(
                f"The index {name} is not the one of the model.", f"DROP INDEX {name}, then: {statement};"
            )
        elif not entry.is_valid:
            yield self._finding(
                f"The index {name} is not valid, so no query uses it.", self._revalidate(name)
            )

    def _build(self) -> str:
        return f"manage.py outbox_indexes --database {self.using}"

    def _revalidate(self, name: str) -> str:
        if self.connection.vendor == "postgresql":
            return self._build()
        return f"{self._alter()} ALTER INDEX {name} {'NOT IGNORED' if self.connection.mysql_is_mariadb else 'VISIBLE'};"

    def _is_indexed(self, field: Any) -> bool:
        entries = [entry for entry in self.table.entries.values() if not entry.is_check and entry.is_valid]
        return any(
            entry.columns[:1] == (field.column,) and not entry.condition and self._fits(entry, field)
            for entry in entries
        )

    @staticmethod
    def _fits(entry: Entry, field: Any) -> bool:
        return not field.unique or (entry.is_unique and len(entry.columns) == 1)

    def _index_statement(self, field: Any) -> str:
        unique = "UNIQUE " if field.unique else ""
        return f"CREATE {unique}INDEX ON {self.model._meta.db_table} ({field.column}), with a name of your choice."

    # --- constraints ------------------------------------------------------------------------------

    def _constraints(self) -> Iterator[Finding]:
        for constraint in self.model._meta.constraints:
            statement = str(constraint.create_sql(self.model, self.editor))
            entry = self.table.entries.get(constraint.name) or self._constraint_of_column(statement)
            if entry is None:
                yield self._finding(f"The constraint {constraint.name} is missing.", self._add(statement))
            elif entry.is_check and _essence(entry.condition) != _essence(statement.partition(" CHECK ")[2]):
                yield self._finding(
                    f"The constraint {constraint.name} is not the one of the model.",
                    f"Drop it, then: {self._add(statement)}",
                )
            elif not entry.is_valid:
                yield self._finding(
                    f"The constraint {constraint.name} was not checked for the rows that existed before.",
                    self._build(),
                )

    def _constraint_of_column(self, statement: str) -> Entry | None:
        """Return the constraint of a column with this condition: MariaDB adds it to a large table without a copy."""
        condition = _essence(statement.partition(" CHECK ")[2])
        entries = (entry for name, entry in self.table.entries.items() if name in self.table.columns)
        return next(
            (entry for entry in entries if entry.is_check and _essence(entry.condition) == condition), None
        )

    def _add(self, statement: str) -> str:
        if self.connection.vendor == "sqlite":
            return "SQLite cannot add a constraint to a table: copy the rows into a new table that the migrations made."
        return f"{statement};"


def _plain_type(name: str) -> str:
    """Return a name of a type that is the same in all spellings."""
    name = name.lower()
    for pattern, replacement in SYNONYMS:
        name = re.sub(pattern, replacement, name)
    return " ".join(name.split())


def _essence(condition: str) -> tuple[list[str], list[tuple[str, bool]]]:
    """Return the texts in a condition, and which columns it compares with NULL.

    Databases rewrite conditions: casts, parentheses, and ``= ANY`` in place of ``IN``. These two stay.
    """
    condition = condition.replace("\\'", "'")
    compared = re.findall(r"(\w+)[`\")]*\s+is\s+(not\s+)?null", condition, re.IGNORECASE)
    texts = re.findall(r"'([^']*)'", condition)
    return sorted(texts), sorted((column, bool(negated)) for column, negated in compared)

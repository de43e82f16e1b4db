"""Conditions and settings that lead a query planner to the intended index.

A queue changes faster than its statistics. Yesterday all rows of a table were delivered, and now all are pending. A
new table has no statistics at all. A planner that trusts them reads a million pending rows to find a thousand ids.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from django.db import connections
from django.db.models import BooleanField, CharField, DateTimeField, F, Func, Q, Value
from django.db.models.functions import Coalesce
from django.db.models.lookups import Exact, In

ROWS_PER_STATEMENT = 500
"""Maximum number of rows in one statement. Old versions of SQLite allow 999 parameters."""


class ById(In):
    """A lookup: the id is in a collection.

    On PostgreSQL the ids are sent as one array. An IN list of a thousand parameters takes many times longer to build
    and to parse.
    """

    def get_prep_lookup(self) -> Any:
        """Return the ids, which need no conversion."""
        return self.rhs

    def as_postgresql(self, compiler: Any, connection: Any) -> Any:
        """Return ``= ANY(array)``."""
        left, parameters = self.process_lhs(compiler, connection)
        return f"{left} = ANY(%s::bigint[])", [*parameters, f"{{{','.join(map(str, self.rhs))}}}"]


def by_id(pks: Collection[int]) -> ById:
    """Return the condition that the primary key is one of ``pks``."""
    return ById(F("pk"), pks)


def is_null_unindexed(field: str, *, never: Any) -> Q:
    """Return ``field IS NULL``, written so that no partial index matches it.

    Use it for rows that are found by id or identity. Otherwise a planner may read a complete partial index to find
    them. ``never`` is a value of the field's type that the field never has.
    """
    return Q(Exact(Coalesce(F(field), Value(never)), Value(never)))


def as_datetime(using: str, value: Any) -> datetime:
    """Return a datetime of a row that was read without conversion, as the driver returned it."""
    connection = connections[using]
    column: Any = Value(None, DateTimeField())
    for convert in connection.ops.get_db_converters(column):
        value = convert(value, column, connection)
    converted: datetime = value
    return converted


def is_after(field: str, at: datetime, pk: int) -> Q:
    """Return the condition that a row comes after the row ``(at, pk)`` in the order of ``field`` and id.

    Every database finds the first of these rows by an index on ``field``.
    """
    return Q(**{f"{field}__gte": at}) & ~Q(**{field: at, "pk__lte": pk})


class NotBefore(Func):
    """``(field, id) >= (at, pk)`` as one comparison of rows.

    PostgreSQL finds the first row by an index that ends with both columns, even if thousands of rows share a time.
    """

    output_field = BooleanField()

    def __init__(self, field: str, at: datetime, pk: int) -> None:
        super().__init__(F(field), F("pk"), Value(at, DateTimeField()), Value(pk))

    def as_sql(self, compiler: Any, connection: Any, **context: Any) -> Any:  # type: ignore[override]
        """Return the comparison of rows."""
        compiled = [compiler.compile(expression) for expression in self.get_source_expressions()]
        field, pk, at, given_pk = (sql for sql, _ in compiled)
        parameters = [parameter for _, values in compiled for parameter in values]
        return f"({field}, {pk}) >= ({at}, {given_pk})", parameters


class WithoutJit(Func):
    """A column that disables PostgreSQL's JIT compiler until the transaction ends, as :func:`disable_jit` does.

    It is for a transaction that begins with a read, so that it needs no statement of its own.
    """

    output_field = CharField()
    template = "''"

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        """Return the SQL for PostgreSQL."""
        return self.as_sql(compiler, connection, template="set_config('jit', 'off', true)")


def disable_jit(using: str) -> None:
    """Disable PostgreSQL's JIT compiler until the transaction ends.

    Without statistics, PostgreSQL expects millions of rows and compiles for 200 ms what runs for 5 ms. The ORM has no
    SET LOCAL, so this is raw SQL.
    """
    if connections[using].vendor == "postgresql":
        with connections[using].cursor() as cursor:
            cursor.execute("SET LOCAL jit = off")

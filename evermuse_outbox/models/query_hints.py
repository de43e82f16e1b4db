"""What leads a planner to the index that is meant, whatever it knows of the table.

A queue changes faster than its statistics: a table that was all delivered yesterday is all pending now, and a new
one has no statistics at all. A planner that trusts them walks a million pending rows to find a thousand by their ids.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from django.db import connections
from django.db.models import BooleanField, DateTimeField, F, Func, Q, Value
from django.db.models.functions import Coalesce
from django.db.models.lookups import Exact, In


class ById(In):
    """The primary key is one of these. Where arrays are known (PostgreSQL), they go as one parameter, which costs a
    fraction of a thousand to write and to read."""

    def get_prep_lookup(self) -> Any:
        return self.rhs  # ids already

    def as_postgresql(self, compiler: Any, connection: Any) -> Any:
        left, parameters = self.process_lhs(compiler, connection)
        return f"{left} = ANY(%s::bigint[])", [*parameters, f"{{{','.join(map(str, self.rhs))}}}"]


def by_id(pks: Collection[int]) -> ById:
    """The rows with these ids, found by the primary key."""
    return ById(F("pk"), pks)


def unset(field: str, *, never: Any) -> Q:
    """``field IS NULL``, said so that no partial index is taken for a way to these rows. ``never`` is a value of its
    type that it never has."""
    return Q(Exact(Coalesce(F(field), Value(never)), Value(never)))


def behind(moment: str, at: datetime, pk: int) -> Q:
    """The rows behind one with that moment and id, in the order of both: every database finds their beginning."""
    return Q(**{f"{moment}__gte": at}) & ~Q(**{moment: at, "pk__lte": pk})


class NotBefore(Func):
    """``(moment, id) >= (given moment, given id)`` as one comparison of rows, which PostgreSQL finds by an index that
    ends with both: also where thousands have the same moment."""

    output_field = BooleanField()

    def __init__(self, moment: str, at: datetime, pk: int) -> None:
        super().__init__(F(moment), F("pk"), Value(at, DateTimeField()), Value(pk))

    def as_sql(self, compiler: Any, connection: Any, **context: Any) -> Any:  # type: ignore[override]
        compiled = [compiler.compile(part) for part in self.get_source_expressions()]
        moment, pk, at, given = (sql for sql, _ in compiled)
        return f"({moment}, {pk}) >= ({at}, {given})", [each for _, told in compiled for each in told]


def no_jit(using: str) -> None:
    """Until the transaction ends, PostgreSQL compiles no query: where it has no statistics yet it expects millions of
    rows, and spends 200 ms on compiling what runs for 5."""
    if connections[using].vendor == "postgresql":
        with connections[using].cursor() as cursor:
            cursor.execute("SET LOCAL jit = off")

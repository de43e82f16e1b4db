"""The indexes that a database should have: those of the models, and the conditional ones that are wanted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.db import connections, models

from ..models.indexes import PartialIndex
from .conditional import CONDITIONAL_INDEXES, ConditionalIndex

APP = "evermuse_outbox"


@dataclass(frozen=True, slots=True)
class ExpectedIndex:
    """An index that a database should have. ``fields`` are those of this database."""

    model: type[models.Model]
    index: models.Index
    fields: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of the index."""
        return self.index.name

    @property
    def table(self) -> str:
        """The table of the index."""
        return self.model._meta.db_table

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the index."""
        by_name = {field.name: str(field.column) for field in self.model._meta.concrete_fields}
        return tuple(by_name[name] for name in self.fields)


def expected_indexes(using: str) -> Iterator[ExpectedIndex]:
    """Yield the named indexes of the tables that exist, in the order of their models.

    The conditions may read any table. Until ``migrate`` has created all of them, no conditional index is wanted.
    """
    connection = connections[using]
    with connection.cursor() as cursor:
        existing = set(connection.introspection.table_names(cursor))
    models_of_app = [model for model in apps.get_app_config(APP).get_models() if model._meta.managed]
    for model in models_of_app:
        for index in model._meta.indexes if model._meta.db_table in existing else ():
            if fields := _fields_on(connection, index):
                yield ExpectedIndex(model, index, fields)
    if not existing.issuperset(model._meta.db_table for model in models_of_app):
        return
    for entry in CONDITIONAL_INDEXES:
        fields = _fields_on(connection, entry.index)
        if fields and entry.is_wanted(using):
            yield ExpectedIndex(apps.get_model(APP, entry.model), entry.index, fields)


def unwanted_indexes(using: str) -> list[ConditionalIndex]:
    """Return the conditional indexes that this database does not need now."""
    names = {each.name for each in expected_indexes(using)}
    return [entry for entry in CONDITIONAL_INDEXES if entry.index.name not in names]


def _fields_on(connection: Any, index: models.Index) -> tuple[str, ...]:
    """Return the fields of the index in this database; none if the database gets no such index."""
    names = index.columns_on(connection) if isinstance(index, PartialIndex) else tuple(index.fields)
    return tuple(name.lstrip("-") for name in names)

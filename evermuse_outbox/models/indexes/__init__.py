"""Indexes on the rows that meet a condition, for every database, and changes of large tables without a long lock.

Most queries of a worker look for the few open rows of a large table. A partial index contains only these.
The package knows no model. Its interface is :class:`PartialIndex`, :class:`AddIndexOnline` and
:class:`ReplaceCheckOnline`, which migrations name by this path.
"""

from __future__ import annotations

from typing import Any

from django.db import models

from .checks import ReplaceCheckOnline
from .online import AddIndexOnline

__all__ = ["AddIndexOnline", "PartialIndex", "ReplaceCheckOnline"]

NOTHING = "DO 0"
"""The schema editor needs a statement to run; in MySQL and MariaDB this one does nothing."""


class PartialIndex(models.Index):
    """A partial index, or a full index if the database has no partial ones (MySQL, MariaDB).

    ``where`` is the condition. ``instead`` names the fields of the full index; if it is empty, there is none. They
    usually begin with the columns of the condition, so that the rows that meet it are neighbours in the index.
    """

    def __init__(self, *, where: models.Q, instead: tuple[str, ...] | list[str] = (), **options: Any) -> None:
        self.where = where
        self.instead = tuple(instead)
        super().__init__(**options)

    def deconstruct(self) -> Any:
        """Return what a migration needs to build the same index."""
        path, expressions, options = super().deconstruct()
        return path, expressions, options | {"where": self.where, "instead": self.instead}

    def columns_on(self, connection: Any) -> tuple[str, ...]:
        """Return the fields of the index in this database; none if the database gets no such index."""
        return tuple(self.fields) if connection.features.supports_partial_indexes else self.instead

    def create_sql(self, model: Any, schema_editor: Any, using: str = "", **options: Any) -> Any:
        """Return the CREATE INDEX statement for the database."""
        if schema_editor.connection.features.supports_partial_indexes:
            index = models.Index(fields=self.fields, name=self.name, condition=self.where)
        elif self.instead:
            index = models.Index(fields=self.instead, name=self.name)
        else:
            return NOTHING
        return index.create_sql(model, schema_editor, using, **options)

    def remove_sql(self, model: Any, schema_editor: Any, **options: Any) -> Any:
        """Return the DROP INDEX statement for the database."""
        if self.instead or schema_editor.connection.features.supports_partial_indexes:
            return super().remove_sql(model, schema_editor, **options)
        return NOTHING

"""An index over the few rows that are open, on every database."""

from __future__ import annotations

from typing import Any

from django.db import models

NOTHING = "DO 0"
"""The schema editor runs whatever it is given: in MySQL and MariaDB this does nothing."""


class PartialIndex(models.Index):
    """A partial index, and where the database has none (MySQL, MariaDB) a full one in its place.

    ``where`` is the condition. ``instead`` names the fields of the full index: usually the columns of
    the condition first, so that the open rows stand together in it; empty makes no index there.
    """

    def __init__(self, *, where: models.Q, instead: tuple[str, ...] | list[str] = (), **options: Any) -> None:
        self.where = where
        self.instead = tuple(instead)
        super().__init__(**options)

    def deconstruct(self) -> Any:
        path, expressions, options = super().deconstruct()
        return path, expressions, options | {"where": self.where, "instead": self.instead}

    def create_sql(self, model: Any, schema_editor: Any, using: str = "", **options: Any) -> Any:
        if schema_editor.connection.features.supports_partial_indexes:
            made = models.Index(fields=self.fields, name=self.name, condition=self.where)
        elif self.instead:
            made = models.Index(fields=self.instead, name=self.name)
        else:
            return NOTHING
        return made.create_sql(model, schema_editor, using, **options)

    def remove_sql(self, model: Any, schema_editor: Any, **options: Any) -> Any:
        if self.instead or schema_editor.connection.features.supports_partial_indexes:
            return super().remove_sql(model, schema_editor, **options)
        return NOTHING

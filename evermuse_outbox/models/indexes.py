"""An index over the few rows that are open, on every database."""

from __future__ import annotations

from typing import Any

from django.db import models


class PartialIndex(models.Index):
    """A partial index, and where the database has none (MySQL, MariaDB) a full one in its place.

    ``instead`` names the fields of that full index: usually the columns of the condition first, so
    that the open rows stand together in it. An empty ``instead`` makes no index there.
    """

    def __init__(self, *, instead: tuple[str, ...] | list[str] = (), **options: Any) -> None:
        self.instead = tuple(instead)
        super().__init__(**options)

    def deconstruct(self) -> Any:
        path, expressions, options = super().deconstruct()
        return path, expressions, options | {"instead": self.instead}

    def create_sql(self, model: Any, schema_editor: Any, using: str = "", **options: Any) -> Any:
        if schema_editor.connection.features.supports_partial_indexes:
            return super().create_sql(model, schema_editor, using=using, **options)
        if not self.instead:
            return "DO 0"  # the schema editor runs whatever it is given: this does nothing
        return models.Index(fields=self.instead, name=self.name).create_sql(
            model, schema_editor, using, **options
        )

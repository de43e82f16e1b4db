"""Columns that only take text which passed the gate. So no writer can forget it.

The gate works at the last step before the database, for INSERT, UPDATE and bulk operations. A migration sees Django's
field, because the column is the same.
"""

from __future__ import annotations

from typing import Any

from django.db import models

from ...foreign_text import clean_text
from .stored_text import storable


class _Gated:
    """Clean the value of a column of text. Line breaks stay if the column has no maximum length."""

    max_length: int | None

    def get_prep_value(self, value: Any) -> Any:
        """Return the cleaned text."""
        text = super().get_prep_value(value)  # type: ignore[misc]
        if not isinstance(text, str):
            return text
        return clean_text(text, self.max_length, keep_lines=self.max_length is None)

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        """Return the text without characters that the column cannot store, because an answer must not be lost."""
        text = super().get_db_prep_value(value, connection, prepared)  # type: ignore[misc]
        if connection.vendor != "mysql" or not isinstance(text, str) or text.isascii():
            return text
        return storable(text, connection.alias, self.model._meta.db_table, self.column)  # type: ignore[attr-defined]

    def deconstruct(self) -> tuple[str, str, Any, Any]:
        """Return Django's field for migrations."""
        name, _, arguments, options = super().deconstruct()  # type: ignore[misc]
        return name, f"django.db.models.{type(self).__name__.removeprefix('Foreign')}", arguments, options


class ForeignCharField(_Gated, models.CharField):  # type: ignore[type-arg]
    """A ``CharField`` for foreign text, in one line."""


class ForeignTextField(_Gated, models.TextField):  # type: ignore[type-arg]
    """A ``TextField`` for foreign text. Several messages are separated by line breaks."""


class ForeignJSONField(_Gated, models.JSONField):
    """A ``JSONField`` in which every text is foreign."""

    def get_prep_value(self, value: Any) -> Any:
        """Return the value with cleaned texts."""
        return _clean_json(models.JSONField.get_prep_value(self, value))


def _clean_json(value: Any) -> Any:
    if isinstance(value, str):
        return clean_text(value, keep_lines=True)
    if isinstance(value, dict):
        return {name: _clean_json(item) for name, item in value.items()}
    return [_clean_json(item) for item in value] if isinstance(value, list | tuple) else value

"""The SHA-256 of a text, calculated in the database."""

from __future__ import annotations

from typing import Any

from django.db.models import functions


class Sha256(functions.SHA256):
    """The SHA-256 of a text in UTF-8, in hexadecimal.

    Django's function needs the extension pgcrypto on PostgreSQL. This one uses PostgreSQL's built-in ``sha256``.
    """

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        """Return the expression for PostgreSQL."""
        template = "encode(sha256(convert_to(%(expressions)s, 'UTF8')), 'hex')"
        return self.as_sql(compiler, connection, template=template, **context)

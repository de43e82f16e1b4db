"""The column of the stored line: a ``TextField`` that decrypts, in every query, what is encrypted.

A ciphertext is bound to the identity of its record. A converter of Django gets one value only, so a SELECT of this
column returns the identity in front of it. Conditions and UPDATEs see the stored form.
"""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import F, Func
from django.db.models.expressions import Col

from ...encryption import PREFIX, is_on
from .keyring import decrypt_line

MAX_HEAD_READ = 65_536
"""Characters of the longest encrypted line that is decrypted for its first characters."""


class PayloadField(models.TextField):  # type: ignore[type-arg]
    """The column of the stored line. Without ENCRYPTION_KEYS, no converter runs."""

    def get_col(self, alias: str, output_field: Any = None) -> Any:
        """Return the column, whose SELECT is bound to the identity."""
        return _PayloadCol(alias, self, output_field)

    def get_db_converters(self, connection: Any) -> list[Any]:
        """Return the decryption, if the settings have keys."""
        return [_read_bound] if is_on() else []

    def deconstruct(self) -> tuple[str, str, Any, Any]:
        """Return Django's field for migrations, because the column is the same."""
        name, _, arguments, options = super().deconstruct()
        return name, "django.db.models.TextField", arguments, options


class BoundPayload(Func):
    """The line inside of another expression, such as a CASE. That one needs ``output_field=PayloadField()``."""

    def __init__(self, *expressions: Any, **extra: Any) -> None:
        super().__init__(
            *(expressions or (F("payload"), F("identity"))), output_field=PayloadField(), **extra
        )

    def as_sql(self, compiler: Any, connection: Any, *_arguments: Any, **context: Any) -> Any:
        """Return the column, with the identity in front of it if the settings have keys."""
        (payload, parameters), (identity, _) = map(compiler.compile, self.source_expressions)
        return (_bind(connection, payload, identity) if is_on() else payload), parameters


class PayloadHead(Func):
    """The first characters of the line; None if it is encrypted and too long to be decrypted for them."""

    def __init__(self, length: int, *expressions: Any, **extra: Any) -> None:
        self.length = length
        field = _HeadField(length)
        super().__init__(*(expressions or (F("payload"), F("identity"))), output_field=field, **extra)

    def as_sql(self, compiler: Any, connection: Any, *_arguments: Any, **context: Any) -> Any:
        """Return ``SUBSTR``, or the bound line if the settings have keys and it is short enough."""
        (payload, parameters), (identity, _) = map(compiler.compile, self.source_expressions)
        head = (
            f"{'SUBSTR' if connection.vendor == 'sqlite' else 'SUBSTRING'}({payload}, 1, {int(self.length)})"
        )
        if not is_on():
            return head, parameters
        return (
            f"CASE WHEN {payload} NOT LIKE '{PREFIX}%%' THEN {_bind(connection, head, identity)} "
            f"WHEN LENGTH({payload}) <= {MAX_HEAD_READ} THEN {_bind(connection, payload, identity)} END"
        ), parameters


class _HeadField(PayloadField):
    """The converter of :class:`PayloadHead`."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length

    def get_db_converters(self, connection: Any) -> list[Any]:
        """Return the decryption and the cut, if the settings have keys."""
        converters = super().get_db_converters(connection)
        return [*converters, self._cut] if converters else []

    def _cut(self, value: str | None, expression: Any, connection: Any) -> str | None:
        return value if value is None or len(value) <= self.length else value[: self.length]


class _PayloadCol(Col):
    """The column. Only a SELECT binds it to the identity."""

    def select_format(self, compiler: Any, sql: str, params: Any) -> Any:
        """Return the column with the identity in front of it, if the settings have keys."""
        if not is_on():
            return sql, params
        quote = compiler.connection.ops.quote_name
        identity = f"{quote(self.alias)}.{quote('identity')}"
        return _bind(compiler.connection, sql, identity), params


def _bind(connection: Any, payload: str, identity: str) -> str:
    """Return SQL for the identity, a space and the payload."""
    if connection.vendor == "mysql":
        return f"CONCAT({identity}, ' ', {payload})"
    return f"({identity}{'::text' if connection.vendor == 'postgresql' else ''} || ' ' || {payload})"


def _read_bound(value: str | None, expression: Any, connection: Any) -> str | None:  # noqa: ARG001 -- of Django
    """Return the line of a selected value: identity, space, payload."""
    if value is None:
        return None
    identity, _, payload = value.partition(" ")
    if not payload.startswith(PREFIX):
        return payload
    return decrypt_line(connection.alias, identity.replace("-", ""), payload)

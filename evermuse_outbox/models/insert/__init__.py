"""Insert new records with statements that are built once for each process.

``save()`` and ``bulk_create`` build their statement anew for each row and ask each field for its value. That costs a
host about as much as the INSERT itself (``benchmarks/enqueue.py``). So this package writes SQL: ``postgresql`` for
PostgreSQL, ``values`` for MySQL, MariaDB and SQLite. ``orm`` serves every other database.

This package must not validate records or open transactions, and it sends no signals. All statements go through Django's
cursors, so execute wrappers see them and errors are Django's. Public interface: :func:`insert` and :func:`insert_many`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from django.db import connections, transaction

from ...encryption import is_on
from ...evermuse.records import Envelope
from ...tracing import current_traceparent
from .. import OutboxRecord
from ..payloads import NewLine, encrypt_lines
from . import orm, postgresql, values
from .rows import NO_EXTRAS, Extras, ManyExtras, as_record, make_row

__all__ = ["NO_EXTRAS", "Extras", "ManyExtras", "insert", "insert_many"]

SQL = {"postgresql": postgresql, "mysql": values, "sqlite": values}
"""Vendor of a connection → module with its statements. Django calls MariaDB ``mysql``."""

_Extras = TypeVar("_Extras", Extras, ManyExtras)


def insert(
    using: str, workspace: str, contract: str, envelope: Envelope, extras: Extras = NO_EXTRAS
) -> OutboxRecord:
    """Insert one record with one statement and no savepoint; return it with its id and the database's time.

    As after ``save()``, an error inside of ``atomic`` marks that block for rollback.
    """
    connection, extras = connections[using], _with_trace(extras)
    statements, line = SQL.get(connection.vendor), envelope.line
    if is_on():
        (envelope,) = _encrypt(using, workspace, [envelope], extras)
    if statements is None:
        record = orm.insert_row(using, workspace, contract, envelope, extras)
        record.payload = line
        return record
    row = make_row(workspace, contract, envelope, extras)
    try:
        with connection.cursor() as cursor:
            pk, enqueued_at = statements.insert_row(cursor, connection, row, tuple(extras))
    except Exception:
        # Not around the INSERT, because entering it costs every record 2 % of its time.
        with transaction.mark_for_rollback_on_error(using=using):
            raise
    record = as_record(using, pk, row, extras, envelope.identity, enqueued_at)
    record.payload = line
    return record


def insert_many(
    using: str,
    workspace: str,
    contract: str,
    envelopes: Sequence[Envelope],
    extras: ManyExtras = NO_EXTRAS,
    *,
    returns_ids: bool = False,
) -> list[int]:
    """Insert records with ascending ids in the given order. The highest id is the latest version.

    Call it in a transaction, because some drivers send the rows in several statements. Return the ids in that order if
    ``returns_ids`` is true, else nothing: most callers do not need them, and they cost time.
    """
    connection, extras = connections[using], _with_trace(extras)
    statements = SQL.get(connection.vendor)
    if is_on():
        envelopes = _encrypt(using, workspace, envelopes, extras)
    if statements is None:
        return orm.insert_rows(using, workspace, contract, envelopes, extras)
    with transaction.mark_for_rollback_on_error(using=using), connection.cursor() as cursor:
        insert_rows = partial(statements.insert_rows, returns_ids=returns_ids)
        pks: list[int] = insert_rows(cursor, connection, workspace, contract, envelopes, extras)
        return pks


def _encrypt(using: str, workspace: str, envelopes: Sequence[Envelope], extras: ManyExtras) -> list[Envelope]:
    """Return the envelopes with encrypted lines."""
    given: Any = extras.get("label_set_id")
    label_sets = given if isinstance(given, Sequence) else [given] * len(envelopes)
    pairs = zip(envelopes, label_sets, strict=True)
    new = [NewLine(each.identity, label_set, each.line) for each, label_set in pairs]
    lines = encrypt_lines(using, workspace, new)
    return [replace(each, line=line) for each, line in zip(envelopes, lines, strict=True)]


def _with_trace(extras: _Extras) -> _Extras:
    """Return the extras with the trace that is active now, if there is one."""
    trace_context = current_traceparent()
    return extras if trace_context is None else {**extras, "trace_context": trace_context}

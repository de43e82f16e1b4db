"""The host's door: records go in here, inside the host's own transaction.

::

    from django.db import transaction
    from evermuse_outbox import outbox

    with transaction.atomic():
        message.save()
        outbox.enqueue({"_type": "message", …})

What is enqueued leaves if, and only if, that transaction commits. Nothing here talks to anybody but the
database; after the commit, workers are told that there is something to do, and if they cannot be told
they find it by themselves a moment later.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeAlias

from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.db import router, transaction
from django.utils import timezone

from .conf import DEFAULT_WORKSPACE, SETTING, get_settings
from .evermuse.errors import FieldError, InvalidRecord
from .evermuse.records.validation import Envelope, Record, validate
from .models import OutboxRecord
from .models.insert import insert, insert_many
from .wakeup import wake_workers_on_commit

__all__ = ["InvalidRecord", "Record", "aenqueue", "aenqueue_many", "enqueue", "enqueue_many"]

CHUNK = 1_000
"""Records that one INSERT of :func:`enqueue_many` holds at most."""

CHUNK_BYTES = 8_000_000
"""Bytes of lines that one INSERT holds at most, so that large records do not pile up in memory."""

AnyRecord: TypeAlias = "Mapping[str, Any] | Record"


def enqueue(
    record: AnyRecord, *, using: str | None = None, workspace: str = DEFAULT_WORKSPACE
) -> OutboxRecord:
    """Validates ``record`` and inserts it, in whatever transaction is open on the database.

    ``using`` is a database alias (by default the router's choice for :class:`OutboxRecord`), ``workspace``
    a name from the settings. One INSERT, no savepoint, no other I/O, and no ``post_save``.

    Raises :class:`InvalidRecord`, a Django ``ValidationError`` that names every wrong field at once;
    ``ImproperlyConfigured`` for a workspace or a database that no worker looks after; and whatever the
    database raises, so that the host's change and the record roll back together.
    """
    alias = _alias(using)
    contract = _contract(workspace)
    envelope = validate(record, contract=contract, workspace=workspace)
    row = insert(alias, workspace, contract, envelope, timezone.now())
    wake_workers_on_commit(alias, workspace)
    return row


def enqueue_many(
    records: Iterable[AnyRecord], *, using: str | None = None, workspace: str = DEFAULT_WORKSPACE
) -> int:
    """Validates and inserts ``records`` as they come, all or nothing; returns how many.

    The iterable is read once and never held whole. An :class:`InvalidRecord` names all wrong fields of
    the first wrong record and of the thousand behind it, each path behind the record's position:
    ``[17]._type``. Then nothing of this call stays, also where the caller catches the error and goes on
    with its transaction.
    """
    alias = _alias(using)
    contract = _contract(workspace)
    count = 0
    with transaction.atomic(using=alias):
        for chunk in _chunks(_envelopes(records, contract, workspace)):
            insert_many(alias, workspace, contract, chunk, timezone.now())
            count += len(chunk)
        if count:
            wake_workers_on_commit(alias, workspace)
    return count


async def aenqueue(
    record: AnyRecord, *, using: str | None = None, workspace: str = DEFAULT_WORKSPACE
) -> OutboxRecord:
    """:func:`enqueue` for async code.

    Django has no async transactions: call it inside ``sync_to_async`` together with the host's own
    change where both must commit together.
    """
    return await sync_to_async(enqueue)(record, using=using, workspace=workspace)


async def aenqueue_many(
    records: Iterable[AnyRecord], *, using: str | None = None, workspace: str = DEFAULT_WORKSPACE
) -> int:
    """:func:`enqueue_many` for async code."""
    return await sync_to_async(enqueue_many)(records, using=using, workspace=workspace)


def _alias(using: str | None) -> str:
    alias = using or router.db_for_write(OutboxRecord)
    watched = get_settings().databases
    if alias not in watched:
        raise ImproperlyConfigured(
            f"No worker looks into the database {alias!r}, so that the record would never leave. "
            f"Add it to {SETTING}['DATABASES'] (now: {', '.join(watched)})."
        )
    return alias


def _contract(workspace: str) -> str:
    return get_settings().workspace(workspace).contract


def _envelopes(records: Iterable[AnyRecord], contract: str, workspace: str) -> Iterator[Envelope]:
    """Valid records; once one is wrong, a chunk behind it is looked at, to name more that is wrong at once."""
    numbered = enumerate(records)
    for position, record in numbered:
        try:
            envelope = validate(record, contract=contract, workspace=workspace)
        except InvalidRecord as error:
            raise _with_neighbours(error, position, numbered, contract, workspace) from None
        yield envelope


def _with_neighbours(
    first: InvalidRecord,
    position: int,
    rest: Iterator[tuple[int, AnyRecord]],
    contract: str,
    workspace: str,
) -> InvalidRecord:
    found = _numbered(first, position)
    for number, record in islice(rest, CHUNK):
        try:
            validate(record, contract=contract, workspace=workspace)
        except InvalidRecord as error:
            found += _numbered(error, number)
    return type(first)(found)


def _numbered(error: InvalidRecord, position: int) -> list[FieldError]:
    return [
        FieldError(f"[{position}].{e.path}" if e.path else f"[{position}]", e.message, e.got, e.allowed)
        for e in error.errors
    ]


def _chunks(envelopes: Iterator[Envelope]) -> Iterator[list[Envelope]]:
    chunk: list[Envelope] = []
    size = 0
    for envelope in envelopes:
        if chunk and (len(chunk) == CHUNK or size + envelope.size > CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(envelope)
        size += envelope.size
    if chunk:
        yield chunk

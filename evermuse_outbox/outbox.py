"""The public API: enqueue records inside the host's own database transaction.

::

    from django.db import transaction
    from evermuse_outbox import outbox

    with transaction.atomic():
        message.save()
        outbox.enqueue({"_type": "message", …})

A record is sent if and only if that transaction commits. A direct call of Evermuse could not guarantee this. A call
before the commit can be followed by a rollback, and a crash can prevent a call after the commit.

Enqueueing makes no network request. After the commit, a *wake-up* is published: a Celery message that starts the
delivery. If it is lost, the next *tick* finds the record: a task that looks for work every second.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Unpack

from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.db import router, transaction

from .conf import DEFAULT_WORKSPACE, SETTING, get_settings, reload_workspaces
from .evermuse import FieldError, InvalidRecord, advice, limits
from .evermuse.records import AnyRecord, Envelope, Record
from .evermuse.records import validate as make_envelope
from .foreign_text import safe_repr, show_value
from .models import OutboxRecord
from .models.insert import NO_EXTRAS, insert, insert_many
from .pressure import OutboxFull, Pressure, read_pressure, refuse_if_full
from .runs import Labeller, Labels, Run, resolve_run
from .runs import find_run as _find_run
from .runs import start_run as _start_run
from .timing import Times, insert_deferrals, make_timing
from .wakeup import wake_workers_on_commit

__all__ = [
    "EnqueuedCount",
    "InvalidRecord",
    "OutboxFull",
    "Pressure",
    "Record",
    "Run",
    "Times",
    "aenqueue",
    "aenqueue_many",
    "enqueue",
    "enqueue_many",
    "find_run",
    "pressure",
    "reload_workspaces",
    "start_run",
    "validate",
]

LabelsOfRecord = Callable[[Any], Labels | None]
"""A function of the host that returns the labels of a record."""

CHUNK = 1_000
"""Maximum number of records in one INSERT of :func:`enqueue_many`."""

CHUNK_BYTES = 8_000_000
"""Maximum bytes of the payloads in one INSERT, so that large records need little memory."""


class EnqueuedCount(int):
    """The number of records that :func:`enqueue_many` has inserted. ``run`` is their run, or None."""

    run: Run | None = None


def enqueue(
    record: AnyRecord,
    *,
    using: str | None = None,
    workspace: str = DEFAULT_WORKSPACE,
    labels: Labels | None = None,
    run: Run | str | None = None,
    **times: Unpack[Times],
) -> OutboxRecord:
    """Validate a record and insert it in the open transaction.

    This costs one INSERT. It opens no savepoint and sends no ``post_save`` signal. If no transaction is open, the
    record is committed and the workers are woken at once. New labels are inserted in the same transaction.

    Args:
        record: The record, as a mapping or as a :class:`Record`.
        using: Database alias; by default the router's choice for :class:`OutboxRecord`.
        workspace: Name of a workspace in the settings.
        labels: Names and values that are not sent, such as the host's customer. Operators select records by them.
        run: The run that the record joins: a handle, or the name of a run. If no run of this name is open, it starts.
            A name costs a SELECT for each call, a handle does not.
        times: When it may be sent: ``send_after``, ``expires_at``, ``debounce`` and ``max_delay``, see :class:`Times`.

    Returns:
        The inserted row.

    Raises:
        InvalidRecord: Evermuse would reject the record, or a label or a time is not allowed. It is a Django
            ``ValidationError`` that names every wrong field.
        ImproperlyConfigured: The workspace or the database is not in the settings, or the settings are not valid.
        OutboxFull: It would wait longer than the setting ``REJECT_ABOVE`` allows.
        DatabaseError: The INSERT failed. Do not catch it inside the transaction: the host's change then rolls
            back, too.
    """
    alias = _database_alias(using)
    contract = _contract_for(alias, workspace)
    envelope = make_envelope(record, contract=contract, workspace=workspace)
    extras = (
        NO_EXTRAS if labels is None and run is None else _labeller(alias, workspace, labels, run).column()
    )
    timing = make_timing(alias, **times) if times else None
    if timing is None:
        row = insert(alias, workspace, contract, envelope, extras)
    else:
        with transaction.atomic(using=alias, savepoint=False):
            row = insert(alias, workspace, contract, envelope, {**extras, **timing.columns})
            insert_deferrals(alias, workspace, [row.pk], timing)
    wake_workers_on_commit(alias, workspace)
    return row


def enqueue_many(
    records: Iterable[AnyRecord],
    *,
    using: str | None = None,
    workspace: str = DEFAULT_WORKSPACE,
    labels: Labels | LabelsOfRecord | None = None,
    run: Run | str | None = None,
    **times: Unpack[Times],
) -> EnqueuedCount:
    """Validate and insert many records, all or none of them.

    The iterable is read once, in chunks of up to 1,000 records or 8 MB, so a generator needs little memory. If a
    record is invalid, this call inserts nothing. This holds even if the caller catches the error and continues its
    transaction, because the INSERTs are in a savepoint.

    Args:
        records: The records, as mappings or as :class:`Record` objects.
        using: Database alias; by default the router's choice for :class:`OutboxRecord`.
        workspace: Name of a workspace in the settings.
        labels: Labels of all records, or a function that takes a record and returns its labels.
        run: The run that the records join: a handle, or the name of a run. If no run of this name is open, it starts.
        times: When the records may be sent, see :class:`Times`.

    Returns:
        The number of records inserted. Its attribute ``run`` is the handle of the run.

    Raises:
        InvalidRecord: A record is invalid. The error names the wrong fields of that record and of the next 1,000
            records, at most 100 of each record and 1,000 in total. Each path starts with the position of the record:
            ``[17]._type``.
        ImproperlyConfigured: The workspace or the database is not in the settings, or the settings are not valid.
        OutboxFull: They would wait longer than the setting ``REJECT_ABOVE`` allows.
        DatabaseError: An INSERT failed.
    """
    alias = _database_alias(using)
    contract = _contract_for(alias, workspace)
    _refuse_single(records)
    timing = make_timing(alias, **times) if times else None
    count = 0
    with transaction.atomic(using=alias):
        labeller = _labeller(alias, workspace, labels, run)
        for chunk in _split_into_chunks(_validate_all(labeller.observe(records), contract, workspace)):
            extras = labeller.columns(len(chunk))
            if timing is None:
                insert_many(alias, workspace, contract, chunk, extras)
            else:
                timed = {**extras, **timing.columns}
                pks = insert_many(alias, workspace, contract, chunk, timed, returns_ids=True)
                insert_deferrals(alias, workspace, pks, timing)
            count += len(chunk)
        if count:
            wake_workers_on_commit(alias, workspace)
    enqueued = EnqueuedCount(count)
    enqueued.run = labeller.run
    return enqueued


async def aenqueue(
    record: AnyRecord,
    *,
    using: str | None = None,
    workspace: str = DEFAULT_WORKSPACE,
    labels: Labels | None = None,
    run: Run | str | None = None,
    **times: Unpack[Times],
) -> OutboxRecord:
    """Call :func:`enqueue` from async code.

    Django has no async transactions. If the record must commit together with a change of the host, call
    :func:`enqueue` and make the change in one function under ``sync_to_async``.
    """
    return await sync_to_async(enqueue)(
        record, using=using, workspace=workspace, labels=labels, run=run, **times
    )


async def aenqueue_many(
    records: Iterable[AnyRecord] | AsyncIterable[AnyRecord],
    *,
    using: str | None = None,
    workspace: str = DEFAULT_WORKSPACE,
    labels: Labels | LabelsOfRecord | None = None,
    run: Run | str | None = None,
    **times: Unpack[Times],
) -> EnqueuedCount:
    """Call :func:`enqueue_many` from async code, also with an async iterator.

    An async iterator is read to its end before the first INSERT. So no transaction waits for it, and if it raises an
    error, nothing is inserted. Its records are in memory meanwhile: enqueue millions of them in parts.
    """
    if isinstance(records, AsyncIterable) and not isinstance(records, Iterable):
        records = [record async for record in records]
    return await sync_to_async(enqueue_many)(
        records, using=using, workspace=workspace, labels=labels, run=run, **times
    )


def start_run(
    name: str,
    *,
    labels: Labels | None = None,
    expected: int | None = None,
    using: str | None = None,
    workspace: str = DEFAULT_WORKSPACE,
) -> Run:
    """Start a run, or return the open run of this name: so work that was interrupted continues its run.

    Args:
        name: A name of up to 200 characters. A later run may have it again, after this one is closed.
        labels: Labels of all its records.
        expected: How many records it will have, if that is known; for the progress.
        using: Database alias; by default the router's choice for :class:`OutboxRecord`.
        workspace: Name of a workspace in the settings.

    Raises:
        InvalidRecord: The name or a label is not allowed.
        ImproperlyConfigured: The workspace or the database is not in the settings, or the settings are not valid.
    """
    _contract_of(workspace)
    return _start_run(_database_alias(using), workspace, name, labels, expected)


def find_run(
    name_or_id: str | int, *, using: str | None = None, workspace: str = DEFAULT_WORKSPACE
) -> Run | None:
    """Return the run with an id, or the latest run with a name; None if there is none.

    Args:
        name_or_id: The name of the run, or its id.
        using: Database alias; by default the router's choice for :class:`OutboxRecord`.
        workspace: Name of the workspace in which the name is searched.
    """
    return _find_run(_database_alias(using), workspace, name_or_id)


def pressure(*, using: str | None = None, workspace: str = DEFAULT_WORKSPACE) -> Pressure:
    """Return how long a record that is enqueued now will probably wait until it is sent.

    A process measures it at most once a second, by a few queries whose cost does not grow with the backlog.

    Args:
        using: Database alias; by default the router's choice for :class:`OutboxRecord`.
        workspace: Name of a workspace in the settings.

    Raises:
        ImproperlyConfigured: The workspace or the database is not in the settings, or the settings are not valid.
    """
    return read_pressure(_database_alias(using), get_settings().workspace(workspace))


def validate(record: AnyRecord, *, workspace: str = DEFAULT_WORKSPACE) -> dict[str, Any]:
    """Check a record as :func:`enqueue` does, without a database, and return what would be sent.

    The returned dict has JSON's types only. It has the project in the form of the contract of the workspace,
    ``_event_at`` in UTC and whole seconds, and no unset fields. It is a valid record, too.

    Args:
        record: The record, as a mapping or as a :class:`Record`.
        workspace: Name of a workspace in the settings; it decides the contract.

    Raises:
        InvalidRecord: Evermuse would reject the record.
        ImproperlyConfigured: The workspace is not in the settings, or the settings are not valid.
    """
    envelope = make_envelope(record, contract=_contract_of(workspace), workspace=workspace)
    fields: dict[str, Any] = json.loads(envelope.line)
    return fields


def _database_alias(using: str | None) -> str:
    alias = using or router.db_for_write(OutboxRecord)
    aliases = get_settings().databases
    if alias not in aliases:
        raise ImproperlyConfigured(
            f"No worker reads the database {safe_repr(alias)}, so the record would never be sent. "
            f"Add it to {SETTING}['DATABASES'] (now: {', '.join(aliases)})."
        )
    return alias


def _labeller(
    using: str, workspace: str, labels: Labels | LabelsOfRecord | None, run: Run | str | None
) -> Labeller:
    return Labeller(using, labels, resolve_run(using, workspace, run))


def _contract_of(workspace: str) -> str:
    return get_settings().workspace(workspace).contract


def _contract_for(using: str, workspace: str) -> str:
    """Return the contract of the workspace if it takes a new record now.

    Raises:
        OutboxFull: It does not.
    """
    settings = get_settings().workspace(workspace)
    if settings.reject_above is not None:
        refuse_if_full(using, settings)
    return settings.contract


def _refuse_single(records: Any) -> None:
    """Raise ``InvalidRecord`` for one record or text, because iterating over it would give names or characters."""
    if isinstance(records, Mapping | Record | str | bytes):
        message = advice.describe_single(records)
        raise InvalidRecord([FieldError("", message, show_value(records), "an iterable of records")])


def _validate_all(records: Iterable[AnyRecord], contract: str, workspace: str) -> Iterator[Envelope]:
    """Yield the validated records.

    Raises:
        InvalidRecord: A record is invalid. The error includes those of the next :data:`CHUNK` records.
    """
    numbered = enumerate(records)
    for position, record in numbered:
        try:
            envelope = make_envelope(record, contract=contract, workspace=workspace)
        except InvalidRecord as error:
            raise _with_later_errors(error, position, numbered, contract, workspace) from None
        yield envelope


def _with_later_errors(
    first: InvalidRecord,
    position: int,
    rest: Iterator[tuple[int, AnyRecord]],
    contract: str,
    workspace: str,
) -> InvalidRecord:
    """Return ``first`` with the errors of the next :data:`CHUNK` records added, as many as a call lists."""
    errors, is_cut = _with_position(first, position), first.is_cut
    for number, record in islice(rest, CHUNK):
        if len(errors) >= limits.MAX_CALL_ERRORS:
            is_cut = True
            break
        try:
            make_envelope(record, contract=contract, workspace=workspace)
        except InvalidRecord as error:
            errors += _with_position(error, number)
            is_cut = is_cut or error.is_cut
    is_cut = is_cut or len(errors) > limits.MAX_CALL_ERRORS
    return type(first)(errors[: limits.MAX_CALL_ERRORS], is_cut)


def _with_position(error: InvalidRecord, position: int) -> list[FieldError]:
    return [
        FieldError(f"[{position}].{e.path}" if e.path else f"[{position}]", e.message, e.got, e.allowed)
        for e in error.errors
    ]


def _split_into_chunks(envelopes: Iterator[Envelope]) -> Iterator[list[Envelope]]:
    """Yield lists of at most :data:`CHUNK` records and, unless a single record is larger, :data:`CHUNK_BYTES`."""
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

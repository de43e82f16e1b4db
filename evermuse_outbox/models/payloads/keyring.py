"""The data keys that this process has unwrapped, and the look-up of those that it needs.

A key is looked up again after ``CACHE_SECONDS``. So a process learns in that time that a key was retired or destroyed,
and a record costs no query.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction
from django.db.models.functions import Substr

from ...conf import get_static_settings
from ...database_clock import database_now
from ...encryption import (
    Altered,
    DataKey,
    MasterKeyMissing,
    WrappedKey,
    is_on,
    key_id_of,
    make_data_key,
    unwrap_data_key,
)
from ...foreign_text import HiddenText
from ..labels import OutboxLabel
from .data_key import OutboxDataKey, make_scope
from .stored import HEAD_LENGTH
from .unreadable import Cause, PayloadsUnreadable, UnreadableLine

CACHE_SECONDS = 10.0
"""Seconds for which a process uses a key without a look at its row."""

KEY_AGE = timedelta(days=7)
"""Time for which a key encrypts new lines. At 10,000 records a second, these are 2**32.5 lines. With random nonces, two
of them are then equal with a probability of 2**-32, the bound of NIST SP 800-38D, section 8.3."""


@dataclass(slots=True)
class _Known:
    """A data key as its row was at ``checked_at``, on the monotonic clock; ``key`` is None if it is unreadable."""

    stored: WrappedKey
    checked_at: float
    key: DataKey | None
    unreadable: UnreadableLine | None = None


_known: dict[tuple[str, int], _Known] = {}
"""Database alias and id → the key."""

_current: dict[tuple[str, str], tuple[DataKey, float]] = {}
"""Database alias and scope → the key that encrypts new lines, and when its row was read."""

_uncommitted: dict[tuple[str, int], bool] = {}
"""Keys of this process whose transaction is not known to be committed. A rollback removes their rows, so they must not
be used by another transaction."""


class NewLine(NamedTuple):
    """A line of a record that is to be stored. ``label_set_id`` is that of the record."""

    identity: UUID
    label_set_id: int | None
    line: str


def encrypt_lines(using: str, workspace: str, lines: Sequence[NewLine]) -> list[str]:
    """Return the stored forms of lines of one workspace, each under the present key of its scope.

    A key that does not exist yet is inserted in the open transaction.

    Raises:
        ImproperlyConfigured: No master key can be read.
    """
    labels = scope_labels(using, {line.label_set_id for line in lines})
    scopes = [labels.get(line.label_set_id, "") for line in lines]
    keys = {label: current_key(using, workspace, label) for label in set(scopes)}
    return [keys[label].encrypt(new.line, new.identity.hex) for label, new in zip(scopes, lines, strict=True)]


def stored_forms(rows: Any, workspace: str, lines: dict[int, str]) -> dict[int, str]:
    """Return new lines of stored records in their stored form, by id: encrypted if the settings have keys.

    A record whose data key is being destroyed keeps that key, so that its new line is destroyed, too.

    Args:
        rows: a queryset that contains the records.
        workspace: name of their workspace.
        lines: id of a record → its new line.

    Raises:
        PayloadsUnreadable: The data key of a record was destroyed meanwhile.
    """
    if not is_on() or not lines:
        return lines
    heads = rows.filter(pk__in=list(lines)).annotate(head=Substr("payload", 1, HEAD_LENGTH))
    columns = list(heads.values_list("pk", "identity", "label_set_id", "head"))
    new = {pk: NewLine(identity, label_set, lines[pk]) for pk, identity, label_set, _ in columns}
    keys = {pk: key for pk, *_, head in columns if (key := key_id_of(head)) is not None}
    doomed = OutboxDataKey.objects.using(rows.db).doomed(set(keys.values())) if keys else set()
    kept = {pk: new.pop(pk) for pk, key in keys.items() if key in doomed}
    stored = dict(zip(new, encrypt_lines(rows.db, workspace, list(new.values())), strict=True))
    for pk, line in kept.items():
        stored[pk] = _encrypt_under(rows.db, keys[pk], line)
    return dict.fromkeys(lines, "") | stored


def scope_labels(using: str, label_sets: Collection[int | None]) -> dict[int | None, str]:
    """Return the value that decides the scope, by label set: that of the label of the setting ENCRYPTION_LABEL."""
    name, ids = get_static_settings().encryption_label, [pk for pk in label_sets if pk is not None]
    if not name or not ids:
        return {}
    labels = OutboxLabel.objects.using(using).filter(name=name, label_set_id__in=ids)
    return dict(labels.values_list("label_set_id", "value"))


def decrypt_line(using: str, identity: str, stored: str) -> str:
    """Return the line of a stored form; an :class:`UnreadableLine` if that is not possible now."""
    pk = key_id_of(stored)
    if pk is None:
        return UnreadableLine.of(Cause.ALTERED, "The stored line was altered.")
    known = _look_up(using, pk)
    line = _decrypt(known, identity, stored)
    if line is None and known.checked_at != (known := _look_up(using, pk, is_fresh=True)).checked_at:
        line = _decrypt(known, identity, stored)  # a rolled back transaction may have used this id before
    if line is not None:
        return line
    return UnreadableLine.of(Cause.ALTERED, "The stored line was altered, or belongs to another record.")


def current_key(using: str, workspace: str, label: str = "") -> DataKey:
    """Return the key that encrypts new lines of a scope. Insert it in the open transaction if there is none.

    Raises:
        ImproperlyConfigured: No master key can be read.
    """
    scope = make_scope(workspace, label)
    cached, now = _current.get((using, scope)), time.monotonic()
    if cached and now - cached[1] < CACHE_SECONDS:
        return cached[0]
    try:
        key = _find_current(using, workspace, label) or _insert_key(using, workspace, label)
    except MasterKeyMissing as error:
        raise ImproperlyConfigured(f"The record cannot be encrypted, so it is not stored: {error}") from None
    if (using, key.pk) not in _uncommitted:
        _current[using, scope] = (key, now)
    return key


def forget_keys(using: str) -> None:
    """Look every key up again at its next use in this process."""
    for known in [name for name in _known if name[0] == using]:
        _known.pop(known, None)
    for current in [name for name in _current if name[0] == using]:
        _current.pop(current, None)


def _encrypt_under(using: str, pk: int, line: NewLine) -> str:
    known = _look_up(using, pk)
    if known.key is None:
        raise PayloadsUnreadable(known.unreadable.message if known.unreadable else "")
    return known.key.encrypt(line.line, line.identity.hex)


def _find_current(using: str, workspace: str, label: str) -> DataKey | None:
    since = database_now(using) - KEY_AGE
    for row in OutboxDataKey.objects.using(using).of_scope(workspace, label).usable(since)[:1]:
        try:
            return DataKey(row.pk, unwrap_data_key(row.stored, row.scope))
        except (Altered, MasterKeyMissing):
            return None  # another key is made, under a master key that is there
    return None


def _insert_key(using: str, workspace: str, label: str) -> DataKey:
    stored, scope = make_data_key(make_scope(workspace, label)), make_scope(workspace, label)
    row = OutboxDataKey(
        workspace=workspace,
        label=label,
        wrapped=stored.wrapped,
        master=stored.master,
        created_at=database_now(using),
    )
    row.save(using=using, force_insert=True)
    key = DataKey(row.pk, unwrap_data_key(stored, scope))
    if connections[using].in_atomic_block:
        _uncommitted[using, row.pk] = True
        transaction.on_commit(partial(_use_from_now_on, using, scope, key), using=using)
    return key


def _use_from_now_on(using: str, scope: str, key: DataKey) -> None:
    _uncommitted.pop((using, key.pk), None)
    _current[using, scope] = (key, time.monotonic())


def _look_up(using: str, pk: int, *, is_fresh: bool = False) -> _Known:
    known, now = _known.get((using, pk)), time.monotonic()
    if known and not is_fresh and now - known.checked_at < CACHE_SECONDS:
        return known
    known = _read(using, pk, now, known)
    _known[using, pk] = known
    return known


def _read(using: str, pk: int, now: float, before: _Known | None) -> _Known:
    rows = OutboxDataKey.objects.using(using)
    connection = connections[using]
    if connection.vendor == "mysql" and connection.in_atomic_block:
        # A locking read of records finds rows that are newer than the snapshot. Their key may be newer, too.
        rows = rows.select_for_update()
    row = rows.filter(pk=pk).first()
    if row is None:
        message = (
            f"The database has no data key #{pk}. Restore the table of data keys, or discard the record."
        )
        return _Known(WrappedKey("", ""), now, None, UnreadableLine.of(Cause.WAITS, message))
    if row.destroyed_at:
        message = f"Its data key #{pk} was destroyed, so that nothing can read the payload any more."
        return _Known(row.stored, now, None, UnreadableLine.of(Cause.DESTROYED, message))
    if before and before.key and before.stored.wrapped == row.wrapped:
        return _Known(row.stored, now, before.key)
    try:
        return _Known(row.stored, now, DataKey(pk, unwrap_data_key(row.stored, row.scope)))
    except MasterKeyMissing as error:
        return _Known(row.stored, now, None, UnreadableLine.of(Cause.WAITS, str(error)))
    except Altered:
        message = f"The row of data key #{pk} was altered. Restore it from a backup, or discard the record."
        return _Known(row.stored, now, None, UnreadableLine.of(Cause.WAITS, message))


def _decrypt(known: _Known, identity: str, stored: str) -> HiddenText | UnreadableLine | None:
    if known.key is None:
        return known.unreadable
    try:
        return known.key.decrypt(stored, identity)
    except Altered:
        return None

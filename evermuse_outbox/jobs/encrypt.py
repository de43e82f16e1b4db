"""The kinds of jobs that encrypt and decrypt stored payloads, and that wrap data keys by a new master key.

A chunk locks its rows, reads their lines, and writes them in the other form. Size, checksum and what is sent stay the
same. So each of these jobs can stop anywhere, and go on or be turned back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connections
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, gettext_noop

from ..encryption import MasterKeyMissing, is_on, present_fingerprints
from ..models import ActionKind, Decision, OutboxDataKey, OutboxRecord, UnreadableLine, by_id
from ..models.payloads import NewLine, StoredKey, current_key, encrypt_lines, key_ids_of, scope_labels
from ..monitoring import schema_of, versions_at_work
from ..operations import NotPossible
from .kinds import Kind, Options, Refusal, Refusals, register
from .records import GONE

BYTES_PER_STATEMENT = 4_000_000
"""Bytes of lines that are read, and written, by one statement, or one line."""

KNOWS_ENCRYPTION = 17
"""Number of the migration with which workers can read encrypted lines."""

DROPPED = gettext_noop("Its payload was dropped")
UNREADABLE = gettext_noop("Its payload is unreadable")
DESTROYED = gettext_noop("The key was destroyed")
DOOMED = gettext_noop("Its data key was destroyed, or its destruction has begun")


class _Line(NamedTuple):
    """A stored line, read and decrypted, with what its new form needs."""

    pk: int
    workspace: str
    identity: UUID
    label_set_id: int | None
    line: str


class _Rewrite(Kind):
    """Read the lines of the members, and write them in another form."""

    action, permission, chunk, page = ActionKind.ENCRYPT, "manage_outboxdatakey", 200, 1_000

    def is_offered(self) -> bool:
        """Return whether the settings have master keys."""
        return is_on()

    def prepare(self, using: str, options: Options) -> None:
        """Refuse a job without master keys, or one that a worker at work could not read."""
        _check_keys()

    def check(self, using: str, pks: Sequence[int], options: Options) -> Refusals:
        """Refuse records without a payload. Others are known when they are read."""
        rows = OutboxRecord.rows.using(using).filter(by_id(pks)).values_list("pk", "payload_sha256")
        present = dict(rows)
        return {
            pk: Refusal(DROPPED if pk in present else GONE) for pk in pks if present.get(pk, "") is not None
        }

    def perform(self, using: str, pks: Sequence[int], decision: Decision, options: Options) -> Refusals:
        """Rewrite the lines. Those that have the wanted form already stay."""
        OutboxRecord.rows.using(using).lock_rows(pks)
        refusals = self.check(using, pks, options)
        for part in self._read_in_parts(using, [pk for pk in pks if pk not in refusals], refusals):
            readable = [line for line in part if not isinstance(line.line, UnreadableLine)]
            for line in part:
                if isinstance(line.line, UnreadableLine):
                    refusals[line.pk] = Refusal(UNREADABLE, line.line.message)
            stored = zip(readable, self.new_forms(using, readable), strict=True)
            rows = [OutboxRecord(pk=line.pk, payload=form) for line, form in stored]
            OutboxRecord.rows.using(using).bulk_update(rows, ["payload"])
        return refusals

    def _read_in_parts(self, using: str, pks: Sequence[int], refusals: Refusals) -> Iterator[list[_Line]]:
        """Yield the lines of locked records that do not have the wanted form, a few in each query.

        Add to ``refusals`` those whose data key is being destroyed.
        """
        rows = OutboxRecord.rows.using(using).filter(by_id(pks))
        if connections[using].features.has_select_for_update:
            # On MySQL and MariaDB, only a locking read is as new as the lock.
            rows = rows.select_for_update()
        part: list[int] = []
        size = 0
        wanted = self.select_wanted(using, list(key_ids_of(rows)))
        keys = {record.key for record in wanted if record.key is not None}
        doomed = OutboxDataKey.objects.using(using).doomed(keys) if keys else set()
        refusals |= {record.pk: Refusal(DOOMED) for record in wanted if record.key in doomed}
        for record in wanted:
            if record.pk in refusals:
                continue
            if part and size + record.size > BYTES_PER_STATEMENT:
                yield _read_lines(rows, part)
                part, size = [], 0
            part.append(record.pk)
            size += record.size
        if part:
            yield _read_lines(rows, part)

    def select_wanted(self, using: str, records: list[StoredKey]) -> list[StoredKey]:
        """Return the records that do not have the wanted form yet."""
        raise NotImplementedError

    def new_forms(self, using: str, lines: list[_Line]) -> list[str]:
        """Return the new stored forms of lines."""
        raise NotImplementedError


@register
class Encrypt(_Rewrite):
    """Encrypt payloads that are stored as plain text, and those that an older data key encrypts."""

    name, label = "encrypt", gettext_lazy("Encrypt payloads")

    def prepare(self, using: str, options: Options) -> None:
        """Refuse a job without master keys, or one whose result a worker at work could not read."""
        super().prepare(using, options)
        old = [version for version in versions_at_work(using) if schema_of(version) < KNOWS_ENCRYPTION]
        if old:
            text = _(
                "Workers of version %(version)s are at work. They cannot read encrypted payloads: end them."
            )
            raise NotPossible(text % {"version": min(old)})

    def select_wanted(self, using: str, records: list[StoredKey]) -> list[StoredKey]:
        """Return the records that the present key of their scope does not encrypt."""
        labels = scope_labels(using, {record.label_set_id for record in records})
        scopes = {record.pk: (record.workspace, labels.get(record.label_set_id, "")) for record in records}
        present = {scope: current_key(using, *scope).pk for scope in set(scopes.values())}
        return [record for record in records if record.key != present[scopes[record.pk]]]

    def new_forms(self, using: str, lines: list[_Line]) -> list[str]:
        """Return the lines under the present keys of their scopes."""
        forms: dict[int, str] = {}
        for workspace in {line.workspace for line in lines}:
            of_workspace = [line for line in lines if line.workspace == workspace]
            new = [NewLine(line.identity, line.label_set_id, line.line) for line in of_workspace]
            stored = encrypt_lines(using, workspace, new)
            forms |= {line.pk: form for line, form in zip(of_workspace, stored, strict=True)}
        return [forms[line.pk] for line in lines]


@register
class Decrypt(_Rewrite):
    """Store payloads as plain text again."""

    name, label = "decrypt", gettext_lazy("Decrypt payloads")

    def select_wanted(self, using: str, records: list[StoredKey]) -> list[StoredKey]:
        """Return the records that are encrypted."""
        return [record for record in records if record.key is not None]

    def new_forms(self, using: str, lines: list[_Line]) -> list[str]:
        """Return the lines themselves."""
        return [str(line.line) for line in lines]


@register
class RotateKeys(Kind):
    """Wrap data keys by one master key, so that the other master keys are not needed any more.

    The option ``master`` is its fingerprint. A worker may have another list of keys, with another one in front.
    """

    name, label, action = "rotate_keys", gettext_lazy("Rotate keys"), ActionKind.ROTATE_KEYS
    model, columns, permission = OutboxDataKey, (), "manage_outboxdatakey"

    def prepare(self, using: str, options: Options) -> None:
        """Refuse a job without master keys, or without the one that is to wrap the data keys."""
        master = _check_keys()
        if options.get("master", master) not in present_fingerprints():
            text = _(
                "A process does not have the master key %(master)s in its setting ENCRYPTION_KEYS. Restart all "
                "processes with it, then start the command again."
            )
            raise NotPossible(text % {"master": options["master"]})

    def check(self, using: str, pks: Sequence[int], options: Options) -> Refusals:
        """Refuse keys that were destroyed."""
        rows = OutboxDataKey.objects.using(using).filter(by_id(pks))
        left = set(rows.filter(destroyed_at__isnull=True).values_list("pk", flat=True))
        return {pk: Refusal(DESTROYED) for pk in pks if pk not in left}

    def perform(self, using: str, pks: Sequence[int], decision: Decision, options: Options) -> Refusals:
        """Wrap the keys anew. What they encrypt stays as it is."""
        refusals = self.check(using, pks, options)
        master = options.get("master") or present_fingerprints()[0]
        unreadable = OutboxDataKey.objects.using(using).rewrap(pks, master)
        return refusals | {pk: Refusal(UNREADABLE, message) for pk, message in unreadable.items()}


def rotation_options() -> dict[str, str]:
    """Return the options of a job that wraps data keys by the first master key of this process.

    Raises:
        NotPossible: The settings have no master key.
    """
    return {"master": _check_keys()}


def _check_keys() -> str:
    """Return the fingerprint of the first master key. Raise ``NotPossible`` if there is none."""
    if not is_on():
        raise NotPossible(_("The setting ENCRYPTION_KEYS has no master keys."))
    try:
        return present_fingerprints()[0]
    except MasterKeyMissing as error:
        raise NotPossible(str(error)) from error


def _read_lines(rows: Any, pks: list[int]) -> list[_Line]:
    columns = ("pk", "workspace", "identity", "label_set_id", "payload")
    return [_Line._make(row) for row in rows.filter(by_id(pks)).order_by("pk").values_list(*columns)]

"""Import mails: save them in the table of mails and enqueue their records, one transaction per chunk.

The same mail is imported only once, in whatever order or file it comes again. Mails with the same Message-ID and
different content are different mails. A mail that the outbox refuses does not affect the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Q

from evermuse_outbox import outbox

from . import mail, records
from .mail import Context, Mail
from .mbox import RawMail, separator_date, unquote
from .models import Email, fingerprint, id_prefix

CHUNK_BYTES = 8_000_000  # a chunk also ends at this size, which limits memory and the length of a statement
ATTEMPTS = 5  # per chunk; an attempt fails only if a concurrent import saves one of the mails first
PREFIXES_PER_QUERY = 100  # of Message-IDs; SQLite allows expressions of a depth of 1,000


class Fate(Enum):
    """What became of a mail. ``DIFFERENT``: imported beside another mail with the same Message-ID."""

    IMPORTED = "imported"
    DIFFERENT = "different"
    SAME = "same"
    REFUSED = "refused"


@dataclass(slots=True)
class Entry:
    """A mail and what became of it. ``number`` is its position among all mails of the import, from 1."""

    number: int
    raw: RawMail
    mail: Mail
    record: dict[str, Any] = field(default_factory=dict)
    fate: Fate = Fate.IMPORTED
    reason: str = ""

    @property
    def key(self) -> str:
        """Return the fingerprint of the mail."""
        return fingerprint(self.mail.message_id, self.mail.digest)

    @property
    def prefix(self) -> str:
        """Return the part of the fingerprint that depends on the Message-ID only."""
        return id_prefix(self.mail.message_id)

    @property
    def is_imported(self) -> bool:
        """Return whether the mail is saved by this import."""
        return self.fate in (Fate.IMPORTED, Fate.DIFFERENT)

    @property
    def shortened(self) -> list[str]:
        """Return the names of the shortened fields."""
        return self.record.get("data", {}).get("shortened", [])


@dataclass(slots=True)
class Tally:
    """Counts of the mails. Each mail is in exactly one of ``imported``, ``different``, ``same`` and ``refused``.

    ``guessed`` and ``shortened`` count mails that are imported, too.
    """

    imported: int = 0
    different: int = 0
    same: int = 0
    refused: int = 0
    guessed: int = 0
    shortened: int = 0

    @property
    def read(self) -> int:
        """Return the number of all mails."""
        return self.imported + self.different + self.same + self.refused

    def add(self, entry: Entry) -> None:
        """Count a mail."""
        setattr(self, entry.fate.value, getattr(self, entry.fate.value) + 1)
        if entry.is_imported:
            self.guessed += bool(entry.mail.date_guess)
            self.shortened += bool(entry.shortened)


class Importer:
    """An import of mails from any number of files.

    ``chunk`` is the number of mails in each transaction. ``on_mail`` is called with each mail after its transaction.
    ``is_dry_run`` means that every transaction is rolled back. ``is_quoted`` means that the files are in the format
    "mboxrd", so that the quoting of lines that begin with ``From `` is undone.
    """

    def __init__(
        self,
        *,
        chunk: int,
        now: datetime,
        on_mail: Callable[[Entry], None] | None = None,
        is_dry_run: bool = False,
        is_quoted: bool = False,
    ) -> None:
        self.chunk, self.now, self.is_dry_run, self.is_quoted = chunk, now, is_dry_run, is_quoted
        self.on_mail = on_mail or (lambda _entry: None)
        self.tally = Tally()
        self._previous: tuple[str, datetime | None] = ("", None)  # file and date of the mail before
        self._seen: set[str] = set()  # keys and prefixes of a dry run, which leaves nothing in the table

    def import_mails(self, raw_mails: Iterable[RawMail]) -> None:
        """Save and enqueue every mail that has not been imported yet."""
        for raws in _chunks(raw_mails, self.chunk):
            entries = [self._read(number, raw) for number, raw in enumerate(raws, self.tally.read + 1)]
            self._import_chunk(entries)
            for entry in entries:
                self.tally.add(entry)
                self.on_mail(entry)

    def _read(self, number: int, raw: RawMail) -> Entry:
        content = unquote(raw.content) if self.is_quoted else raw.content
        file, date = self._previous
        previous_date = date if file == raw.file else None
        context = Context(separator_date(raw.separator), previous_date, self.now, raw.is_cut)
        raw.pieces.clear()  # the parsed mail is enough from here on
        parsed = mail.read(content, context)
        self._previous = (raw.file, parsed.sent_at)
        return Entry(number, raw, parsed)

    def _import_chunk(self, entries: list[Entry]) -> None:
        """Import a chunk, and try again if a concurrent import saves one of its mails first."""
        for attempt in range(ATTEMPTS):
            try:
                with transaction.atomic():
                    self._import_once(entries)
                    if self.is_dry_run:
                        transaction.set_rollback(True)
                return
            except IntegrityError:
                if attempt == ATTEMPTS - 1:
                    raise

    def _import_once(self, entries: list[Entry]) -> None:
        self._find_fates(entries)
        _enqueue([entry for entry in entries if entry.is_imported])
        refused = {entry.key: entry.reason for entry in entries if entry.fate is Fate.REFUSED}
        for entry in entries:  # copies of a refused mail
            if entry.fate is Fate.SAME and entry.key in refused:
                entry.fate, entry.reason = Fate.REFUSED, refused[entry.key]
        Email.objects.bulk_create(_row(entry) for entry in entries if entry.is_imported)

    def _find_fates(self, entries: list[Entry]) -> None:
        """Say of each mail whether the same mail, or another one with its Message-ID, came before."""
        seen = _present(entries) | self._seen
        for entry in entries:
            entry.reason = ""
            entry.fate = (
                Fate.SAME if entry.key in seen else Fate.DIFFERENT if entry.prefix in seen else Fate.IMPORTED
            )
            seen |= {entry.key, entry.prefix}
        if self.is_dry_run:
            self._seen |= {value for entry in entries for value in (entry.key, entry.prefix)}


def _chunks(raw_mails: Iterable[RawMail], limit: int) -> Iterator[list[RawMail]]:
    chunk: list[RawMail] = []
    size = 0
    for raw in raw_mails:
        chunk.append(raw)
        size += raw.size
        if len(chunk) >= limit or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _present(entries: list[Entry]) -> set[str]:
    """Return the fingerprints in the table that have the Message-ID of one of the mails, and their prefixes."""
    prefixes = sorted({entry.prefix for entry in entries})
    present: set[str] = set()
    for start in range(0, len(prefixes), PREFIXES_PER_QUERY):
        condition = Q()
        for prefix in prefixes[start : start + PREFIXES_PER_QUERY]:
            condition |= Q(
                fingerprint__gte=prefix, fingerprint__lt=prefix + "g"
            )  # a range, which the index serves
        present.update(Email.objects.filter(condition).values_list("fingerprint", flat=True))
    return present | {key[: len(prefixes[0])] for key in present}


def _enqueue(entries: list[Entry]) -> None:
    """Enqueue the records of the mails, and mark the mails that the outbox refuses.

    One call for all mails is the fastest way. If it refuses a record, the mails are enqueued one by one, so
    that only the refused ones are left out.
    """
    for entry in entries:
        entry.record = records.email_record(entry.mail)
    try:
        outbox.enqueue_many(entry.record for entry in entries)
    except ValidationError:
        for entry in entries:
            _enqueue_one(entry)


def _enqueue_one(entry: Entry) -> None:
    # The outbox validates a record before it writes anything, so the transaction is still usable after a refusal.
    try:
        outbox.enqueue(entry.record)
    except ValidationError as error:
        entry.fate, entry.reason = Fate.REFUSED, str(error)


def _row(entry: Entry) -> Email:
    return Email(
        fingerprint=entry.key,
        message_id=entry.mail.message_id,
        subject=entry.mail.subject,
        sender=entry.mail.sender,
        sent_at=entry.mail.sent_at,
        body=entry.mail.body,
    )

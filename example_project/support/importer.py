"""Mails into the desk's table and the outbox: a chunk of mails is one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from evermuse_outbox import outbox

from . import mail, records
from .mail import Mail
from .mbox import RawMail, separator_date
from .models import Email, fingerprint

CHUNK_BYTES = 8_000_000  # large mails make a chunk end early, so that memory and statements stay small
TRIES = 5


@dataclass(frozen=True, slots=True)
class Refusal:
    """A mail that the outbox would not take; ``number`` counts the mails of the file from 1."""

    number: int
    message_id: str
    reason: str

    def __str__(self) -> str:
        return f"mail {self.number} {self.message_id}: {self.reason}"


@dataclass(slots=True)
class Tally:
    """What became of the mails of a file, or of a chunk of it."""

    read: int = 0
    imported: int = 0
    present: int = 0
    refused: list[Refusal] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.read += other.read
        self.imported += other.imported
        self.present += other.present
        self.refused += other.refused


def import_mails(
    raw_mails: Iterable[RawMail], *, chunk: int, on_chunk: Callable[[Tally, int], None] | None = None
) -> Tally:
    """Saves and enqueues every mail that is not there yet, ``chunk`` mails a transaction.

    After each chunk ``on_chunk`` gets the tally so far and the position in bytes. A mail that the outbox
    refuses is told in the tally and harms no other.
    """
    total = Tally()
    for raws in _chunks(raw_mails, chunk):
        mails = [_read(raw) for raw in raws]
        total.add(_import_chunk(list(enumerate(mails, total.read + 1))))
        if on_chunk:
            on_chunk(total, raws[-1].end)
    return total


def _chunks(raw_mails: Iterable[RawMail], most: int) -> Iterator[list[RawMail]]:
    chunk: list[RawMail] = []
    size = 0
    for raw in raw_mails:
        chunk.append(raw)
        size += raw.size
        if len(chunk) >= most or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _read(raw: RawMail) -> Mail:
    return mail.read(raw.content, envelope_date=separator_date(raw.separator), truncated=raw.cut)


def _import_chunk(mails: list[tuple[int, Mail]]) -> Tally:
    """One chunk; once more where another import has saved one of its mails in the meantime."""
    for _ in range(TRIES - 1):
        try:
            return _import_once(mails)
        except IntegrityError:
            continue
    return _import_once(mails)


@transaction.atomic
def _import_once(mails: list[tuple[int, Mail]]) -> Tally:
    missing = _missing(mails)
    refused = _enqueue(list(missing.values()))
    numbers = {refusal.number for refusal in refused}
    rows = [_row(key, mail_) for key, (number, mail_) in missing.items() if number not in numbers]
    Email.objects.bulk_create(rows)
    return Tally(len(mails), len(rows), len(mails) - len(missing), refused)


def _missing(mails: list[tuple[int, Mail]]) -> dict[str, tuple[int, Mail]]:
    """The mails that are not in the table, each once, by fingerprint."""
    by_key: dict[str, tuple[int, Mail]] = {}
    for number, mail_ in mails:
        by_key.setdefault(fingerprint(mail_.message_id), (number, mail_))
    there = set(Email.objects.filter(fingerprint__in=list(by_key)).values_list("fingerprint", flat=True))
    return {key: numbered for key, numbered in by_key.items() if key not in there}


def _enqueue(mails: list[tuple[int, Mail]]) -> list[Refusal]:
    """All at once, which is fastest; where one is refused, one by one, so that it alone stays behind."""
    try:
        outbox.enqueue_many(records.email_record(mail_) for _, mail_ in mails)
        return []
    except ValidationError:
        return list(filter(None, (_enqueue_one(number, mail_) for number, mail_ in mails)))


def _enqueue_one(number: int, mail_: Mail) -> Refusal | None:
    # A record is checked before anything is written, so that a refusal leaves the transaction usable.
    try:
        outbox.enqueue(records.email_record(mail_))
    except ValidationError as error:
        return Refusal(number, mail_.message_id, str(error))
    return None


def _row(key: str, mail_: Mail) -> Email:
    return Email(
        fingerprint=key,
        message_id=mail_.message_id,
        subject=mail_.subject,
        sender=mail_.sender,
        sent_at=mail_.sent_at,
        body=mail_.body,
    )

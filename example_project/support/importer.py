"""Import mails: save them in the table of mails and enqueue their records, one transaction per chunk.

The same mail is imported only once. A mail that the outbox refuses does not affect the others.
"""

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

CHUNK_BYTES = 8_000_000  # a chunk also ends at this size, which limits memory and the length of a statement
ATTEMPTS = 5  # per chunk; an attempt fails only if a concurrent import saves one of the mails first


@dataclass(frozen=True, slots=True)
class Refusal:
    """A mail that the outbox refused. ``number`` is its position in the file, from 1."""

    number: int
    message_id: str
    reason: str

    def __str__(self) -> str:
        return f"mail {self.number} {self.message_id}: {self.reason}"


@dataclass(slots=True)
class Tally:
    """Counts of the mails read, imported, already present and refused."""

    read: int = 0
    imported: int = 0
    present: int = 0
    refused: list[Refusal] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add the counts of another tally to this one."""
        self.read += other.read
        self.imported += other.imported
        self.present += other.present
        self.refused += other.refused


def import_mails(
    raw_mails: Iterable[RawMail], *, chunk: int, on_chunk: Callable[[Tally, int], None] | None = None
) -> Tally:
    """Save and enqueue every mail that has not been imported yet, ``chunk`` mails per transaction.

    After each chunk, ``on_chunk`` is called with the tally so far and the position in the file in bytes.
    The tally lists the mails that the outbox refused. The other mails are imported.
    """
    total = Tally()
    for raws in _chunks(raw_mails, chunk):
        mails = [_read(raw) for raw in raws]
        total.add(_import_chunk(list(enumerate(mails, total.read + 1))))
        if on_chunk:
            on_chunk(total, raws[-1].end)
    return total


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


def _read(raw: RawMail) -> Mail:
    return mail.read(raw.content, envelope_date=separator_date(raw.separator), truncated=raw.is_cut)


def _import_chunk(mails: list[tuple[int, Mail]]) -> Tally:
    """Import a chunk, and try again if a concurrent import saves one of its mails first."""
    for _ in range(ATTEMPTS - 1):
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
    """Return {fingerprint: (number, mail)} of the mails that are not in the table, without duplicates."""
    by_key: dict[str, tuple[int, Mail]] = {}
    for number, mail_ in mails:
        by_key.setdefault(fingerprint(mail_.message_id), (number, mail_))
    present = set(Email.objects.filter(fingerprint__in=list(by_key)).values_list("fingerprint", flat=True))
    return {key: numbered for key, numbered in by_key.items() if key not in present}


def _enqueue(mails: list[tuple[int, Mail]]) -> list[Refusal]:
    """Enqueue the records of the mails and return the refusals.

    One call for all mails is the fastest way. If it refuses a record, the mails are enqueued one by one, so
    that only the refused ones are left out.
    """
    try:
        outbox.enqueue_many(records.email_record(mail_) for _, mail_ in mails)
        return []
    except ValidationError:
        return list(filter(None, (_enqueue_one(number, mail_) for number, mail_ in mails)))


def _enqueue_one(number: int, mail_: Mail) -> Refusal | None:
    # The outbox validates a record before it writes anything, so the transaction is still usable after a refusal.
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

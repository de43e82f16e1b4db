"""Parse the bytes of a mail. Any bytes can be parsed, however broken the mail is.

The standard library divides the mail into its parts (``parts.py``). Its header fields and texts are decoded in
``headers.py``, ``dates.py`` and ``text.py``. If the mail cannot be divided, all its bytes become its body.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message

from .dates import FALLBACK_DATE, Guess, MailDate, find_date
from .headers import HEADER_LENGTH, Contact, contacts, header, ids, list_id, message_id, raw_values
from .mbox import unquote
from .parts import File, body_text, files_of, parse
from .text import cut

__all__ = ["FALLBACK_DATE", "Contact", "File", "Mail", "read"]

BODY_BYTES = 4_000_000  # of UTF-8; leaves room for the other fields in a request of 5,000,000 bytes
BODY_JSON_BYTES = 4_300_000  # as JSON, where a control character takes six bytes
HEAD_BYTES = 1_000_000  # searched for the end of the header

# Fields that are the same in every copy of a mail. Others, such as Received or Status, are added on the way.
CONTENT_FIELDS = (
    b"date", b"from", b"to", b"cc", b"subject", b"in-reply-to", b"references", b"content-type",
    b"content-transfer-encoding",
)  # fmt: skip

_HEAD_END = re.compile(rb"(?:\A|\n)\r{0,3}(?:\n|\Z)")
_LINE_END = re.compile(rb"\r{0,3}\n|\r")
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:")
_FROM_LINE = re.compile(rb">*From ")


@dataclass(frozen=True, slots=True)
class Mail:
    """The parsed content of a mail.

    Texts contain no NUL and no lone surrogates. ``sent_at`` is in UTC, in whole seconds. ``date_guess`` names the
    source of the date if that is not the header ``Date``. ``digest`` is the SHA-256 of the content, the same for every
    copy. ``shortened`` has the names of the fields that are too long for a record, and ``truncated`` concerns the body.
    """

    message_id: str
    digest: str
    thread_id: str
    in_reply_to: str
    list_id: str
    sent_at: datetime
    date_guess: Guess
    is_zone_assumed: bool
    subject: str
    sender: str
    senders: tuple[Contact, ...]
    to: tuple[Contact, ...]
    cc: tuple[Contact, ...]
    body: str
    truncated: bool
    shortened: tuple[str, ...]
    files: tuple[File, ...]


@dataclass(frozen=True, slots=True)
class Context:
    """What is known of a mail from the file that contains it.

    ``separator_date`` is the date in the separator, ``previous_date`` that of the mail before, and ``now`` the present
    time, after which no mail is dated. ``is_cut`` means that the content is only the beginning of the mail.
    """

    separator_date: datetime | None = None
    previous_date: datetime | None = None
    now: datetime | None = None
    is_cut: bool = False


def read(content: bytes, context: Context = Context()) -> Mail:
    """Parse the bytes of a mail."""
    head, rest = _split_head(content)
    content = b"\n".join([*head, b"", rest])
    try:
        return _to_mail(parse(content), head, rest, context)
    except Exception:  # known: TooDeep, RecursionError, and errors of the parser
        return _to_mail(_as_body(content), head, rest, context)


def _as_body(content: bytes) -> Message:
    message = Message()
    message.set_payload(content.decode("utf-8", "surrogateescape"))
    return message


def _to_mail(message: Message, head: list[bytes], rest: bytes, context: Context) -> Mail:
    date = _date(message, context)
    digest = _digest(head, rest, date)
    id_ = message_id(message, digest)
    references, in_reply_to = ids(message, "references"), ids(message, "in-reply-to")
    body, is_body_cut = cut(body_text(message), BODY_BYTES, BODY_JSON_BYTES)
    subject, sender = header(message, "subject"), header(message, "from")
    lengths = {"subject": len(subject), "from": len(sender)}
    shortened = [name for name, length in lengths.items() if length > HEADER_LENGTH]
    return Mail(
        message_id=id_,
        digest=digest,
        thread_id=[*references, *in_reply_to, id_][0],
        in_reply_to=in_reply_to[0] if in_reply_to else "",
        list_id=list_id(message),
        sent_at=date.date,
        date_guess=date.guess,
        is_zone_assumed=date.is_zone_assumed,
        subject=subject[:HEADER_LENGTH],
        sender=sender[:HEADER_LENGTH],
        senders=contacts(message, "from"),
        to=contacts(message, "to"),
        cc=contacts(message, "cc"),
        body=body,
        truncated=context.is_cut or is_body_cut,
        shortened=(*shortened, *(["body"] if context.is_cut or is_body_cut else [])),
        files=tuple(files_of(message)),
    )


def _date(message: Message, context: Context) -> MailDate:
    return find_date(
        raw_values(message, "date"),
        raw_values(message, "received"),
        context.separator_date,
        context.previous_date,
        context.now or datetime.now(UTC),
    )


# --- the header as bytes -------------------------------------------------------------------------


def _split_head(content: bytes) -> tuple[list[bytes], bytes]:
    """Return the lines of the header, repaired, and the content after the empty line.

    The parser of the standard library ends the header at the first line that it does not understand. Then the fields
    after it would become text. So a ``From`` line is dropped here, and a line that was folded without a space is
    joined.
    """
    end = _HEAD_END.search(content, 0, HEAD_BYTES)
    head, rest = (content[: end.start()], content[end.end() :]) if end else (content, b"")
    lines = [line for line in _LINE_END.split(head.strip(b"\r\n")) if line and not _FROM_LINE.match(line)]
    last_field = max((index for index, line in enumerate(lines) if _name(line) in CONTENT_FIELDS), default=-1)
    repaired: list[bytes] = []
    for index, line in enumerate(lines):
        if not _FIELD.match(line) and not (repaired and line[:1] in (b" ", b"\t")):
            if index > last_field or not repaired:
                return repaired, b"\n".join([*lines[index:], *([b"", rest] if end else [])])
            line = b" " + line
        repaired.append(line)
    return repaired, rest


def _name(line: bytes) -> bytes:
    field = _FIELD.match(line)
    return field[1].lower() if field else b""


def _digest(head: list[bytes], rest: bytes, date: MailDate) -> str:
    """Return the SHA-256 of what is the same in every copy of a mail, however the copy is stored.

    Line breaks and the quoting of lines that begin with ``From `` depend on the file. If the header has no date, the
    date of delivery tells two mails with the same text apart.
    """
    unfolded = b"\n".join(head).replace(b"\n ", b" ").replace(b"\n\t", b" ").split(b"\n")
    fields = sorted(b" ".join(line.split()) for line in unfolded if _name(line) in CONTENT_FIELDS)
    delivered = date.date.isoformat() if date.guess in ("received", "separator") else ""
    text = unquote(_LINE_END.sub(b"\n", rest)).strip()
    return hashlib.sha256(b"\0".join([*fields, delivered.encode(), text])).hexdigest()

"""Parse the bytes of a mail. Any bytes can be parsed, however broken the mail is.

The standard library has two parsers. The modern one (``policy.default``) is tried first. It raises errors
for several kinds of broken mail. Then the legacy one (``policy.compat32``) is tried. If that fails too, the
bytes of the mail become its body.

The date comes from the header ``Date``, else from the ``Received`` headers, the first hop first, else from
the separator of the mbox. If none of them has a date from 1970 to 2099, it is ``FALLBACK_DATE``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import Message
from email.utils import getaddresses, parsedate_to_datetime
from typing import Any

from .text import clean, cut, decode, text_of_html, unix_lines

FALLBACK_DATE = datetime(1970, 1, 1, tzinfo=UTC)
YEARS = range(1970, 2100)

BODY_BYTES = 4_000_000  # of UTF-8; leaves room for the other fields in a request of 5,000,000 bytes
BODY_JSON_BYTES = 4_300_000  # as JSON, where a control character takes six bytes
ID_LENGTH = 256  # characters; a longer Message-ID is replaced by its SHA-256
HEADER_LENGTH = 998  # characters kept of a header
FILENAME_LENGTH = 512  # characters kept of the name of an attachment
# The modern parser takes too long for headers that are far longer than real ones. Headers above these sizes
# are parsed by the legacy parser.
MODERN_HEADER_LENGTH = 4_000  # characters of one header
MODERN_HEAD_BYTES = 200_000  # bytes of all headers together
LEGACY_HEADER_LENGTH = 1_000_000  # characters of a header that the legacy parser gets; the rest is dropped

_MESSAGE_ID = re.compile(r"<\s*([^<>]+?)\s*>")
_WHITESPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Contact:
    """An address in a header, as it was written. ``name`` is empty if the header has none."""

    name: str
    address: str


@dataclass(frozen=True, slots=True)
class File:
    """An attachment: name (may be empty), media type, and size in bytes after decoding."""

    filename: str
    mime_type: str
    size: int


@dataclass(frozen=True, slots=True)
class Mail:
    """The parsed content of a mail.

    Texts contain no NUL and no lone surrogates. ``sent_at`` is in UTC, in whole seconds.
    """

    message_id: str
    thread_id: str
    in_reply_to: str
    list_id: str
    sent_at: datetime
    subject: str
    sender: str
    senders: tuple[Contact, ...]
    to: tuple[Contact, ...]
    cc: tuple[Contact, ...]
    body: str
    truncated: bool
    files: tuple[File, ...]


def read(content: bytes, *, envelope_date: datetime | None = None, truncated: bool = False) -> Mail:
    """Parse the bytes of a mail.

    ``envelope_date`` is the date in the separator of the mbox. ``truncated`` means that ``content`` is only
    the beginning of the mail.
    """
    try:
        return _to_mail(_parse(content, policy.default), content, envelope_date, truncated)
    except Exception:  # known: AttributeError, IndexError, TypeError, ValueError, RecursionError
        return _read_with_legacy_parser(content, envelope_date, truncated)


def _read_with_legacy_parser(content: bytes, envelope_date: datetime | None, truncated: bool) -> Mail:
    try:
        return _to_mail(_parse(content, policy.compat32), content, envelope_date, truncated)
    except Exception:
        return _to_mail(_as_body(content), content, envelope_date, truncated)


def _parse(content: bytes, parser: Any) -> Message:
    head = re.match(rb"(?s).*?\r?\n\r?\n", content[:MODERN_HEAD_BYTES])
    if head is None and len(content) > MODERN_HEAD_BYTES:
        parser = policy.compat32
    return message_from_bytes(content, policy=parser)


def _as_body(content: bytes) -> Message:
    message = Message()
    message.set_payload(decode(content, None))
    return message


def _to_mail(message: Message, content: bytes, envelope_date: datetime | None, truncated: bool) -> Mail:
    message_id = _message_id(message, content)
    references = _ids(message, "references")
    in_reply_to = _ids(message, "in-reply-to")
    body, was_cut = cut(_body(message), BODY_BYTES, BODY_JSON_BYTES)
    return Mail(
        message_id=message_id,
        thread_id=[*references, *in_reply_to, message_id][0],
        in_reply_to=in_reply_to[0] if in_reply_to else "",
        list_id=_list_id(message),
        sent_at=_sent_at(message, envelope_date),
        subject=header(message, "subject"),
        sender=header(message, "from"),
        senders=_contacts(message, "from"),
        to=_contacts(message, "to"),
        cc=_contacts(message, "cc"),
        body=body,
        truncated=truncated or was_cut,
        files=tuple(_files(message)),
    )


# --- headers ---------------------------------------------------------------------------------------


def header(message: Message, name: str) -> str:
    """Return the first header of that name, decoded, on one line, or "" if there is none."""
    values = _raw_values(message, name)
    return _one_line(_decoded(name, values[0]))[:HEADER_LENGTH] if values else ""


def _raw_values(message: Message, name: str) -> list[str]:
    return [_raw_text(value) for key, value in message.raw_items() if key.lower() == name]


def _raw_text(value: Any) -> str:
    """Return a header unfolded but not decoded. Bytes above 127 are read as UTF-8, else as Windows-1252."""
    stored = str(value).encode("utf-8", "surrogateescape")
    return decode(stored.replace(b"\r", b"").replace(b"\n", b""), "utf-8")


def _decoded(name: str, raw: str) -> str:
    if "=?" not in raw:
        return raw  # the header has no encoded words
    if len(raw) <= MODERN_HEADER_LENGTH:
        try:
            return str(policy.default.header_factory(name, raw))
        except Exception:  # it also raises undocumented errors
            return _decoded_by_legacy_parser(raw)
    return _decoded_by_legacy_parser(raw)


def _decoded_by_legacy_parser(raw: str) -> str:
    raw = raw[:LEGACY_HEADER_LENGTH]
    try:
        return str(make_header(decode_header(raw)))
    except Exception:  # for example an unknown charset or wrong base64; the raw text is better than nothing
        return raw


def _one_line(text: str) -> str:
    return _WHITESPACE.sub(" ", clean(text)).strip()


def _contacts(message: Message, name: str) -> tuple[Contact, ...]:
    pairs = [pair for raw in _raw_values(message, name) for pair in _pairs(name, raw)]
    contacts = (Contact(_one_line(label)[:ID_LENGTH], _one_line(address)) for label, address in pairs)
    return tuple(contact for contact in contacts if contact.address)


def _pairs(name: str, raw: str) -> list[tuple[str, str]]:
    if len(raw) <= MODERN_HEADER_LENGTH:
        try:
            addresses = policy.default.header_factory(name, raw).addresses
            return [(address.display_name, address.addr_spec.strip("<>")) for address in addresses]
        except Exception:
            return _pairs_by_legacy_parser(raw)
    return _pairs_by_legacy_parser(raw)


def _pairs_by_legacy_parser(raw: str) -> list[tuple[str, str]]:
    try:
        pairs = getaddresses([raw[:LEGACY_HEADER_LENGTH]])
    except Exception:  # for example a RecursionError at thousands of opening brackets
        return []
    return [(_decoded_by_legacy_parser(label), address) for label, address in pairs]


def _ids(message: Message, name: str) -> list[str]:
    """Return the Message-IDs in a header, with angle brackets, of at most ``ID_LENGTH`` characters each."""
    text = _one_line(" ".join(_raw_values(message, name)))
    return [_bounded_id(f"<{message_id}>") for message_id in _MESSAGE_ID.findall(text)]


def _message_id(message: Message, content: bytes) -> str:
    """Return the Message-ID, or a hash of the content, which is the same at every import."""
    if ids := _ids(message, "message-id"):
        return ids[0]
    bare = _one_line(" ".join(_raw_values(message, "message-id"))).strip("<> ")
    return _bounded_id(f"<{bare}>") if bare else f"<sha256-{hashlib.sha256(content).hexdigest()}>"


def _bounded_id(text: str) -> str:
    return text if len(text) <= ID_LENGTH else f"<sha256-{hashlib.sha256(text.encode()).hexdigest()}>"


def _list_id(message: Message) -> str:
    text = header(message, "list-id")
    match = _MESSAGE_ID.search(text)
    return (match[1] if match else text).lower()


# --- dates -----------------------------------------------------------------------------------------


def _sent_at(message: Message, envelope_date: datetime | None) -> datetime:
    candidates = (_plausible(date) for date in _dates(message, envelope_date))
    return next(filter(None, candidates), FALLBACK_DATE)


def _dates(message: Message, envelope_date: datetime | None) -> Iterator[datetime | None]:
    yield from map(_date, _raw_values(message, "date"))
    for hop in reversed(_raw_values(message, "received")):
        yield _date(hop.rpartition(";")[2])
    yield envelope_date


def _date(text: str) -> datetime | None:
    try:
        return parsedate_to_datetime(text)
    except Exception:  # known: ValueError (documented), TypeError, IndexError, OverflowError
        return None


def _plausible(date: datetime | None) -> datetime | None:
    """Return the date in UTC, or None if its year is not in ``YEARS``. A naive date is taken as UTC."""
    if date is None or not 1900 < date.year < 9000:
        return None
    aware = date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    return aware.replace(microsecond=0) if aware.year in YEARS else None


# --- body and attachments --------------------------------------------------------------------------


def _leaves(message: Message) -> list[Message]:
    """Return the parts of a mail that are not containers. An enclosed mail is one part."""
    leaves: list[Message] = []
    stack: list[Any] = [message]
    while stack:
        part = stack.pop()
        if part.is_multipart() and part.get_content_maintype() == "multipart":
            stack += reversed(part.get_payload())
        else:
            leaves.append(part)
    return leaves


def _is_file(part: Message) -> bool:
    kind = part.get_content_type()
    is_text = kind in ("text/plain", "text/html") or kind.startswith("multipart/")
    return not is_text or part.get_content_disposition() == "attachment"


def _body(message: Message) -> str:
    """Return the plain text of a mail, or the text of its HTML if it has no plain text."""
    shown = [part for part in _leaves(message) if not _is_file(part)]
    plain = [_text(part) for part in shown if part.get_content_type() != "text/html"]
    if any(text.strip() for text in plain):
        return "\n".join(plain)
    return "\n".join(text_of_html(_text(part)) for part in shown if part.get_content_type() == "text/html")


def _text(part: Message) -> str:
    return unix_lines(decode(_content(part), part.get_content_charset()))


def _content(part: Any) -> bytes:
    """Return the content of a part, with its transfer encoding decoded as far as possible."""
    if part.is_multipart():
        return b"\n".join(map(_enclosed, part.get_payload()))
    try:
        return part.get_payload(decode=True)
    except Exception:  # the encoding cannot be decoded
        return str(part.get_payload()).encode("utf-8", "replace")


def _enclosed(message: Any) -> bytes:
    try:
        return message.as_bytes(policy=policy.compat32)
    except Exception:  # some mails can be parsed but not serialized
        return str(message.get_payload()).encode("utf-8", "replace")


def _files(message: Message) -> Iterator[File]:
    for part in filter(_is_file, _leaves(message)):
        kind = _one_line(part.get_content_type())[:ID_LENGTH]
        yield File(filename=_filename(part), mime_type=kind, size=len(_content(part)))


def _filename(part: Message) -> str:
    try:
        return _one_line(_decoded_by_legacy_parser(_raw_text(part.get_filename() or "")))[:FILENAME_LENGTH]
    except Exception:  # a broken file name must not prevent the import of the mail
        return ""

"""A mail as it came, read into what the desk wants to know of it. No mail is too broken to be read.

The standard library's modern parser is asked first. Where it raises, which it does for a number of known
kinds of broken mail, its older self takes over; where that fails as well, the mail is its own body. Dates
are looked for in ``Date``, then in ``Received`` from the first hop on, then in the separator of the mbox;
``FALLBACK_DATE`` stands where none of them is a date from 1970 to 2099.
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

BODY_BYTES = 4_000_000  # in UTF-8
BODY_JSON_BYTES = 4_300_000  # as JSON, where a control character takes six bytes
ID_LENGTH = 256  # longer ids are replaced by their SHA-256
HEADER_LENGTH = 998  # characters kept of a header
MODERN_HEADER_LENGTH = 4_000  # the modern parser needs too long for headers far above any real one
LONG_HEADER_LENGTH = 1_000_000  # and nobody needs more than this of one
MODERN_HEAD_BYTES = 200_000  # likewise for all headers together

_ID = re.compile(r"<\s*([^<>]+?)\s*>")
_WHITE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Contact:
    """Somebody in a header: ``address`` as it was written, ``name`` empty where there is none."""

    name: str
    address: str


@dataclass(frozen=True, slots=True)
class File:
    """An attachment: its name (may be empty), type, and size in bytes after decoding."""

    filename: str
    mime_type: str
    size: int


@dataclass(frozen=True, slots=True)
class Mail:
    """What one mail says.

    All text is free of NUL and lone surrogates; ``sent_at`` is in UTC and in whole seconds.
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
    """The mail in some bytes, whatever they are. ``truncated`` says that they are only its beginning."""
    try:
        return _read(_parsed(content, policy.default), content, envelope_date, truncated)
    except Exception:  # the known ones are AttributeError, IndexError, TypeError, ValueError, RecursionError
        return _read_the_old_way(content, envelope_date, truncated)


def _read_the_old_way(content: bytes, envelope_date: datetime | None, truncated: bool) -> Mail:
    try:
        return _read(_parsed(content, policy.compat32), content, envelope_date, truncated)
    except Exception:
        return _read(_as_body(content), content, envelope_date, truncated)


def _parsed(content: bytes, how: Any) -> Message:
    head = re.match(rb"(?s).*?\r?\n\r?\n", content[:MODERN_HEAD_BYTES])
    if head is None and len(content) > MODERN_HEAD_BYTES:
        how = policy.compat32
    return message_from_bytes(content, policy=how)


def _as_body(content: bytes) -> Message:
    message = Message()
    message.set_payload(decode(content, None))
    return message


def _read(message: Message, content: bytes, envelope_date: datetime | None, truncated: bool) -> Mail:
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
    """The first header of that name, decoded, on one line; empty where there is none."""
    values = _raw_values(message, name)
    return _one_line(_decoded(name, values[0]))[:HEADER_LENGTH] if values else ""


def _raw_values(message: Message, name: str) -> list[str]:
    return [_raw_text(value) for key, value in message.raw_items() if key.lower() == name]


def _raw_text(value: Any) -> str:
    """A header as it stands in the mail, unfolded; its 8-bit bytes as UTF-8 or else Windows-1252."""
    stored = str(value).encode("utf-8", "surrogateescape")
    return decode(stored.replace(b"\r", b"").replace(b"\n", b""), "utf-8")


def _decoded(name: str, raw: str) -> str:
    if "=?" not in raw:
        return raw  # nothing in it is encoded
    if len(raw) <= MODERN_HEADER_LENGTH:
        try:
            return str(policy.default.header_factory(name, raw))
        except Exception:  # not all that it raises is documented
            return _decoded_the_old_way(raw)
    return _decoded_the_old_way(raw)


def _decoded_the_old_way(raw: str) -> str:
    raw = raw[:LONG_HEADER_LENGTH]
    try:
        return str(make_header(decode_header(raw)))
    except Exception:  # unknown charsets, wrong base64 and more: the raw text is better than nothing
        return raw


def _one_line(text: str) -> str:
    return _WHITE.sub(" ", clean(text)).strip()


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
            return _pairs_the_old_way(raw)
    return _pairs_the_old_way(raw)


def _pairs_the_old_way(raw: str) -> list[tuple[str, str]]:
    try:
        pairs = getaddresses([raw[:LONG_HEADER_LENGTH]])
    except Exception:  # RecursionError, for one, over thousands of opening brackets
        return []
    return [(_decoded_the_old_way(label), address) for label, address in pairs]


def _ids(message: Message, name: str) -> list[str]:
    """The Message-IDs in a header, each with its angle brackets, none longer than 256 characters."""
    text = _one_line(" ".join(_raw_values(message, name)))
    return [_bounded_id(f"<{found}>") for found in _ID.findall(text)]


def _message_id(message: Message, content: bytes) -> str:
    """The Message-ID; where there is none, one made of the content, the same at every import."""
    if found := _ids(message, "message-id"):
        return found[0]
    bare = _one_line(" ".join(_raw_values(message, "message-id"))).strip("<> ")
    return _bounded_id(f"<{bare}>") if bare else f"<sha256-{hashlib.sha256(content).hexdigest()}>"


def _bounded_id(text: str) -> str:
    return text if len(text) <= ID_LENGTH else f"<sha256-{hashlib.sha256(text.encode()).hexdigest()}>"


def _list_id(message: Message) -> str:
    text = header(message, "list-id")
    found = _ID.search(text)
    return (found[1] if found else text).lower()


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
    except Exception:  # besides the documented ValueError: TypeError, IndexError, OverflowError
        return None


def _plausible(date: datetime | None) -> datetime | None:
    """The date in UTC, where a naive one is taken to be; None for a year that no mail is from."""
    if date is None or not 1900 < date.year < 9000:
        return None
    aware = date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    return aware.replace(microsecond=0) if aware.year in YEARS else None


# --- body and attachments --------------------------------------------------------------------------


def _leaves(message: Message) -> list[Message]:
    """The parts that have content of their own; an enclosed mail counts as one."""
    found: list[Message] = []
    waiting: list[Any] = [message]
    while waiting:
        part = waiting.pop()
        if part.is_multipart() and part.get_content_maintype() == "multipart":
            waiting += reversed(part.get_payload())
        else:
            found.append(part)
    return found


def _is_file(part: Message) -> bool:
    kind = part.get_content_type()
    is_text = kind in ("text/plain", "text/html") or kind.startswith("multipart/")
    return not is_text or part.get_content_disposition() == "attachment"


def _body(message: Message) -> str:
    """All plain text, or, where there is none, the text of the HTML."""
    shown = [part for part in _leaves(message) if not _is_file(part)]
    plain = [_text(part) for part in shown if part.get_content_type() != "text/html"]
    if any(text.strip() for text in plain):
        return "\n".join(plain)
    return "\n".join(text_of_html(_text(part)) for part in shown if part.get_content_type() == "text/html")


def _text(part: Message) -> str:
    return unix_lines(decode(_content(part), part.get_content_charset()))


def _content(part: Any) -> bytes:
    """What a part holds, its transfer encoding undone as far as it goes."""
    if part.is_multipart():
        return b"\n".join(map(_enclosed, part.get_payload()))
    try:
        return part.get_payload(decode=True)
    except Exception:  # an encoding that cannot be undone: as it stands
        return str(part.get_payload()).encode("utf-8", "replace")


def _enclosed(message: Any) -> bytes:
    try:
        return message.as_bytes(policy=policy.compat32)
    except Exception:  # not every mail that was read can be written again
        return str(message.get_payload()).encode("utf-8", "replace")


def _files(message: Message) -> Iterator[File]:
    for part in filter(_is_file, _leaves(message)):
        kind = _one_line(part.get_content_type())[:ID_LENGTH]
        yield File(filename=_filename(part), mime_type=kind, size=len(_content(part)))


def _filename(part: Message) -> str:
    try:
        return _one_line(_decoded_the_old_way(_raw_text(part.get_filename() or "")))[:512]
    except Exception:  # a name is not worth a mail
        return ""

"""Read the parts of a mail: the text that a reader sees, and the attachments.

An enclosed mail, alone or in a digest, is part of the text, under a few lines of its header.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email._policybase import Compat32
from email.feedparser import BytesFeedParser
from email.message import Message
from typing import Any

from .headers import HEADER_LENGTH, ID_LENGTH, decode_words, header, lenient_base64, one_line, raw_text
from .html_text import text_of_html
from .text import decode, unix_lines

DEPTH = 60  # levels of parts; the parser compares each line with the boundaries of all open levels
FILENAME_LENGTH = 512  # characters kept of the name of an attachment
PARAMETERS_LENGTH = (
    10_000  # characters of a Content-Type or Content-Disposition; their parser needs quadratic time
)

ENCLOSED = ("message/rfc822", "message/global", "message/news", "message/partial")
NOTICES = ("message/delivery-status", "message/disposition-notification", "message/feedback-report")
HEADERS = ("text/rfc822-headers", "message/rfc822-headers")
SHOWN_FIELDS = ("from", "date", "to", "cc", "subject", "message-id")

_BASE64_LINE = re.compile(rb"[A-Za-z0-9+/]{1,2000}={0,2}[ \t]*\Z")
_SOFT_BREAK = re.compile(rb"=[ \t]+(?=\r?\n)")
_FLOWED_BREAK = re.compile(r" (?<!^-- )\n(?!>)", re.MULTILINE)
_ENRICHED_TAG = re.compile(r"</?[A-Za-z][A-Za-z0-9-]{0,59}>|<(?=<)")
_ENRICHED_PARAMETER = re.compile(r"<param>[^<]*</param>", re.IGNORECASE)
_TOKEN = re.compile(r"[A-Za-z0-9-]+")


class TooDeep(ValueError):
    """The parts of a mail are nested more deeply than any program writes them."""


@dataclass(frozen=True, slots=True)
class File:
    """An attachment: name (may be empty), media type, and size in bytes after decoding."""

    filename: str
    mime_type: str
    size: int


class _Bounded(Compat32):
    """The legacy policy, which never fails at a header, with bounded parameters."""

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        name, value = super().header_source_parse(sourcelines)
        return name, value[:PARAMETERS_LENGTH] if name.lower().startswith("content-") else value

    def header_fetch_parse(self, name: str, value: Any) -> Any:
        """Return the value as it stands in the mail. The legacy policy would replace bytes above 127."""
        return value


_BOUNDED = _Bounded()


def parse(content: bytes) -> Message:
    """Parse the bytes of a mail. Raises ``TooDeep`` or ``RecursionError`` if its parts are nested too deeply."""
    parser = BytesFeedParser(policy=_BOUNDED)
    lines: Any = parser._input  # type: ignore[attr-defined]
    push = lines.push_eof_matcher

    def push_up_to_limit(matcher: Any) -> None:
        if len(lines._eofstack) >= DEPTH:
            raise TooDeep
        push(matcher)

    lines.push_eof_matcher = push_up_to_limit
    parser.feed(content)
    return parser.close()


# --- text ----------------------------------------------------------------------------------------


def body_text(message: Message) -> str:
    """Return the text of a mail. Of several versions of the same text, the plain one is taken."""
    return _shown(message, 0)


def _shown(part: Message, depth: int) -> str:
    if depth > DEPTH:
        raise TooDeep
    kind = part.get_content_type()
    children = _payload(part)
    if kind in ENCLOSED:
        return _enclosed_text(part, depth)
    if kind in (*NOTICES, *HEADERS) and isinstance(children, list):
        return "\n".join(_fields_text(child) + _shown(child, depth + 1) for child in children)
    if isinstance(children, list):
        if kind == "multipart/alternative":
            return _best_version(children, depth)
        return _joined(_shown(child, depth + 1) for child in children) + _epilogue(part)
    return _leaf_text(part) if _is_shown(part) else ""


def _joined(texts: Iterator[str]) -> str:
    return "\n".join(text for text in texts if text)


def _best_version(children: list[Message], depth: int) -> str:
    """Return the plain versions if they have text, else the last version that has text."""
    kinds = [(child, _first_kind(child)) for child in children]
    versions = (_shown(child, depth + 1) for child, kind in reversed(kinds) if kind != "text/plain")
    text = _joined(_shown(child, depth + 1) for child, kind in kinds if kind == "text/plain")
    return text if text.strip() else next(filter(str.strip, versions), "")


def _first_kind(part: Message) -> str:
    for _ in range(DEPTH):
        children = _payload(part)
        if not isinstance(children, list) or not children or part.get_content_maintype() != "multipart":
            break
        part = children[0]
    return part.get_content_type()


def _epilogue(part: Message) -> str:
    """Return what follows the last part, if it contains a line that may be the separator of a mail."""
    text = part.epilogue or ""
    return "\n" + decode(_stored_bytes(text), None) if text.startswith("From ") or "\nFrom " in text else ""


def _leaf_text(part: Message) -> str:
    kind = part.get_content_type()
    text = unix_lines(decode(_content(part), _charset(part)))
    if kind == "text/html":
        return text_of_html(text)
    if kind in ("text/enriched", "text/richtext"):
        return _ENRICHED_TAG.sub("", _ENRICHED_PARAMETER.sub("", text))
    if _parameter(part, "delsp") == "yes" and _parameter(part, "format") == "flowed":
        return _FLOWED_BREAK.sub("", text)  # the space and the line break were inserted by the mail program
    return text


def _enclosed_text(part: Message, depth: int) -> str:
    mails = _payload(part)
    if not isinstance(mails, list):
        return unix_lines(decode(_content(part), None))
    if _transfer_encoding(part) in ("base64", "quoted-printable"):  # forbidden, but some programs do it
        mails = [parse(_decode_transfer(_as_bytes(mail), _transfer_encoding(part))) for mail in mails]
    return "\n".join(
        f"----- Enclosed mail -----\n{_head_text(mail)}\n\n{_shown(mail, depth + 1)}" for mail in mails
    )


def _head_text(message: Message) -> str:
    fields = ((name, header(message, name)[:HEADER_LENGTH]) for name in SHOWN_FIELDS)
    return "\n".join(f"{name.title().replace('-Id', '-ID')}: {value}" for name, value in fields if value)


def _fields_text(message: Message) -> str:
    return "".join(
        f"{name}: {one_line(decode_words(raw_text(value)))}\n" for name, value in message.raw_items()
    )


# --- attachments ---------------------------------------------------------------------------------


def files_of(message: Message) -> list[File]:
    """Return the attachments of a mail. An enclosed mail is one of them, and its attachments are not listed."""
    return [
        File(_filename(part), one_line(part.get_content_type())[:ID_LENGTH], len(_content(part)))
        for part in _leaves(message)
        if _is_listed(part)
    ]


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


def _is_listed(part: Message) -> bool:
    kind = part.get_content_type()
    is_usual_text = kind in ("text/plain", "text/html") or kind.startswith("multipart/")
    return not is_usual_text or part.get_content_disposition() == "attachment"


def _is_shown(part: Message) -> bool:
    """Return whether a part is text. Text with an unusual type is a file if it has a name."""
    kind = part.get_content_type()
    if kind in HEADERS:
        return True
    if part.get_content_disposition() == "attachment" or not kind.startswith(("text/", "multipart/")):
        return False
    return not _is_listed(part) or not _filename(part)


def _filename(part: Message) -> str:
    try:
        return one_line(_decoded_filename(part))[:FILENAME_LENGTH]
    except Exception:  # a broken file name must not prevent the import of the mail
        return ""


def _decoded_filename(part: Message) -> str:
    value = part.get_param("filename", None, "content-disposition") or part.get_param("name", "")
    if isinstance(value, tuple):  # RFC 2231; the parser returns each byte as a character
        return decode(value[2].encode("latin-1", "replace"), value[0])
    return decode_words(raw_text(value))


# --- content -------------------------------------------------------------------------------------


def _parameter(part: Message, name: str) -> str:
    return str(part.get_param(name, "")).lower()


def _charset(part: Message) -> str | None:
    try:
        return part.get_content_charset()
    except Exception:  # a broken charset is like a missing one
        return None


def _transfer_encoding(part: Message) -> str:
    token = _TOKEN.search(str(part.get("content-transfer-encoding", "")))
    return token[0].lower() if token else ""


def _content(part: Message) -> bytes:
    """Return the content of a part, with its transfer encoding decoded as far as possible."""
    if part.is_multipart():
        return b"\n".join(map(_as_bytes, _payload(part)))
    return _decode_transfer(_stored_bytes(_payload(part)), _transfer_encoding(part))


def _decode_transfer(content: bytes, encoding: str) -> bytes:
    if encoding == "base64":
        return _base64_with_text(content)
    if encoding in ("quoted-printable", "quopri"):
        return binascii.a2b_qp(_SOFT_BREAK.sub(b"=", content))
    if encoding in ("x-uuencode", "uuencode", "uue", "x-uue"):
        return _uuencoded(content)
    return content


def _base64_with_text(content: bytes) -> bytes:
    """Decode base64. Text that a mailing list has appended to it is kept as it is."""
    lines = content.splitlines(keepends=True)
    end = len(lines)
    while end and not _BASE64_LINE.match(lines[end - 1].strip(b"\r\n")):
        end -= 1
    end = next((index + 1 for index, line in enumerate(lines[:end]) if line.rstrip().endswith(b"=")), end)
    if not end or not b"".join(lines[end:]).strip() or not _looks_like_text(b"".join(lines[end:])):
        return lenient_base64(content)
    return lenient_base64(b"".join(lines[:end])) + b"\n" + b"".join(lines[end:])


def _looks_like_text(content: bytes) -> bool:
    return b" " in content.strip() or b"://" in content


def _uuencoded(content: bytes) -> bytes:
    decoded = []
    for line in content.splitlines():
        if line.startswith((b"begin ", b"end")):
            continue
        try:
            decoded.append(binascii.a2b_uu(line))
        except binascii.Error:  # too long for its first character, which says the length
            length = (((line[0] - 32) & 63) * 4 + 5) // 3 if line else 0
            decoded.append(_uu_or_nothing(line[:length]))
    return b"".join(decoded)


def _uu_or_nothing(line: bytes) -> bytes:
    try:
        return binascii.a2b_uu(line)
    except binascii.Error:
        return b""


def _payload(part: Message) -> Any:
    """Return the payload as the parser has stored it. ``get_payload`` would decode it, and fail at some charsets."""
    return part._payload  # type: ignore[attr-defined]


def _stored_bytes(payload: Any) -> bytes:
    return str(payload or "").encode("utf-8", "surrogateescape")


def _as_bytes(message: Any) -> bytes:
    try:
        return message.as_bytes(policy=_BOUNDED)
    except Exception:  # some mails can be parsed but not serialized
        return _stored_bytes(_payload(message))

"""Read the header of a mail: encoded words, addresses and Message-IDs.

The parser of the standard library leaves spaces between the parts of a long encoded name, decodes each part of a
character alone, and needs quadratic time for some headers. Its results also differ between versions of Python. So the
header fields are taken from it as they stand in the mail, and are decoded here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from email.message import Message
from itertools import groupby
from typing import Any

from .text import clean, decode

HEADER_LENGTH = 998  # characters kept of a header
ID_LENGTH = 256  # characters; a longer Message-ID is replaced by its SHA-256
ADDRESS_FIELDS = {"from", "to", "cc", "sender", "reply-to"}
SPECIALS = frozenset('()<>@,:;.\\"[]')  # characters with a meaning in addresses (RFC 5322, section 3.2.3)
PARTS = 20  # that are searched for a charset
RAW_LENGTH = 1_000_000  # characters of a header field that are examined

_ENCODED_WORD = re.compile(
    r"=\?(?P<charset>[^?\s*]{1,60})(?:\*[^?\s]{0,20})?\?(?P<form>[bBqQ])\?"
    r"(?P<payload>[^?]*|[^?\s]*(?:\?(?!=)[^?\s]*){1,3})\?="
)
_WHITESPACE = re.compile(r"\s+")
_MESSAGE_ID = re.compile(r"<\s*([^<>]+?)\s*>")
_OBFUSCATED = re.compile(r"(\S+) at (\S+\.\S+)")
_ADDRESS_TOKEN = re.compile(
    r'"(?:\\.|[^"\\]){0,150}"|=\?[^?\s]+\?[bBqQ]\?[^?]*\?=|<[^<>]*>|[(),;:]|[^"(),;:<=]+|.', re.DOTALL
)
_ROUTE = re.compile(r"^@[^:]*:")
_TO_ESCAPE = re.compile(r'[\\"]')
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Contact:
    """An address in a header, as it was written. ``name`` is empty if the header has none."""

    name: str
    address: str


def raw_values(message: Message, name: str) -> list[str]:
    """Return the header fields of a name, unfolded but not decoded."""
    values = [value for key, value in message.raw_items() if key.lower() == name]
    charset = None if "".join(map(str, values)).isascii() else _declared_charset(message)
    return [raw_text(value, charset) for value in values]


def raw_text(value: Any, charset: str | None = None) -> str:
    """Return a header unfolded but not decoded.

    Bytes above 127 are not allowed in it. They are read as UTF-8, else in the given charset, else as Windows-1252.
    """
    stored = (
        str(value)[:RAW_LENGTH].encode("utf-8", "surrogateescape").replace(b"\r", b"").replace(b"\n", b"")
    )
    try:
        return clean(stored.decode())
    except UnicodeError:
        return decode(stored, charset or "cp1252")


def _declared_charset(message: Message) -> str | None:
    """Return the first charset that a part of the mail declares. Programs use it for their wrong headers, too."""
    for part, _ in zip(message.walk(), range(PARTS), strict=False):
        try:
            if charset := part.get_content_charset():
                return charset
        except Exception:  # noqa: S112 - a broken charset is like a missing one
            continue
    return None


def header(message: Message, name: str) -> str:
    """Return the first header of that name, decoded, on one line, or "" if there is none."""
    values = raw_values(message, name)
    return one_line(decode_words(values[0], is_quoting=name in ADDRESS_FIELDS)) if values else ""


def one_line(text: str) -> str:
    """Return clean text with single spaces for all white space."""
    return _WHITESPACE.sub(" ", clean(text)).strip()


# --- encoded words -------------------------------------------------------------------------------


def decode_words(raw: str, *, is_quoting: bool = False) -> str:
    """Decode the encoded words in a header (RFC 2047).

    The white space between two encoded words is dropped. Neighbours in the same charset are decoded together, because
    some programs split a character between them. ``is_quoting`` puts decoded text in quotes if it has characters with a
    meaning in addresses.
    """
    if "=?" not in raw:
        return raw
    texts: list[str] = []
    for is_encoded, words in groupby(_tokens(raw), key=lambda token: bool(token[0])):
        text = "".join(_decode_run(key, list(run)) for key, run in groupby(words, key=lambda token: token[0]))
        is_inside_quotes = bool(texts) and texts[-1].endswith('"')
        texts.append(_quoted(text) if is_quoting and is_encoded and not is_inside_quotes else text)
    return "".join(texts)


def _quoted(text: str) -> str:
    return text if SPECIALS.isdisjoint(text) else '"{}"'.format(_TO_ESCAPE.sub(r"\\\g<0>", text))


def _tokens(raw: str) -> list[tuple[str, str | bytes]]:
    """Return the words in order as (charset, bytes), and other text as ("", text)."""
    tokens: list[tuple[str, str | bytes]] = []
    position = 0
    for match in _ENCODED_WORD.finditer(raw):
        between = raw[position : match.start()]
        if between.strip() or not tokens:
            tokens.append(("", between))
        tokens.append((match["charset"].lower(), _payload(match["form"], match["payload"])))
        position = match.end()
    return [*tokens, ("", raw[position:])]


def _payload(form: str, payload: str) -> bytes:
    content = payload.encode("utf-8", "surrogateescape")
    if form in "qQ":
        return binascii.a2b_qp(content, header=True)
    return lenient_base64(content)


def lenient_base64(content: bytes) -> bytes:
    """Decode base64 with wrong characters, without padding, or with padding inside."""
    pieces = []
    for piece in re.split(rb"=+", re.sub(rb"[^A-Za-z0-9+/=]+", b"", content)):
        usable = piece[:-1] if len(piece) % 4 == 1 else piece
        pieces.append(base64.b64decode(usable + b"=" * (-len(usable) % 4)))
    return b"".join(pieces)


def _decode_run(charset: str, run: list[tuple[str, Any]]) -> str:
    values = [value for _, value in run]
    return decode(b"".join(values), charset) if charset else "".join(values)


# --- addresses -----------------------------------------------------------------------------------


def contacts(message: Message, name: str) -> tuple[Contact, ...]:
    """Return the addresses in all header fields of a name."""
    return tuple(contact for raw in raw_values(message, name) for contact in parse_addresses(raw))


def parse_addresses(raw: str) -> list[Contact]:
    """Return the addresses in a header. Text that is no address is returned as it is."""
    people: list[Contact] = []
    parts, comments, angle, depth, has_at = [], [], None, 0, False
    for piece in [*_ADDRESS_TOKEN.findall(raw), ","]:
        is_last = piece == "," and depth == 0
        if piece == "(":
            depth += 1
        elif piece == ")":
            depth = max(0, depth - 1)
        elif depth:
            comments.append(piece)
        elif is_last or piece == ";":
            people += _contact(parts, comments, angle)
            parts, comments, angle, has_at = [], [], None, False
        elif piece == ":" and not has_at:
            parts = []  # the name of a group
        elif piece.startswith("<") and len(piece) > 1:
            angle = piece[1:-1]
        else:
            parts.append(piece)
            has_at = has_at or "@" in piece
    return (
        parse_addresses(raw.replace("(", " ")) if depth else people
    )  # a comment without an end hides an address


def _contact(parts: list[str], comments: list[str], angle: str | None) -> list[Contact]:
    """Return the contact made of the text before an address in angle brackets, or of an address and a comment."""
    phrase = one_line(decode_words("".join(map(_unquoted, parts))))
    comment = one_line(decode_words("".join(map(_unquoted, comments))))
    if angle is not None and angle.strip():
        address, name = _ROUTE.sub("", one_line(decode_words(angle))), phrase or comment
    else:
        address, name = one_line("".join(parts)) if "@" in phrase else phrase, comment
    if match := _OBFUSCATED.fullmatch(address):
        address = f"{match[1]}@{match[2]}"
    address = address.removeprefix("mailto:").strip("<> ")
    return [Contact(name[:ID_LENGTH], address)] if address else []


def _unquoted(token: str) -> str:
    return _ESCAPED.sub(r"\1", token[1:-1]) if len(token) > 1 and token[0] == token[-1] == '"' else token


# --- Message-IDs ---------------------------------------------------------------------------------


def ids(message: Message, name: str) -> list[str]:
    """Return the Message-IDs in a header, with angle brackets, of at most ``ID_LENGTH`` characters each."""
    text = one_line(" ".join(raw_values(message, name)))
    return [bounded_id(f"<{message_id}>") for message_id in _MESSAGE_ID.findall(text)]


def message_id(message: Message, digest: str) -> str:
    """Return the Message-ID or, if there is none, an id made from the digest of the content."""
    if present := ids(message, "message-id"):
        return present[0]
    bare = one_line(" ".join(raw_values(message, "message-id"))).strip("<> ")
    return bounded_id(f"<{bare}>") if bare else f"<sha256-{digest}>"


def bounded_id(text: str) -> str:
    """Return an id, or the SHA-256 of a very long one."""
    return text if len(text) <= ID_LENGTH else f"<sha256-{hashlib.sha256(text.encode()).hexdigest()}>"


def list_id(message: Message) -> str:
    """Return the id of the mailing list in lower case, or ""."""
    text = header(message, "list-id")[:HEADER_LENGTH]
    match = _MESSAGE_ID.search(text)
    return (match[1] if match else text).lower()

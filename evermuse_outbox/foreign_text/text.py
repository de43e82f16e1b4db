"""Clean a text: replace control characters, mask secrets, and cut it. Pure, except for the set of known secrets.

Secrets are masked before the text is cut. In the other order, a key at the cut would keep a part that no longer looks
like a key.
"""

from __future__ import annotations

import re
from typing import Any

from .secrets import longest_secret, mask_secrets

REPLACEMENT = "\ufffd"
"""What is shown in place of a character that cannot be stored or must not reach a terminal."""

MIN_MARGIN = 512
"""Characters that are dropped where reading a long text stopped, because that may be inside of a secret. If a known
secret is longer, its length is dropped."""

_SPACES = r"\t\x0b\x0c\r\x1c-\x1f\x85\u2028\u2029"
_REFUSED = (
    r"\x00-\x1f\x7f-\x9f"  # control characters: NUL, ESC, the C1 set
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # they change the direction of text, so they can hide words
    "\u2028\u2029"  # line and paragraph separator
    "\ud800-\udfff"  # lone surrogates, which UTF-8 cannot encode
)
_UNSAFE = re.compile(f"[{_REFUSED}]")
_SPACE = re.compile(f"[{_SPACES}\n]")


def clean_text(value: object, limit: int | None = None, *, keep_lines: bool = False) -> str:
    """Return a text that every database can store, that contains no secret, and that is safe on a terminal.

    This never raises. It changes nothing in a text that it has returned.

    Args:
        value: a text, bytes in UTF-8, or any other object, of which ``str`` is taken.
        limit: maximum number of characters; None for no limit.
        keep_lines: whether line breaks stay. Without them, the text is one line.
    """
    text = value if type(value) is str else _text_of(value, limit)
    is_long = limit is not None and len(text) > _max_read(limit)
    if limit is not None and is_long:
        text = text[: _max_read(limit)]
    if not (text.isascii() and text.isprintable()) and _UNSAFE.search(text):
        text = _replace_unsafe(text, keep_lines)
    text = mask_secrets(text)
    if is_long:
        text = text[: -_margin()]
    return text if limit is None else text[:limit]


def is_clean(text: str) -> bool:
    """Return whether :func:`clean_text` would change nothing in a text. An id must be used exactly or not at all."""
    return clean_text(text) == text


def headline(message: str) -> str:
    """Return the part of a message before its first colon, for a log.

    In the messages of this package, foreign text stands behind a colon: ``HTTP 400: …``. Foreign text may quote
    the payload of a record, and no payload is logged.
    """
    return message.partition(":")[0]


def _text_of(value: Any, limit: int | None) -> str:
    if has_type(value, str):
        return str.__str__(value)
    try:
        if has_type(value, bytes):
            # A character has up to four bytes.
            head = value if limit is None else value[: 4 * (_max_read(limit) + 1)]
            return bytes.decode(head, "utf-8", "replace")
        return str.__str__(str(value))
    except Exception:
        return "(no text)"


def _max_read(limit: int) -> int:
    """Return how many characters of a long text are read. So it costs no more than a short one."""
    return 4 * limit + 2 * _margin()


def _margin() -> int:
    return max(MIN_MARGIN, longest_secret())


def has_type(value: object, kind: type) -> bool:
    """Return whether the type of ``value`` is ``kind`` or inherits from it. Its ``__class__`` has no effect."""
    # Not `in`, because it calls the `__eq__` of the metaclass.
    return any(base is kind for base in type.__dict__["__mro__"].__get__(type(value)))


def _replace_unsafe(text: str, keep_lines: bool) -> str:
    if keep_lines:
        text = text.replace("\r\n", "\n")
        return "\n".join(_UNSAFE.sub(REPLACEMENT, _SPACE.sub(" ", line)) for line in text.split("\n"))
    return _UNSAFE.sub(REPLACEMENT, _SPACE.sub(" ", text))

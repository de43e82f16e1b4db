"""Show a value of any type in a message. Its class may be hostile: every method of it may raise or lie."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from math import log10
from typing import Any

from .secrets import MASK
from .text import clean_text, has_type

MAX_REPR = 80
"""Maximum characters of a value that a message shows."""

_MAX_READ = 1_000
"""Characters of a text that are looked at. Even if all of them are secrets, more than ``MAX_REPR`` are left."""

_MAX_ITEMS = 3
_MAX_LEVEL = 2
_MAX_BITS = 1_000
_MAX_NAME = 64

_ATOMS = frozenset({bool, float, complex, type(None)})
_BRACKETS: dict[type, str] = {list: "[]", tuple: "()", set: "{}", frozenset: "{}", dict: "{}"}


def safe_repr(value: object) -> str:
    """Return the repr of any value in one line, cut to 80 characters, without secrets. This never raises."""
    text = clean_text(_brief(value, 0), MAX_REPR + 1)
    return text if len(text) <= MAX_REPR else f"{text[: MAX_REPR - 1]}{MASK}"


def show_value(value: object) -> str:
    """Return the repr of a value of a record; only its type if the host hides values."""
    return f"a value of type {type_name(value)}" if _hidden.is_on else safe_repr(value)


def hide_values(is_on: bool) -> None:
    """Show from now on only the types of values in errors about a record, or their repr again."""
    _hidden.is_on = is_on


class _Hidden:
    is_on = False


_hidden = _Hidden()


def type_name(value: object) -> str:
    """Return the name of a value's type, even if its metaclass has another ``__name__``."""
    return clean_text(type.__dict__["__name__"].__get__(type(value)), _MAX_NAME)


def _brief(value: Any, level: int) -> str:
    try:
        return _show(value, level)
    except Exception:
        return f"<{type_name(value)} object>"


def _show(value: Any, level: int) -> str:
    kind = type(value)
    if has_type(value, str):
        return repr(str.__str__(value)[:_MAX_READ])
    if kind is int:
        return _brief_int(value)
    if kind in _ATOMS:
        return repr(value)
    if kind is bytes or kind is bytearray:
        return repr(value[:_MAX_READ])
    if kind in _BRACKETS:
        return _brief_container(value, level)
    return str.__str__(repr(value))


def _brief_int(value: int) -> str:
    bits = value.bit_length()
    # Python refuses to convert an int of several thousand digits.
    return repr(value) if bits <= _MAX_BITS else f"an int of about {int(bits * log10(2)) + 1:,} digits"


def _brief_container(value: Any, level: int) -> str:
    brackets = _BRACKETS[type(value)]
    opening, closing = brackets[0], brackets[1]
    if level >= _MAX_LEVEL:
        return f"{opening}...{closing}"
    show: Callable[[Any], str] = lambda each: _brief(each, level + 1)  # noqa: E731
    items: Iterable[str]
    if type(value) is dict:
        items = (f"{show(key)}: {show(item)}" for key, item in islice(value.items(), _MAX_ITEMS))
    else:
        items = map(show, islice(value, _MAX_ITEMS))
    shown = [*items, *(["..."] if len(value) > _MAX_ITEMS else [])]
    comma = "," if type(value) is tuple and len(value) == 1 else ""
    return f"{opening}{', '.join(shown)}{comma}{closing}"

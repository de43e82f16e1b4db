"""Describe an exception: with its text for a table that operators read, without it for a log."""

from __future__ import annotations

import traceback
from typing import Any

from .text import clean_text
from .values import type_name

MAX_ERROR_TEXT = 300
"""Characters of an exception that are kept. A server controls part of the text, for example a bad header."""

_OURS = __name__.partition(".")[0]
_WITH_SAFE_TEXT = ("ImproperlyConfigured",)
_WITH_VALUES = ("InvalidRecord", "RecordTooLarge")


def describe_error(error: BaseException) -> str:
    """Return the class and the text of an exception, for the attempt log."""
    return clean_text(f"{type_name(error)}: {clean_text(error, MAX_ERROR_TEXT)}", MAX_ERROR_TEXT)


def summarise_error(error: BaseException) -> str:
    """Return the class of an exception and its code, for a log. The text follows only if this package wrote it.

    The text of another exception may contain payload. PostgreSQL, for example, quotes the values of a row.
    """
    name = type_name(error)
    if _has_our_text(error, name):
        return clean_text(error, MAX_ERROR_TEXT) or name
    code = error_code(error)
    return f"{name} ({code})" if code else name


def error_code(error: BaseException) -> str:
    """Return the code of a database error or of an ``OSError``; "" if there is none."""
    try:
        cause = error.__cause__ or error
        for attribute in ("sqlstate", "pgcode", "sqlite_errorname", "errno"):
            if code := getattr(cause, attribute, None):
                return clean_text(code, 32)
        number = cause.args[0] if cause.args else None
        return str(number) if type(number) is int and 0 <= number < 2**31 else ""
    except Exception:
        return ""


def format_traceback(error: BaseException) -> str:
    """Return the traceback of an exception and of its causes, with a summary in place of each text."""
    parts: list[str] = []
    seen: set[int] = set()
    current: Any = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        stack = "".join(traceback.format_tb(current.__traceback__))
        parts.append(f"Traceback (most recent call last):\n{stack}{summarise_error(current)}")
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "\n\nwhich was caused by:\n\n".join(parts)


def _has_our_text(error: BaseException, name: str) -> bool:
    is_ours = str(type(error).__module__).partition(".")[0] == _OURS
    return name in _WITH_SAFE_TEXT or (is_ours and name not in _WITH_VALUES)

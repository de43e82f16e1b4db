"""Readers of single values: each takes a value from the settings dict and returns it typed.

A reader raises :class:`InvalidValue` for a value that it does not accept. No error shows an API key (``em_sk_…``),
even if the key is in the wrong setting, because errors appear in logs and on error pages.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path, PurePath
from typing import Any, Literal
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from ...evermuse import InvalidProxy, Proxy, is_host, limits, parse_proxy
from ...foreign_text import HiddenText, clean_text, hide_secret, safe_repr, type_name
from .secret import Secret

FROM_ENVIRONMENT = "With django-environ, read it as env.int(…), env.float(…) or env.bool(…)."
"""Hint for text in place of a number or a flag: usually it is the value of an environment variable."""

LABEL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
"""The name of a label. It is written as ``NAME=VALUE`` on a command line."""

LABEL_NAMES = "up to 64 letters, digits, '_', '.' and '-', not a digit first"
"""What ``LABEL_NAME`` allows, in words."""

FORMAT_HINTS = ("text", "audio", "video", "file")
"""Values of the ``format`` hint of a request. Source: OpenAPI document, query parameter ``format``."""


class InvalidValue(ValueError):
    """A value that a setting does not accept.

    ``message`` says what is wrong and ``hint`` how to correct it. An empty hint stands for the default of the setting.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint


def read_url(value: Any) -> str:
    """Return the base URL of the API without a trailing slash."""
    _check_characters(value)
    parts = _split(value)
    if parts is None or parts.scheme not in ("http", "https") or not is_host(parts.hostname or ""):
        raise InvalidValue(
            f"{_shown_url(value)} is not an http(s) URL.", 'Use for instance "https://api.evermuse.com".'
        )
    if "@" in parts.netloc or "?" in value or "#" in value:
        raise InvalidValue(
            "the URL contains more than scheme, host and path.", "Put the key into API_KEY, not into the URL."
        )
    if not _PATH.fullmatch(parts.path):
        raise InvalidValue(
            "the path of the URL is not plain: the client would change it.",
            "Use letters, digits and - . _ ~ between single slashes, without . or .. as a part.",
        )
    return str(value).rstrip("/")


def _shown_url(value: Any) -> str:
    """Return a value for a message; not the value itself if it could contain a password or a key."""
    return "the value" if any(character in str(value) for character in "@?#") else safe_repr(value)


_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~-]+)*/?")


def _check_characters(value: Any) -> None:
    """Refuse a URL with white space or control characters. ``urlsplit`` removes a part of them without an error."""
    if isinstance(value, str) and (not value.isascii() or not value.isprintable() or " " in value):
        raise InvalidValue(
            "the URL contains characters that a URL cannot contain.", "Look for a space or a line break."
        )


def read_proxy(value: Any) -> Proxy | Literal[False] | None:
    """Return the proxy with this URL; False for no proxy, None if the environment variables decide."""
    if value is None:
        return None
    if value is False or value == "":
        return False
    if not isinstance(value, str):
        raise InvalidValue(
            f"the value must be the URL of a proxy, not {type_name(value)}.",
            'Use for instance "http://proxy.example:3128", or "" for no proxy.',
        )
    try:
        return parse_proxy(value)
    except InvalidProxy as error:
        raise InvalidValue(error.message, error.hint) from None


def read_redis_url(value: Any) -> Secret | None:
    """Return the URL of a Redis server as a :class:`Secret`, because it can have a password; None if it is empty."""
    if value in (None, ""):
        return None
    _check_characters(value)
    parts = _split(value)
    if parts is None or parts.scheme not in ("redis", "rediss", "unix"):
        raise InvalidValue(
            "the value is not a Redis URL.",
            'Use for instance "redis://127.0.0.1:6379/0", or remove the setting.',
        )
    for password in (parts.password, *parse_qs(parts.query).get("password", ())):
        if password:
            hide_secret(password)
            hide_secret(unquote(password))
    return Secret(str(value), is_masked=False)


def _split(value: Any) -> SplitResult | None:
    """Return the parts of a URL; None if it is not a URL."""
    try:
        parts = urlsplit(value) if isinstance(value, str) else None
        return parts if parts and (parts.port is None or parts.port) else None
    except ValueError:
        return None


def read_secret(value: Any) -> Secret:
    """Return an API key as a :class:`Secret`; an empty one for None."""
    if isinstance(value, Secret):
        return value
    if value is None:
        return Secret("")
    if not isinstance(value, str):
        raise InvalidValue(
            f"the value must be a string or a function, not {type_name(value)}.",
            "Read it from the environment.",
        )
    value = HiddenText(value)  # an error tracker stores the `repr` of local variables
    if len(value.strip().splitlines()) > 1:
        raise InvalidValue("the value has several lines.", "Keep only the line of the key.")
    if value.startswith(("/", "./", "file:")):
        raise InvalidValue("the value is the path of a file, not a key.", "Use API_KEY_FILE for a path.")
    if value != value.strip() or not value.isascii() or not value.isprintable():
        raise InvalidValue(
            "the key contains characters that an HTTP header cannot contain.",
            "Look for a space or a line break.",
        )
    return Secret(value)


def read_keys(value: Any) -> tuple[Any, ...]:
    """Return API keys: each as a :class:`Secret`, as the function that returns it, or as the path of its file."""
    if value is None or value == "":
        return ()
    if not isinstance(value, list | tuple):
        kind, value = type_name(value), None
        raise InvalidValue(f"the value must be a list of keys, not {kind}.", "Use API_KEY for a single key.")
    if len(value) > limits.MAX_KEYS:
        raise InvalidValue(
            f"the value has {len(value)} keys.", f"A workspace of Evermuse has at most {limits.MAX_KEYS}."
        )
    return tuple(_read_listed_key(key) for key in value if key)


def _read_listed_key(key: Any) -> Any:
    return Path(read_path(key) or "") if isinstance(key, PurePath) else read_key(key)


def read_key(value: Any) -> Secret | Callable[[], Any]:
    """Return an API key as a :class:`Secret`, or the function that returns it later."""
    return value if callable(value) else read_secret(value)


@dataclass(frozen=True, slots=True)
class Choice:
    """Read a string that must be one of ``names``."""

    names: tuple[str, ...]

    def __call__(self, value: Any) -> str:
        """Return the value, or raise InvalidValue."""
        if value not in self.names:
            known = ", ".join(self.names)
            raise InvalidValue(f"{safe_repr(value)} is not one of {known}.", _closest(value, self.names))
        return str(value)

    @property
    def allowed(self) -> str:
        """Return the allowed values in words, for messages and for the documentation."""
        return ", ".join(f'"{name}"' for name in self.names)


@dataclass(frozen=True, slots=True)
class Number:
    """Read a number from ``low`` to ``high``, both included."""

    low: float
    high: float
    unit: str
    is_integer: bool = False

    def __call__(self, value: Any) -> Any:
        """Return the value, or raise InvalidValue."""
        types = int if self.is_integer else (int, float)
        if isinstance(value, bool) or not isinstance(value, types) or not self.low <= value <= self.high:
            hint = f"Write it without quotes. {FROM_ENVIRONMENT}" if isinstance(value, str) else ""
            raise InvalidValue(f"{safe_repr(value)} is not {self.allowed}.", hint)
        return value

    @property
    def allowed(self) -> str:
        """Return the allowed values in words, for messages and for the documentation."""
        kind = "a whole number" if self.is_integer else "a number"
        of_unit = f" of {self.unit}" if self.unit else ""
        return f"{kind}{of_unit} from {show_number(self.low)} to {show_number(self.high)}"


def show_number(value: float) -> str:
    """Return a number as a reader expects it: 86,400 and 0.05."""
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def read_flag(value: Any) -> bool:
    """Return True or False."""
    if not isinstance(value, bool):
        hint = f"Write it without quotes. {FROM_ENVIRONMENT}" if isinstance(value, str) else ""
        raise InvalidValue(f"{safe_repr(value)} is not True or False.", hint)
    return value


def read_aliases(value: Any) -> tuple[str, ...]:
    """Return database aliases without duplicates, in the given order."""
    if not isinstance(value, list | tuple) or not value or not all(isinstance(alias, str) for alias in value):
        raise InvalidValue(
            f"{safe_repr(value)} is not a list of database aliases.", 'Use for instance ["default"].'
        )
    return tuple(dict.fromkeys(value))


def read_format_hints(value: Any) -> Mapping[str, str]:
    """Return a dict from a ``_type`` in lower case to its format hint."""
    if not isinstance(value, Mapping):
        raise InvalidValue(
            "the value must be a dict from _type to hint.", 'Use for instance {"call": "audio"}.'
        )
    read_hint = Choice(FORMAT_HINTS)
    return {str(name).lower(): read_hint(hint) for name, hint in value.items()}


def read_fixes(value: Any) -> Mapping[str, str]:
    """Return a dict from the name of a fix to the dotted path of its function."""
    if not isinstance(value, Mapping):
        raise InvalidValue(
            "the value must be a dict from name to dotted path.",
            'Use for instance {"product": "desk.fixes.product"}.',
        )
    for name, path in value.items():
        if not isinstance(name, str) or not isinstance(path, str) or "." not in path.strip("."):
            raise InvalidValue(
                f"{safe_repr(path)} is not the dotted path of a function.",
                'Use for instance {"product": "desk.fixes.product"}.',
            )
    return dict(value)


def read_function(value: Any) -> str | None:
    """Return the dotted path of a function; None if it is empty."""
    if value in (None, ""):
        return None
    if not isinstance(value, str) or not is_dotted_path(value):
        raise InvalidValue(
            f"{safe_repr(value)} is not the dotted path of a function.",
            'Use for instance "shop.storage.renew_url", or remove the setting.',
        )
    return value


def is_dotted_path(value: str) -> bool:
    """Return whether a text is a dotted path, such as ``shop.storage.renew_url``."""
    return bool(_DOTTED_PATH.fullmatch(value))


_DOTTED_PATH = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")


def read_queue(value: Any) -> str | None:
    """Return the name of a Celery queue; None for Celery's default queue."""
    if value is not None and (not isinstance(value, str) or not value):
        raise InvalidValue(
            f"{safe_repr(value)} is not a queue name.", "Remove the setting to use Celery's default queue."
        )
    return value


def read_seconds(value: Any) -> float | None:
    """Return a number of seconds, up to a year; None if there is none."""
    return None if value is None else float(Number(0, 31_536_000, "seconds")(value))


def is_label_name(value: Any) -> bool:
    """Return whether the value can be the name of a label."""
    return isinstance(value, str) and LABEL_NAME.fullmatch(value) is not None


def read_label(value: Any) -> str | None:
    """Return the name of a label; None if it is empty."""
    if value in (None, ""):
        return None
    if not is_label_name(value):
        raise InvalidValue(
            f"{safe_repr(value)} is not the name of a label: {LABEL_NAMES}.", 'Use for instance "customer".'
        )
    return str(value)


def read_directory(value: Any) -> str | None:
    """Return the absolute path of a directory; None if it is empty."""
    if value in (None, ""):
        return None
    if not isinstance(value, str | PathLike) or not Path(value).is_absolute():
        raise InvalidValue(
            f"{safe_repr(value)} is not an absolute path.", 'Use for instance "/var/lib/evermuse-outbox".'
        )
    return str(value)


def read_path(value: Any) -> str | None:
    """Return the absolute path of a file; None if it is empty."""
    if value in (None, ""):
        return None
    if not isinstance(value, str | PathLike) or not Path(value).is_absolute():
        raise InvalidValue(
            f"{safe_repr(value)} is not an absolute path.",
            'Use for instance "/run/secrets/evermuse_api_key".',
        )
    return str(value)


def suggest(value: Any, known: Collection[str]) -> str:
    """Return a hint with the known name that is most like ``value``, or with all known names."""
    return _closest(value, known) or f"Known: {', '.join(known)}."


def _closest(value: Any, known: Collection[str]) -> str:
    """Return a hint with the known name that is most like ``value``; an empty text if none is."""
    by_upper = {name.upper(): name for name in known}
    matches = difflib.get_close_matches(clean_text(value, 100).upper(), list(by_upper), n=1)
    return f"Did you mean {by_upper[matches[0]]!r}?" if matches else ""

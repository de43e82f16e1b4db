"""Read the master keys of the encryption at rest."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

from ...foreign_text import HiddenBytes, HiddenText, type_name
from .secret import Secret
from .values import InvalidValue

KEY_BYTES = 32
"""Bytes of a master key: AES-256."""

NEW_KEY = "python -c 'import base64, os; print(base64.b64encode(os.urandom(32)).decode())'"
"""Command that prints a new key."""

_HINT = f"Use the output of: {NEW_KEY}."

MasterKeys = tuple[Secret, ...] | Callable[[], Any] | None


def read_master_keys(value: Any) -> MasterKeys:
    """Return the master keys, or the function that returns them later; None if nothing is encrypted."""
    return value if callable(value) else read_key_list(value) or None


def read_key_list(value: Any) -> tuple[Secret, ...]:
    """Return the keys of a text, with one key in each line, or of a list of texts. No message shows a key."""
    if value in (None, ""):
        return ()
    if isinstance(value, str):
        value = [line for line in HiddenText(value).splitlines() if line.strip()]
    elif isinstance(value, Secret):
        value = [value]
    if not isinstance(value, list | tuple):
        raise InvalidValue(f"the value must be a list of keys or a function, not {type_name(value)}.", _HINT)
    return tuple(_read_key(number, key) for number, key in enumerate(value, start=1))


def key_bytes(key: Secret) -> bytes:
    """Return the bytes of a key. Raise ``ValueError`` if it is not base64 of ``KEY_BYTES`` bytes."""
    text = key.reveal().strip().replace("-", "+").replace("_", "/")
    decoded = HiddenBytes(base64.b64decode(text + "=" * (-len(text) % 4), validate=True))
    if len(decoded) != KEY_BYTES:
        raise ValueError("wrong length")
    return decoded


def _read_key(number: int, value: Any) -> Secret:
    if isinstance(value, str):
        value = Secret(HiddenText(value.strip()))
    if not isinstance(value, Secret):
        raise InvalidValue(f"key {number} must be a string, not {type_name(value)}.", _HINT)
    try:
        key_bytes(value)
    except (ValueError, binascii.Error):
        raise InvalidValue(f"key {number} is not {KEY_BYTES} bytes in base64.", _HINT) from None
    return value

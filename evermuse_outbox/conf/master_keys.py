"""The master keys of the encryption at rest, as the settings, the file or the function gives them now."""

from __future__ import annotations

from pathlib import Path

from ..foreign_text import HiddenBytes, HiddenText, error_code, type_name
from .options import SETTING
from .readers import InvalidValue, Secret, read_key_list
from .settings import get_static_settings

MAX_FILE_BYTES = 65_536
"""Bytes that are read from the file: about a thousand keys."""


class MasterKeysUnavailable(Exception):
    """The master keys cannot be read now. The text says why and what to do; it shows no key."""


def read_present_keys() -> tuple[Secret, ...]:
    """Return the master keys; the first one encrypts. A function is called, and a file is read, each time.

    Callers keep the data keys in memory, so this is rare.

    Raises:
        MasterKeysUnavailable: There is none, or the file or the function failed.
    """
    settings = get_static_settings()
    if settings.encryption_keys_file:
        name = "ENCRYPTION_KEYS_FILE"
        keys = _checked(_read_file(settings.encryption_keys_file), name)
    elif callable(settings.encryption_keys):
        name = "the function of ENCRYPTION_KEYS"
        try:
            keys = _checked(settings.encryption_keys(), name)
        except MasterKeysUnavailable:
            raise
        except Exception as error:
            # Without the text of the error, because it may quote a key, which is not known yet and so not masked.
            code = f" ({error_code(error)})" if error_code(error) else ""
            raise MasterKeysUnavailable(
                f"{name} failed: {type_name(error)}{code}. Call it in manage.py shell to see the error."
            ) from None
    else:
        name, keys = "ENCRYPTION_KEYS", settings.encryption_keys or ()
    if not keys:
        raise MasterKeysUnavailable(f"{SETTING}: {name} gives no key.")
    return keys


def _read_file(path: str) -> HiddenText:
    try:
        with Path(path).open("rb") as file:
            content = HiddenBytes(file.read(MAX_FILE_BYTES + 1))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no file can have this path"
        raise MasterKeysUnavailable(
            f"ENCRYPTION_KEYS_FILE cannot be read: {reason}. Mount the file, and let the user of this process read it."
        ) from None
    if len(content) > MAX_FILE_BYTES:
        raise MasterKeysUnavailable("ENCRYPTION_KEYS_FILE is too large for keys.")
    return HiddenText(content.decode("utf-8", "replace"))


def _checked(value: object, name: str) -> tuple[Secret, ...]:
    if isinstance(value, str):
        value = HiddenText(value)
    try:
        return read_key_list(value)
    except InvalidValue as error:
        raise MasterKeysUnavailable(f"{name} gives no valid keys: {error.message} {error.hint}") from None

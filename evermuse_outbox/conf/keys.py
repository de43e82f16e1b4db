"""Where an API key comes from when the settings do not contain it: a file or a function.

Both are read again while the process runs, so a new key takes effect without a restart. Every key that was read is
hidden in logs and errors for the rest of the process.
"""

from __future__ import annotations

import codecs
import os
import stat
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from ..foreign_text import HiddenBytes, HiddenText, clean_text, error_code, get_logger, log_ids, type_name
from .readers import InvalidValue, Secret, read_secret

logger = get_logger(__name__)

CALL_INTERVAL = 60.0
"""Seconds for which the result of a function is used. A function often asks a server, which should not be asked for
each request. After a 401, the function is called at once."""

RETRY_INTERVAL = 10.0
"""Seconds until a function that has failed is called again."""

MAX_PATH = 500
"""Characters of a path that are shown. The operator needs all of it to find the file."""

BYTE_ORDER_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

MAX_FILE_BYTES = 4_096
"""Bytes that are read from a file. A longer one is not the file of a key."""


class KeyUnavailable(Exception):
    """The key cannot be read now. The text says why and what to do; it is safe to store."""


class KeySource(Protocol):
    """A place from which a key is read again and again."""

    def read(self) -> Secret:
        """Return the present key, or raise KeyUnavailable."""

    def forget(self, refused: Secret) -> None:
        """Read the key again at the next ``read``, because the API has refused this one."""


class KeyFile:
    """A key in a file, such as a secret of a container. It is read each time, because that costs microseconds."""

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self) -> Secret:
        """Return the key without white space at its ends, or raise KeyUnavailable."""
        name = f"API_KEY_FILE {clean_text(repr(self.path), MAX_PATH)}"
        try:
            content = _read_file(self.path)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "no file can have this path"
            raise KeyUnavailable(
                f"{name} cannot be read: {reason}. Mount the file, and let the user of this process read it."
            ) from None
        if len(content) > MAX_FILE_BYTES:
            raise KeyUnavailable(f"{name} is too large for a key. Write the key into it, and nothing else.")
        if content.startswith(BYTE_ORDER_MARKS):
            raise KeyUnavailable(f"{name} begins with a byte order mark. Save the file as UTF-8 without one.")
        return _checked(HiddenText(content.decode("utf-8", "replace").strip()), name)

    def forget(self, refused: Secret) -> None:
        """Do nothing: the file is read each time."""


class KeyFunction:
    """A key that a function of the host returns. The result is used for ``CALL_INTERVAL`` seconds.

    If a later call fails, the last key remains in use, because it is probably still valid.
    """

    def __init__(self, function: Callable[[], Any], clock: Callable[[], float] = time.monotonic) -> None:
        self._function = function
        self._clock = clock
        self._lock = threading.Lock()
        self._key: Secret | None = None
        self._error = ""
        self._call_at: float | None = None

    def read(self) -> Secret:
        """Return the key, or raise KeyUnavailable if no call has returned one."""
        with self._lock:
            if self._call_at is None or self._clock() >= self._call_at:
                self._call()
            if self._key is None:
                raise KeyUnavailable(self._error)
            return self._key

    def with_function(self, function: Callable[[], Any]) -> KeyFunction:
        """Return a source that calls another function at the next call. Until then, the present key is used."""
        if function == self._function:
            return self
        successor = KeyFunction(function, self._clock)
        with self._lock:
            successor._key, successor._error, successor._call_at = self._key, self._error, self._call_at
        return successor

    def forget(self, refused: Secret) -> None:
        """Call the function at the next ``read``, unless it has returned another key since."""
        with self._lock:
            if self._key == refused:
                self._call_at = None

    def _call(self) -> None:
        try:
            self._key = _checked(self._function(), "the function of API_KEY")
        except KeyUnavailable as error:
            self._fail(str(error))
        except Exception as error:
            # Without the text of the error, because it may quote the key, which is not known yet and so not masked.
            code = error_code(error)
            self._fail(
                f"the function of API_KEY failed: {type_name(error)}{f' ({code})' if code else ''}. "
                "Call it in manage.py shell to see the error."
            )
        else:
            self._call_at = self._clock() + CALL_INTERVAL

    def _fail(self, message: str) -> None:
        self._error = message
        self._call_at = self._clock() + RETRY_INTERVAL
        if self._key is not None:
            logger.warning(
                "The function of API_KEY gave no key, so its last key remains in use: %s",
                self._error,
                extra=log_ids(),
            )


def _read_file(path: str) -> bytes:
    """Return the beginning of a regular file.

    Raises:
        OSError: It cannot be read, or is a directory, a pipe or a device.
        ValueError: The path contains NUL.
    """
    with open(path, "rb", opener=_open_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(None, "Not a regular file")
        return HiddenBytes(file.read(MAX_FILE_BYTES + 1))


def _open_without_waiting(path: str, flags: int) -> int:
    # Without O_NONBLOCK, the opening of a named pipe waits for a writer. Windows has no such flag.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _checked(value: Any, name: str) -> Secret:
    """Return a key that was read, or raise KeyUnavailable. Neither message nor local variables show the value."""
    if isinstance(value, str):
        value = HiddenText(value)
    elif value and not isinstance(value, Secret):
        kind, value = type_name(value), None
        raise KeyUnavailable(
            f"{name} gives no valid key: the value must be a string, not {kind}. Return a string."
        )
    if not value:
        raise KeyUnavailable(f"{name} gives no key: it is empty. Write a key of Evermuse into its place.")
    try:
        return read_secret(value)
    except InvalidValue as error:
        raise KeyUnavailable(f"{name} gives no valid key: {error.message} {error.hint}") from None

"""What a query returns for a line that cannot be decrypted now."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from ...encryption import PREFIX

NO_KEYS = (
    "The stored line is encrypted, and the settings have no ENCRYPTION_KEYS. Set them again, or decrypt all lines with "
    "`manage.py outbox_encrypt --decrypt` while they are set."
)


class Cause(Enum):
    """Why a line is unreadable."""

    WAITS = "waits"
    """A master key or the row of a data key is missing. The line is readable again when it is there."""
    DESTROYED = "destroyed"
    """A person has destroyed its data key. Nothing makes it readable again."""
    ALTERED = "altered"
    """The stored form is not what was written for this record."""


class UnreadableLine(str):
    """An empty line in the place of one that cannot be decrypted, with the reason."""

    __slots__ = ("cause", "message")

    cause: Cause
    message: str

    @classmethod
    def of(cls, cause: Cause, message: str) -> UnreadableLine:
        """Return the line for this cause; ``message`` is a sentence for people."""
        line = cls()
        line.cause, line.message = cause, message
        return line


class PayloadsUnreadable(Exception):
    """Lines cannot be read before a key is there again. The text says which one; nothing was changed."""


def cause_of(line: str) -> Cause | None:
    """Return why a line that was read is unreadable; None if it is readable."""
    if isinstance(line, UnreadableLine):
        return line.cause
    return Cause.WAITS if line.startswith(PREFIX) else None


def raise_if_waiting(lines: Iterable[str]) -> None:
    """Raise ``PayloadsUnreadable`` if one of the lines is readable only when a missing key is there again."""
    for line in lines:
        if cause_of(line) is Cause.WAITS:
            raise PayloadsUnreadable(line.message if isinstance(line, UnreadableLine) else NO_KEYS)

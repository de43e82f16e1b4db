"""Everything this room raises, below one root."""

import re
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError

MAX_GOT = 80  # characters of a value that a message shows
MAX_TOLD = 20  # errors that str() spells out; `errors` always has all of them


class EvermuseError(Exception):
    """Root of all that goes wrong with Evermuse."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with one field of a record.

    ``path`` leads there from the top of the record (``_participants[3].role``; empty for the record itself),
    ``got`` is the value's repr, cut to about 80 characters, ``allowed`` says what would have been taken.
    """

    path: str
    message: str
    got: str
    allowed: str

    @property
    def sentence(self) -> str:
        return f"{self.message} Got {self.got}; allowed: {self.allowed}."

    def __str__(self) -> str:
        return f"{self.path}: {self.sentence}" if self.path else self.sentence


class InvalidRecord(EvermuseError, ValidationError):
    """A record that Evermuse would refuse; carries all that is wrong with it.

    It is a Django ``ValidationError`` too: ``message_dict`` has the messages by path, those of the record
    itself under ``NON_FIELD_ERRORS``.
    """

    errors: tuple[FieldError, ...]

    def __init__(self, errors: Iterable[FieldError]) -> None:
        self.errors = tuple(errors)
        ValidationError.__init__(self, _by_path(self.errors))

    def __str__(self) -> str:
        told = "\n".join(map(str, self.errors[:MAX_TOLD]))
        more = len(self.errors) - MAX_TOLD
        return f"{told}\n… and {more:,} more" if more > 0 else told

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Celery pickles exceptions; Django's __init__ leaves other arguments behind than ours takes.
        return type(self), (self.errors,)


class RecordTooLarge(InvalidRecord):
    """A record that fits no request, not even alone."""


class Untranslatable(EvermuseError):
    """A record that the other contract has no way to say; the message tells how to go on."""


class TransportError(EvermuseError):
    """A request that brought no answer to go by."""


class Unreachable(TransportError):
    """Nothing was sent: refused, no such host, no TLS, no connection in time."""


class Unanswered(TransportError):
    """The request went out and may have been acted on: timeout, reset, a cut or unreadable answer."""


def shown(value: object) -> str:
    """The repr of any value, cut to about 80 characters, in valid Unicode and without API keys."""
    text = _API_KEY.sub("em_sk_…", _REPR.repr(value)).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= MAX_GOT else f"{text[: MAX_GOT - 1]}…"


def _by_path(errors: Iterable[FieldError]) -> dict[str, list[str]]:
    messages: dict[str, list[str]] = {}
    for error in errors:
        messages.setdefault(error.path or NON_FIELD_ERRORS, []).append(error.sentence)
    return messages


def _brief_repr() -> reprlib.Repr:
    brief = reprlib.Repr()
    brief.maxstring = brief.maxother = brief.maxlong = MAX_GOT
    brief.maxlevel, brief.maxdict, brief.maxlist, brief.maxtuple = 2, 3, 3, 3
    return brief


_REPR = _brief_repr()
_API_KEY = re.compile(r"em_sk_[\w.…-]+")

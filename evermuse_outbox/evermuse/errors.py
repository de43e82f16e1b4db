"""The exceptions of this package, all below :class:`EvermuseError`."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError

from ..foreign_text import MAX_REPR, clean_text

MAX_PATH = 300
"""Maximum characters of the path of an error. It contains keys of the host's data."""

MAX_SENTENCE = 1_000
"""Maximum characters of the message and of the allowed values. The longest of ours has half of that."""

MAX_PRINTED_ERRORS = 20
"""Maximum number of errors in the text of an exception. Its attribute ``errors`` has more of them."""

_CODE = "invalid_record"
"""The ``code`` of each error, for ``Form.has_error`` and for the answers of Django REST framework."""


class EvermuseError(Exception):
    """Base class of all exceptions about Evermuse."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """An error in one field of a record. All texts pass the gate for foreign text.

    Attributes:
        path: the place in the record, such as ``_participants[3].role``; empty for the record itself.
        message: what is wrong.
        got: the repr of the value, cut to 80 characters.
        allowed: the values that the field takes.
    """

    path: str
    message: str
    got: str
    allowed: str

    def __post_init__(self) -> None:
        for name, limit in _LIMITS.items():
            object.__setattr__(self, name, clean_text(getattr(self, name), limit))

    @property
    def sentence(self) -> str:
        """The error in words, without the path."""
        return f"{self.message} Got {self.got}; allowed: {self.allowed}."

    def __str__(self) -> str:
        return f"{self.path}: {self.sentence}" if self.path else self.sentence


class InvalidRecord(EvermuseError, ValidationError):
    """The record has errors, so Evermuse would refuse it; ``errors`` has the first of them.

    At most 100 errors of a record are listed, and at most 1,000 of one call of ``enqueue_many``. The check then stops.
    If it stopped early, ``is_cut`` is True, and the text and ``NON_FIELD_ERRORS`` say so.

    It is also a Django ``ValidationError``, so ``Form.clean()``, ``Model.clean()`` and a serializer of Django REST
    framework can raise it: the form then has one error for each wrong field of the record. The errors are about the
    form, not about one of its fields, because a form rarely has a field of the name ``_participants[0].email``.

    Attributes:
        errors: the errors, with path, message, value and allowed values.
        is_cut: whether the check stopped early.
        messages: the errors in words, each with its path.
        message_dict: the same in words without the path, by path; under ``NON_FIELD_ERRORS`` those about the record.
    """

    errors: tuple[FieldError, ...]
    is_cut: bool

    def __init__(self, errors: Iterable[FieldError], is_cut: bool = False) -> None:
        self.errors = tuple(errors)
        self.is_cut = is_cut
        # A list, not a dict: forms refuse a dict with names that are not fields of the form.
        messages = [ValidationError(str(error), code=_CODE) for error in self.errors]
        if is_cut:
            messages.append(ValidationError(self._cut_notice, code=_CODE))
        ValidationError.__init__(self, messages)

    @property
    def message_dict(self) -> dict[str, list[str]]:
        """The errors in words, by path. Changing it has no effect."""
        messages = _by_path(self.errors)
        if self.is_cut:
            messages.setdefault(NON_FIELD_ERRORS, []).append(self._cut_notice)
        return messages

    def __str__(self) -> str:
        text = "\n".join(map(str, self.errors[:MAX_PRINTED_ERRORS]))
        more = len(self.errors) - MAX_PRINTED_ERRORS
        text = f"{text}\n… and {more:,} more" if more > 0 else text
        return f"{text}\n{self._cut_notice}" if self.is_cut else text

    @property
    def _cut_notice(self) -> str:
        return f"The check stopped here: only the first {len(self.errors):,} errors are listed."

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Celery pickles exceptions. By default, pickle would pass Django's `args` to __init__, which needs `errors`.
        return type(self), (self.errors, self.is_cut)


class RecordTooLarge(InvalidRecord):
    """The record is larger than the maximum size of a request, so it cannot be sent even alone."""


class Untranslatable(EvermuseError):
    """A stored record cannot be written in the form of the other contract; the message says what to do."""


class TransportError(EvermuseError):
    """A request got no usable answer. The text passes the gate for foreign text."""

    def __init__(self, text: str = "") -> None:
        super().__init__(clean_text(text, MAX_SENTENCE))


class Unreachable(TransportError):
    """Nothing was sent: no such host, connection refused, failed TLS handshake, or no connection in time."""


class Unanswered(TransportError):
    """The request was sent and Evermuse may have processed it: timeout, reset, or an incomplete answer."""


def _by_path(errors: Iterable[FieldError]) -> dict[str, list[str]]:
    messages: dict[str, list[str]] = {}
    for error in errors:
        messages.setdefault(error.path or NON_FIELD_ERRORS, []).append(error.sentence)
    return messages


_LIMITS = {"path": MAX_PATH, "message": MAX_SENTENCE, "got": MAX_REPR, "allowed": MAX_SENTENCE}

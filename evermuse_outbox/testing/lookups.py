"""Lookups such as ``data__subject__icontains="refund"``, applied to an envelope, and their differences in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import SequenceMatcher
from typing import Any

from ..evermuse.records import Record

MISSING = object()
"""The value of a path that an envelope does not have."""

MAX_TEXT = 80
"""Characters of a value in a message."""

FIELDS = tuple(
    name if name == "data" else f"_{name}" for name in sorted(Record.__dataclass_fields__, key=str.lower)
)
"""The fields of an envelope, as Evermuse calls them."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """One condition on an envelope.

    Attributes:
        text: The lookup as the test wrote it, ``data__subject__icontains``.
        path: The field and the steps into it, ``("data", "subject")``.
        operator: How the value is compared: a key of :data:`OPERATORS`.
        expected: The value to compare with.
    """

    text: str
    path: tuple[str, ...]
    operator: str
    expected: Any

    def matches(self, envelope: Mapping[str, Any]) -> bool:
        """Return whether the envelope fulfils the condition."""
        value = value_at(envelope, self.path)
        if self.operator == "isnull":
            return (value is MISSING or value is None) is self.expected
        if value is MISSING:
            return self.operator == "exact" and self.expected is None
        return OPERATORS[self.operator].holds(value, self.expected)

    def closeness(self, envelope: Mapping[str, Any]) -> float:
        """Return 1 if the condition is fulfilled, and less if not: for a text, how similar it is."""
        if self.matches(envelope):
            return 1.0
        texts = (value_at(envelope, self.path), self.expected)
        if not all(isinstance(value, str) for value in texts):
            return 0.0
        return 0.5 * SequenceMatcher(None, *(value[:MAX_TEXT].lower() for value in texts)).ratio()

    def difference(self, envelope: Mapping[str, Any]) -> str:
        """Return in words why the envelope does not fulfil the condition."""
        value, place = value_at(envelope, self.path), ".".join(self.path)
        wanted = f"{OPERATORS[self.operator].words} {shorten(self.expected)}".strip()
        if self.operator == "isnull":
            wanted = "no value" if self.expected else "a value"
        if value is MISSING:
            return f"{place} is missing{_names_beside(envelope, self.path)}; expected {wanted}"
        return f"{place} is {shorten(value)}; expected {wanted}"


@dataclass(frozen=True, slots=True)
class Operator:
    """A comparison: its words in a message, and the function that compares."""

    words: str
    compare: Callable[[Any, Any], bool]

    def holds(self, value: Any, expected: Any) -> bool:
        """Return the result; values that cannot be compared do not match."""
        try:
            return bool(self.compare(*_comparable(value, expected)))
        except (TypeError, AttributeError):
            return False


def read_lookups(lookups: Mapping[str, Any]) -> list[Lookup]:
    """Return the conditions that keyword arguments mean.

    The first name is a field of the envelope, with or without its underscore. Further names are keys of objects and
    positions in arrays. The last one may be an operator. To compare a key with the name of an operator, add
    ``__exact``.

    Raises:
        TypeError: A lookup does not begin with a field of the envelope.
    """
    return [_read(text, expected) for text, expected in lookups.items()]


def value_at(envelope: Mapping[str, Any], path: Sequence[str]) -> Any:
    """Return the value at a path, or :data:`MISSING`."""
    value: Any = envelope
    for step in path:
        if isinstance(value, Mapping) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return MISSING
    return value


def shorten(value: Any) -> str:
    """Return the ``repr`` of a value, shortened."""
    shown = repr(value)
    return shown if len(shown) <= MAX_TEXT else f"{shown[: MAX_TEXT - 1]}…"


def _read(text: str, expected: Any) -> Lookup:
    first, *steps = text.lstrip("_").split("__")
    field = first if first == "data" else f"_{first}"
    if field not in FIELDS:
        raise TypeError(
            f"{text!r} is no lookup: it must begin with a field of the record. The fields are "
            f"{', '.join(name.lstrip('_') for name in FIELDS)}."
        )
    operator = steps.pop() if steps and steps[-1] in OPERATORS else "exact"
    if operator == "isnull" and not isinstance(expected, bool):
        raise TypeError(f"{text} must be True or False, not {expected!r}.")
    return Lookup(text, (field, *steps), operator, expected)


def _comparable(value: Any, expected: Any) -> tuple[Any, Any]:
    """Return both values in types that can be compared: the envelope has a text for a time and a list for a tuple."""
    if isinstance(expected, datetime) and isinstance(value, str):
        if expected.tzinfo is None:
            raise ValueError(f"{expected!r} has no time zone. Compare with an aware datetime.")
        return _as_time(value), expected
    return value, list(expected) if isinstance(expected, tuple) else expected


def _as_time(value: str) -> datetime | None:
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return None


def _is_equal(value: Any, expected: Any) -> bool:
    # In JSON, true and 1 are different values.
    return value == expected and isinstance(value, bool) == isinstance(expected, bool)


def _contains(value: Any, expected: Any) -> bool:
    if isinstance(value, Mapping) and isinstance(expected, Mapping):
        return all(name in value and _is_equal(value[name], item) for name, item in expected.items())
    return expected in value


def _names_beside(envelope: Mapping[str, Any], path: Sequence[str]) -> str:
    """Return the keys that are there instead of a missing one."""
    parent = value_at(envelope, path[:-1])
    if len(path) < 2 or not isinstance(parent, Mapping):
        return ""
    return f" ({'.'.join(path[:-1])} has {', '.join(map(shorten, parent)) or 'nothing'})"


OPERATORS = {
    "exact": Operator("", _is_equal),
    "iexact": Operator("without regard to case", lambda value, text: value.lower() == text.lower()),
    "contains": Operator("something with", _contains),
    "icontains": Operator(
        "something with, without regard to case,", lambda value, text: text.lower() in value.lower()
    ),
    "startswith": Operator("something that starts with", lambda value, text: value.startswith(text)),
    "endswith": Operator("something that ends with", lambda value, text: value.endswith(text)),
    "regex": Operator("a match of", lambda value, pattern: re.search(pattern, value) is not None),
    "in": Operator("any of", lambda value, values: any(_is_equal(value, item) for item in values)),
    "gt": Operator("more than", lambda value, bound: value > bound),
    "gte": Operator("at least", lambda value, bound: value >= bound),
    "lt": Operator("less than", lambda value, bound: value < bound),
    "lte": Operator("at most", lambda value, bound: value <= bound),
    "isnull": Operator("", lambda value, _: value is None),
}
"""The operators of lookups. They mean the same as those of Django's ``JSONField``."""

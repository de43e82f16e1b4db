"""Conversion of Python values to JSON, with a path and a reason for each value that JSON cannot represent.

The ``data`` of a record can have any shape. If all its values already have JSON's types, ``is_plain`` says so and
``encode`` takes it unchanged. ``Normaliser`` converts all other data first. Without the first, faster way, enqueueing
would need several times the CPU time. Both ways give the same JSON.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import cache, reduce
from itertools import chain
from math import isfinite
from typing import Any, TypeAlias
from uuid import UUID

from django.core.serializers.json import DjangoJSONEncoder
from django.utils.functional import Promise

from ...foreign_text import MAX_REPR, safe_repr, show_value, type_name
from .. import FieldError, advice, limits

ALLOWED_VALUES = (
    "text, bool, int, finite float, None, mappings with text keys, lists, tuples, datetime, date, "
    "naive time, timedelta, finite Decimal, UUID, enums of these"
)
ALLOWED_TEXT = "text without lone surrogates"
ALLOWED_INTS = "an int of at most 308 digits"

_TOO_LARGE_AN_INT = (
    "Too large for a JSON parser that reads numbers as double: write it as text, with str(value)."
)
_CURE_OF_SURROGATES = 'replace it with text.encode("utf-8", "replace").decode().'

# Placeholder for a refused value. The items after it keep their positions, and a list keeps its length.
REFUSED = object()

_as_django_does = DjangoJSONEncoder().default
_DJANGO_TYPES = (datetime, date, time, timedelta, UUID)
_ATOMS = frozenset({str, int, float, bool, type(None)})
_MAPPING = frozenset({dict})
_CONTAINERS = frozenset({dict, list, tuple})
_TEXT_ONLY = frozenset({str})
_MAX_VALUES = (
    limits.MAX_RECORD_BYTES // 2
)  # the smallest value takes one byte, and the comma after it another
_SHORT_INT = 2**64
_SHORT_TEXT = 200  # characters; a longer one is counted when it is converted
_MAX_SHOWN = 1_000  # characters of a refused text that its repr needs

MAX_READ = 2 * limits.MAX_RECORD_BYTES
"""Characters of all texts up to which a record is read. JSON with escapes can have six bytes for a character."""

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_SIMPLE_KEY = re.compile(r"[A-Za-z_][\w-]*", re.ASCII)


def is_plain(data: Any, max_depth: int = limits.MAX_DEPTH) -> bool:  # noqa: C901
    """Return whether ``data`` has only JSON's types, text keys and few levels, so that ``encode`` can take it.

    Lone surrogates, NaN and infinity are not detected here. ``encode`` rejects lone surrogates, and ``looks_plain``
    detects the others.

    Raises:
        TooLarge: it has more values or text than a record. A text or list that stands in many places counts once for
            each place, because ``encode`` writes it that often.
    """
    # One step for each level, not for each value: the expressions below loop in C, which is faster.
    level = [data]
    count = len(data) if type(data) in _CONTAINERS else 0
    if count > _MAX_VALUES:
        raise TooLarge
    size = 0
    types = {type(data)}
    for _ in range(max_depth):
        if not _CONTAINERS.issuperset(types):
            return False
        mappings = level if types == _MAPPING else [each for each in level if type(each) is dict]
        lists = () if types == _MAPPING else [each for each in level if type(each) is not dict]
        if len(level) > 1:
            count += sum(map(len, level))
            if count > _MAX_VALUES:
                raise TooLarge
            size += sum(map(len, chain.from_iterable(mappings)))
        if not _TEXT_ONLY.issuperset(map(type, chain.from_iterable(mappings))):
            return False
        items = [*chain.from_iterable(map(dict.values, mappings)), *chain.from_iterable(lists)]
        types = {*map(type, items)}
        size += _count_characters(items, types)
        if size > MAX_READ:
            raise TooLarge
        if int in types and not _has_short_ints(items, types):
            return False  # `encode` would take quadratic time for an int of millions of digits
        if _ATOMS.issuperset(types):
            return True
        level = [item for item in items if type(item) not in _ATOMS]
        types = {*map(type, level)}
    return False


def _count_characters(items: list[Any], types: set[type]) -> int:
    if str not in types:
        return 0
    return sum(map(len, items if types == _TEXT_ONLY else [item for item in items if type(item) is str]))


def _has_short_ints(items: list[Any], types: set[type]) -> bool:
    numbers = items if len(types) == 1 else [item for item in items if type(item) is int]
    return max(numbers) < _SHORT_INT and min(numbers) > -_SHORT_INT


def encode(value: Any) -> bytes:
    """Return a value as compact JSON in UTF-8; ``is_plain`` must be true for it, or ``Normaliser`` must have made it.

    pydantic's core writes JSON four times as fast as the standard library.

    Raises:
        ValueError: a text has a lone surrogate.
    """
    return _to_json()(value)


@cache
def _to_json() -> Callable[[Any], bytes]:
    from pydantic_core import to_json  # late, because only a process that validates needs it

    return to_json


def looks_plain(line: bytes) -> bool:
    """Return True if a line of JSON has no NaN and no infinity. ``encode`` takes them.

    False means that it may have one, because text can contain these words, too. Then only ``Normaliser`` can decide.
    """
    # Search for one byte first, because this is much faster than a search for several. Most lines lack this byte.
    return not ((b"N" in line and b"NaN" in line) or (b"I" in line and b"Infinity" in line))


def join_path(path: str, step: str | int) -> str:
    """Return an item's path: ``data.items``, ``data[2]``, or ``data['odd key']`` if the key is not a simple name."""
    if isinstance(step, int):
        return f"{path}[{step}]"
    if len(step) <= MAX_REPR and _SIMPLE_KEY.fullmatch(step):
        return f"{path}.{step}" if path else step
    return f"{path}[{safe_repr(step)}]"


Location: TypeAlias = "tuple[Location, str | int] | None"
"""The location of a value: the location of its container, and its key or index in it. A path is built from it only for
an error, because building a path for each value would take longer than the check."""


def _path(location: Location) -> str:
    steps: list[str | int] = []
    while location is not None:
        location, step = location
        steps.append(step)
    return reduce(join_path, reversed(steps), "")


class TooManyErrors(Exception):
    """More errors were found than one record lists."""


class ErrorList(list[FieldError]):
    """The errors of one record. It is never longer than one record lists."""

    def append(self, error: FieldError) -> None:
        """Add an error.

        Raises:
            TooManyErrors: the list is full. The error is not added.
        """
        if len(self) == limits.MAX_RECORD_ERRORS:
            raise TooManyErrors
        super().append(error)


class TooLarge(Exception):
    """The record is larger than what is read. Raised by ``Normaliser`` before it reads the rest."""


class Normaliser:
    """Convert values to JSON's types, and collect in ``errors`` the values that have no form in JSON.

    Subclasses of ``str``, ``int`` and ``float`` become that type. Lazy text is resolved, and an enum member becomes its
    value. The types that ``DjangoJSONEncoder`` supports are converted as it converts them.

    A list that contains a second list twice, which contains a third one twice, and so on, grows exponentially. So the
    values are counted before they are visited.
    """

    def __init__(self, errors: ErrorList | None = None) -> None:
        self.errors = ErrorList() if errors is None else errors
        self._open_containers: set[int] = set()
        self._values_left = _MAX_VALUES
        self._characters_left = MAX_READ

    @property
    def has_few_values(self) -> bool:
        """Whether so few values were converted that the short texts, which are not counted, cannot be too large."""
        return self._values_left > _MAX_VALUES - MAX_READ // _SHORT_TEXT // 5

    def convert(self, value: Any, location: Location = None, depth: int = 0) -> Any:  # noqa: C901
        """Return ``value`` in JSON's types, or add an error to ``errors`` and return ``REFUSED``.

        Args:
            value: any object.
            location: its location in the record, for the path of an error.
            depth: the number of containers around it.

        Raises:
            TooManyErrors: ``errors`` is full.
            TooLarge: the values do not fit into a record.
        """
        kind = type(value)  # not value.__class__, because a lazy object returns the class of its result
        if (
            value is None
            or kind is bool
            or (kind is str and len(value) <= _SHORT_TEXT and not _LONE_SURROGATE.search(value))
        ):
            return value
        try:
            if issubclass(kind, Enum):
                return self.convert(value.value, location, depth)
            if issubclass(kind, str | Promise):
                return self._convert_text(_resolve_text(value), location)
            if issubclass(kind, int):
                return self._convert_int(value, location)
            if issubclass(kind, float | Decimal):
                return self._convert_fractional(value, location)
            if issubclass(kind, Mapping | list | tuple):
                return self._convert_container(value, location, depth + 1)
            if issubclass(kind, _DJANGO_TYPES):
                return self._convert_django_type(value, location)
        except (TooManyErrors, TooLarge, MemoryError):
            raise
        except Exception as error:
            # The class of the value may be the host's, so each of its methods may raise.
            return self._refuse(
                location, value, f"It cannot be read, because this raises {type_name(error)}."
            )
        return self._refuse(location, value, advice.describe_non_json(value))

    def _refuse(self, location: Location, value: Any, message: str, allowed: str = ALLOWED_VALUES) -> Any:
        self.errors.append(FieldError(_path(location), message, show_value(value), allowed))
        return REFUSED

    def _count_characters(self, number: int) -> None:
        self._characters_left -= number
        if self._characters_left < 0:
            raise TooLarge

    def _count_values(self, number: int) -> None:
        self._values_left -= number
        if self._values_left < 0:
            raise TooLarge

    def _convert_text(self, text: str, location: Location) -> Any:
        self._count_characters(len(text))
        bad = _LONE_SURROGATE.search(text)
        if bad is None:
            return text
        message = f"A lone surrogate at position {bad.start()}: {_CURE_OF_SURROGATES}"
        return self._refuse(location, text[bad.start() :][:_MAX_SHOWN], message, ALLOWED_TEXT)

    def _convert_int(self, value: int, location: Location) -> Any:
        plain = int.__int__(value)
        if not -limits.MAX_NUMBER <= plain <= limits.MAX_NUMBER:
            return self._refuse(location, plain, _TOO_LARGE_AN_INT, ALLOWED_INTS)
        self._count_characters(int.bit_length(plain) // 3)
        return plain

    def _convert_fractional(self, value: float | Decimal, location: Location) -> Any:
        if not (isfinite(value) if isinstance(value, float) else value.is_finite()):
            return self._refuse(location, value, "JSON has no infinity and no NaN: write None or text.")
        return (
            float.__float__(value)
            if isinstance(value, float)
            else self._convert_text(_as_django_does(value), location)
        )

    def _convert_django_type(self, value: Any, location: Location) -> Any:
        try:
            return _as_django_does(value)
        except ValueError:  # a time with a zone, but without a date
            return self._refuse(location, value, "JSON has no time with a zone: write value.isoformat().")

    def _convert_container(self, value: Any, location: Location, depth: int) -> Any:
        if id(value) in self._open_containers:
            return self._refuse(location, type_name(value), "It contains itself.")
        if depth > limits.MAX_DEPTH:
            return self._refuse(
                location, type_name(value), f"Nested more than {limits.MAX_DEPTH} levels deep."
            )
        self._open_containers.add(id(value))
        try:
            return self._convert_members(value, location, depth)
        finally:
            self._open_containers.discard(id(value))

    def _convert_members(self, value: Any, location: Location, depth: int) -> Any:
        if not isinstance(value, Mapping):
            items = enumerate(self._counted(value, value))
            return [self.convert(item, (location, index), depth) for index, item in items]
        members: dict[str, Any] = {}
        for key, item in self._counted(value, value.items()):
            name = self._convert_key(key, location)
            if name in members:
                self._refuse(
                    (location, name), key, "Two keys of this mapping are the same text.", "each key once"
                )
            members[name] = self.convert(item, (location, name), depth)
        return members

    def _counted(self, container: Any, members: Iterable[Any]) -> Iterable[Any]:
        """Return the members of a container, counted in advance if its length can be trusted."""
        if type(container) in _CONTAINERS:
            self._count_values(len(container))
            return members
        return self._count_each(members)

    def _count_each(self, members: Iterable[Any]) -> Iterator[Any]:
        for member in members:
            self._count_values(1)
            yield member

    def _convert_key(self, key: Any, location: Location) -> str:
        plain = key.value if isinstance(key, Enum) else key
        if isinstance(plain, str | Promise):
            text = _resolve_text(plain)
            self._convert_text(text, (location, text))
            return text
        name = safe_repr(key)
        advice = f"A key has to be text, not {type_name(key)}: write str(key) if that is meant."
        self._refuse((location, name), key, advice, "text")
        return name


def _resolve_text(value: Any) -> str:
    return str.__str__(value) if isinstance(value, str) else str(value)

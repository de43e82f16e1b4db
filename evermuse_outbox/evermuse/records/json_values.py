"""Conversion of Python values to JSON, with a path and a reason for each value that JSON cannot represent.

The ``data`` of a record can have any shape. If all its values already have JSON's types, ``is_plain`` says so and
``encode`` takes it unchanged. ``Normaliser`` converts all other data first. Without the first, faster way, enqueueing
would need several times the CPU time. Both ways give the same JSON.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
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

from ...foreign_text import clean_text, safe_repr, type_name
from .. import FieldError, limits

ALLOWED_VALUES = (
    "text, bool, int, finite float, None, mappings with text keys, lists, tuples, datetime, date, "
    "naive time, timedelta, finite Decimal, UUID, enums of these"
)
ALLOWED_TEXT = "text without NUL characters and without lone surrogates"
TOO_LONG_AN_INT = "An int of more digits than Python converts (sys.get_int_max_str_digits): write it as text."

# Placeholder for a refused value. The items after it keep their positions, and a list keeps its length.
REFUSED = object()

_as_django_does = DjangoJSONEncoder().default
_DJANGO_TYPES = (datetime, date, time, timedelta, UUID)
_ATOMS = frozenset({str, int, float, bool, type(None)})
_MAPPING = frozenset({dict})
_CONTAINERS = frozenset({dict, list, tuple})
_TEXT_ONLY = frozenset({str})
_MAX_WIDTH = (
    100_000  # containers on one level; with more, a value may contain itself, which Normaliser detects
)
_MAX_CONTAINERS = limits.MAX_RECORD_BYTES // 2  # the smallest containers, [] and {}, take two bytes

_MAX_DIGITS = 4_300
"""Digits of the longest int that Python converts by default. Few JSON parsers read a longer one."""

_UNSENDABLE = re.compile("[\x00\ud800-\udfff]")
_SIMPLE_KEY = re.compile(r"[A-Za-z_][\w-]*", re.ASCII)


def is_plain(data: Any) -> bool:
    """Return whether ``data`` has only JSON's types, text keys and at most 100 levels, so that ``encode`` can take it.

    Lone surrogates, NUL characters, NaN and infinity are not detected here. ``encode`` rejects lone surrogates, and
    ``looks_plain`` detects the others.
    """
    # One step for each level, not for each value: the expressions below loop in C, which is faster.
    level = [data]
    for _ in range(limits.MAX_DEPTH):
        types = {*map(type, level)}
        if not _CONTAINERS.issuperset(types) or len(level) > _MAX_WIDTH:
            return False
        mappings = level if types == _MAPPING else [each for each in level if type(each) is dict]
        lists = () if types == _MAPPING else [each for each in level if type(each) is not dict]
        if not _TEXT_ONLY.issuperset(map(type, chain.from_iterable(mappings))):
            return False
        items = [*chain.from_iterable(map(dict.values, mappings)), *chain.from_iterable(lists)]
        if _ATOMS.issuperset(map(type, items)):
            return True
        level = [item for item in items if type(item) not in _ATOMS]
    return False


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
    """Return True if a line of JSON has no NUL character, NaN, infinity or very long int. ``encode`` takes them.

    False means that it may have one, because text can contain these words, too. Then only ``Normaliser`` can decide.
    """
    # Search for one byte first, because this is much faster than a search for several. Most lines lack this byte.
    return not (
        (b"\\" in line and b"\\u0000" in line)
        or (b"N" in line and b"NaN" in line)
        or (b"I" in line and b"Infinity" in line)
        or (len(line) > _MAX_DIGITS and _may_have_long_int(line))
    )


def _may_have_long_int(line: bytes) -> bool:
    # An int of more than _MAX_DIGITS digits contains one of these blocks completely. Most blocks end the test at once.
    block = _MAX_DIGITS // 2
    return any(line[start : start + block].isdigit() for start in range(0, len(line), block))


def join_path(path: str, step: str | int) -> str:
    """Return an item's path: ``data.items``, ``data[2]``, or ``data['odd key']`` if the key is not a simple name."""
    if isinstance(step, int):
        return f"{path}[{step}]"
    if _SIMPLE_KEY.fullmatch(step):
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


class Normaliser:
    """Convert values to JSON's types, and collect in ``errors`` the values that have no form in JSON.

    Subclasses of ``str``, ``int`` and ``float`` become that type. Lazy text is resolved, and an enum member becomes its
    value. The types that ``DjangoJSONEncoder`` supports are converted as it converts them.
    """

    def __init__(self) -> None:
        self.errors: list[FieldError] = []
        self._open_containers: set[int] = set()
        self._container_count = 0

    def convert(self, value: Any, location: Location = None, depth: int = 0) -> Any:
        """Return ``value`` in JSON's types, or add an error to ``errors`` and return ``REFUSED``.

        Args:
            value: any object.
            location: its location in the record, for the path of an error.
            depth: the number of containers around it.
        """
        kind = type(value)  # not value.__class__, because a lazy object returns the class of its result
        if value is None or kind is bool or (kind is str and not _UNSENDABLE.search(value)):
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
        except Exception as error:
            # The class of the value may be the host's, so each of its methods may raise.
            return self._refuse(
                location, value, f"It cannot be read, because this raises {type_name(error)}."
            )
        return self._refuse(location, value, f"JSON has no {type_name(value)}: {_suggest_conversion(value)}")

    def _refuse(self, location: Location, value: Any, message: str, allowed: str = ALLOWED_VALUES) -> Any:
        self.errors.append(FieldError(_path(location), message, safe_repr(value), allowed))
        return REFUSED

    def _convert_text(self, text: str, location: Location) -> Any:
        bad = _UNSENDABLE.search(text)
        if bad is None:
            return text
        name = "NUL character" if bad[0] == "\0" else "lone surrogate"
        return self._refuse(
            location, text[bad.start() :], f"A {name} at position {bad.start()}.", ALLOWED_TEXT
        )

    def _convert_int(self, value: int, location: Location) -> Any:
        return (
            int.__int__(value)
            if _has_digits(value)
            else self._refuse(location, "a long int", TOO_LONG_AN_INT)
        )

    def _convert_fractional(self, value: float | Decimal, location: Location) -> Any:
        if not (isfinite(value) if isinstance(value, float) else value.is_finite()):
            return self._refuse(location, value, "JSON has no infinity and no NaN.")
        return float.__float__(value) if isinstance(value, float) else _as_django_does(value)

    def _convert_django_type(self, value: Any, location: Location) -> Any:
        try:
            return _as_django_does(value)
        except ValueError as error:
            return self._refuse(location, value, f"{clean_text(error).rstrip('.')}.")

    def _convert_container(self, value: Any, location: Location, depth: int) -> Any:
        self._container_count += 1
        if id(value) in self._open_containers:
            return self._refuse(location, type_name(value), "It contains itself.")
        if depth > limits.MAX_DEPTH:
            return self._refuse(
                location, type_name(value), f"Nested more than {limits.MAX_DEPTH} levels deep."
            )
        if self._container_count > _MAX_CONTAINERS:
            return self._give_up(value, location)
        self._open_containers.add(id(value))
        try:
            return self._convert_members(value, location, depth)
        finally:
            self._open_containers.discard(id(value))

    def _give_up(self, value: Any, location: Location) -> Any:
        # A list that contains a second list twice, which contains a third one twice, and so on, grows exponentially.
        if self._container_count == _MAX_CONTAINERS + 1:
            self._refuse(location, type_name(value), "More lists and mappings than fit into a record.")
        return REFUSED

    def _convert_members(self, value: Any, location: Location, depth: int) -> Any:
        if not isinstance(value, Mapping):
            return [self.convert(item, (location, index), depth) for index, item in enumerate(value)]
        members: dict[str, Any] = {}
        for key, item in value.items():
            name = self._convert_key(key, location)
            if name in members:
                self._refuse(
                    (location, name), key, "Two keys of this mapping are the same text.", "each key once"
                )
            members[name] = self.convert(item, (location, name), depth)
        return members

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


def _has_digits(value: int) -> bool:
    try:
        int.__repr__(value)
    except ValueError:
        return False
    return True


def _suggest_conversion(value: Any) -> str:
    """Return what to do with a value of a type that JSON lacks."""
    try:
        return _conversion_of(type(value))
    except Exception:  # a metaclass of the host may raise
        return _AS_TEXT


_AS_TEXT = "convert it to text or to a mapping."


def _conversion_of(kind: type) -> str:
    if issubclass(kind, bytes | bytearray | memoryview):
        return "decode it, or write it as base64."
    if issubclass(kind, set | frozenset):
        return "a set has no order; convert it with sorted(value)."
    if hasattr(kind, "_meta"):
        return "select the fields of the model, or use django.forms.models.model_to_dict."
    if is_dataclass(kind):
        return "use dataclasses.asdict(value)."
    if hasattr(kind, "model_dump"):
        return "use value.model_dump()."
    return "use list(value)." if hasattr(kind, "__iter__") else _AS_TEXT

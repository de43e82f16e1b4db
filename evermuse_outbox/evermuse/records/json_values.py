"""Python values as JSON: what goes through as it is, and how anything else is told or refused.

``data`` is the host's own, of any shape. Two ways lead through this module to the same text: ``is_plain``
and ``encode`` for the common case, ``Normaliser`` for the rest, which knows a path for all it refuses.
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

from ..errors import FieldError, shown
from ..limits import MAX_DEPTH, MAX_RECORD_BYTES

ALLOWED_VALUES = (
    "text, bool, int, finite float, None, mappings with text keys, lists, tuples, datetime, date, "
    "naive time, timedelta, finite Decimal, UUID, enums of these"
)
ALLOWED_TEXT = "text without NUL characters and without lone surrogates"
TOO_LONG_AN_INT = "An int of more digits than Python reads (sys.get_int_max_str_digits): write it as text."

# Stands where a refused value stood, so that its neighbours keep their places and lengths stay as given.
REFUSED = object()

_as_django_does = DjangoJSONEncoder().default
_DJANGO_TYPES = (datetime, date, time, timedelta, UUID)
_ATOMS = frozenset({str, int, float, bool, type(None)})
_MAPPING = frozenset({dict})
_CONTAINERS = frozenset({dict, list, tuple})
_TEXT_ONLY = frozenset({str})
_MAX_WIDTH = 100_000  # containers on one level; with more, let the Normaliser look for circles
_MAX_CONTAINERS = MAX_RECORD_BYTES // 2  # the smallest, [] and {}, take two bytes

_UNSENDABLE = re.compile("[\x00\ud800-\udfff]")
_SIMPLE_KEY = re.compile(r"[A-Za-z_][\w-]*", re.ASCII)


def is_plain(data: Any) -> bool:
    """Whether ``encode`` may take ``data`` as it is: JSON's own types, no more than 100 levels, text keys.

    Says nothing of lone surrogates, which ``encode`` refuses, and of what ``looks_plain`` looks for.
    """
    # Level by level rather than one by one: the loops below run in C, whatever the shape.
    level = [data]
    for _ in range(MAX_DEPTH):
        kinds = {*map(type, level)}
        if not _CONTAINERS.issuperset(kinds) or len(level) > _MAX_WIDTH:
            return False
        mappings = level if kinds == _MAPPING else [each for each in level if type(each) is dict]
        lists = () if kinds == _MAPPING else [each for each in level if type(each) is not dict]
        if not _TEXT_ONLY.issuperset(map(type, chain.from_iterable(mappings))):
            return False
        items = [*chain.from_iterable(map(dict.values, mappings)), *chain.from_iterable(lists)]
        if _ATOMS.issuperset(map(type, items)):
            return True
        level = [item for item in items if type(item) not in _ATOMS]
    return False


def encode(value: Any) -> bytes:
    """Compact JSON in UTF-8 of what ``is_plain`` or ``Normaliser`` let through.

    Raises ``ValueError`` for lone surrogates.

    pydantic's core writes it four times as fast as the standard library does.
    """
    return _to_json()(value)


@cache
def _to_json() -> Callable[[Any], bytes]:
    from pydantic_core import to_json  # late, for the sake of all who never validate

    return to_json


def looks_plain(line: bytes) -> bool:
    """Whether a line is surely free of NUL characters, NaN and infinities, none of which ``encode`` minds.

    Text may hold these words too, so where this is False only a ``Normaliser`` can tell.
    """
    # One byte is found far faster than several, and most lines lack one of these.
    return not (
        (b"\\" in line and b"\\u0000" in line)
        or (b"N" in line and b"NaN" in line)
        or (b"I" in line and b"Infinity" in line)
    )


def inside(path: str, step: str | int) -> str:
    """The path one step down: ``data.items``, ``data[2]``; ``data['odd key']`` where a name would mislead."""
    if isinstance(step, int):
        return f"{path}[{step}]"
    if _SIMPLE_KEY.fullmatch(step):
        return f"{path}.{step}" if path else step
    return f"{path}[{shown(step)}]"


# A way down as links to the container above: most are never told, so none is written out before its time.
Way: TypeAlias = "tuple[Way, str | int] | None"


def _path(way: Way) -> str:
    steps: list[str | int] = []
    while way is not None:
        way, step = way
        steps.append(step)
    return reduce(inside, reversed(steps), "")


class Normaliser:
    """Turns values into what JSON has, and collects in ``errors`` all that cannot be turned.

    Every ``str``, ``int`` and ``float`` comes out as exactly that; lazy text is resolved, enums give their
    value, and what ``DjangoJSONEncoder`` knows is told as it tells it.
    """

    def __init__(self) -> None:
        self.errors: list[FieldError] = []
        self._around: set[int] = set()
        self._seen = 0

    def value(self, value: Any, way: Way = None, depth: int = 0) -> Any:
        """``value`` in JSON's types, or ``REFUSED``; ``depth`` is the number of containers around it."""
        kind = type(value)  # never value.__class__, which lazy objects borrow
        if value is None or kind is bool:
            return value
        if kind is str and not _UNSENDABLE.search(value):
            return value
        if issubclass(kind, Enum):
            return self.value(value.value, way, depth)
        if issubclass(kind, str | Promise):
            return self._text(_resolved(value), way)
        if issubclass(kind, int):
            return self._int(value, way)
        if issubclass(kind, float | Decimal):
            return self._fractional(value, way)
        if issubclass(kind, Mapping | list | tuple):
            return self._container(value, way, depth + 1)
        if issubclass(kind, _DJANGO_TYPES):
            return self._django_type(value, way)
        return self._refuse(way, value, f"JSON has no {kind.__name__}: {_advice(value)}")

    def _refuse(self, way: Way, value: Any, message: str, allowed: str = ALLOWED_VALUES) -> Any:
        self.errors.append(FieldError(_path(way), message, shown(value), allowed))
        return REFUSED

    def _text(self, text: str, way: Way) -> Any:
        bad = _UNSENDABLE.search(text)
        if bad is None:
            return text
        what = "NUL character" if bad[0] == "\0" else "lone surrogate"
        return self._refuse(way, text[bad.start() :], f"A {what} at position {bad.start()}.", ALLOWED_TEXT)

    def _int(self, value: int, way: Way) -> Any:
        return int.__int__(value) if _has_digits(value) else self._refuse(way, "a long int", TOO_LONG_AN_INT)

    def _fractional(self, value: float | Decimal, way: Way) -> Any:
        if not (isfinite(value) if isinstance(value, float) else value.is_finite()):
            return self._refuse(way, value, "JSON has no infinity and no NaN.")
        return float.__float__(value) if isinstance(value, float) else _as_django_does(value)

    def _django_type(self, value: Any, way: Way) -> Any:
        try:
            return _as_django_does(value)
        except ValueError as error:
            return self._refuse(way, value, f"{str(error).rstrip('.')}.")

    def _container(self, value: Any, way: Way, depth: int) -> Any:
        self._seen += 1
        if id(value) in self._around:
            return self._refuse(way, type(value).__name__, "It contains itself.")
        if depth > MAX_DEPTH:
            return self._refuse(way, type(value).__name__, f"Nested more than {MAX_DEPTH} levels deep.")
        if self._seen > _MAX_CONTAINERS:
            return self._give_up(value, way)
        self._around.add(id(value))
        try:
            return self._members(value, way, depth)
        finally:
            self._around.discard(id(value))

    def _give_up(self, value: Any, way: Way) -> Any:
        # A list that holds one list twice, which holds one list twice …: say it once, and walk no further.
        if self._seen == _MAX_CONTAINERS + 1:
            self._refuse(way, type(value).__name__, "More lists and mappings than any record has room for.")
        return REFUSED

    def _members(self, value: Any, way: Way, depth: int) -> Any:
        if not isinstance(value, Mapping):
            return [self.value(item, (way, index), depth) for index, item in enumerate(value)]
        members: dict[str, Any] = {}
        for key, item in value.items():
            name = self._key(key, way)
            if name in members:
                self._refuse((way, name), key, "Two keys of this mapping are the same text.", "each key once")
            members[name] = self.value(item, (way, name), depth)
        return members

    def _key(self, key: Any, way: Way) -> str:
        plain = key.value if isinstance(key, Enum) else key
        if isinstance(plain, str | Promise):
            text = _resolved(plain)
            self._text(text, (way, text))
            return text
        name = shown(key)
        advice = f"A key has to be text, not {type(key).__name__}: write str(key) if that is meant."
        self._refuse((way, name), key, advice, "text")
        return name


def _resolved(value: Any) -> str:
    return str.__str__(value) if isinstance(value, str) else str(value)


def _has_digits(value: int) -> bool:
    try:
        int.__repr__(value)
    except ValueError:
        return False
    return True


def _advice(value: Any) -> str:
    """What to do with a value of a kind that JSON lacks."""
    kind = type(value)
    if issubclass(kind, bytes | bytearray | memoryview):
        return "decode it, or write it as base64."
    if issubclass(kind, set | frozenset):
        return "a set has no order; make it a list, sorted(value)."
    if hasattr(kind, "_meta"):
        return "pick the fields of the model that you mean, or use django.forms.models.model_to_dict."
    if is_dataclass(kind):
        return "use dataclasses.asdict(value)."
    if hasattr(kind, "model_dump"):
        return "use value.model_dump()."
    return "make it a list, list(value)." if hasattr(kind, "__iter__") else "turn it into text or a mapping."

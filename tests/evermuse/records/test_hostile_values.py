"""Values of hostile classes: whatever their methods do, only InvalidRecord comes out, and its text is safe."""

from __future__ import annotations

import itertools
import random
from collections import UserDict, UserList, UserString
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from uuid import UUID

import pytest
from django.utils.functional import SimpleLazyObject, lazy, lazystr
from pydantic_core import from_json

from evermuse_outbox import outbox
from evermuse_outbox.evermuse import InvalidRecord
from evermuse_outbox.evermuse.records import Record, validate
from tests.evermuse.records.samples import sample
from tests.foreign_text.samples import KEY, is_printable_line

ERRORS = (
    RuntimeError("payload"),
    RecursionError(),
    KeyError(10**5_000),
    UnicodeDecodeError("a", b"b", 0, 1, "c"),
    StopIteration(),
)

METHODS = (
    "__repr__",
    "__str__",
    "__len__",
    "__iter__",
    "__bool__",
    "__eq__",
    "__hash__",
    "__getitem__",
    "__contains__",
    "__float__",
    "__int__",
    "__index__",
    "__getattribute__",
    "__format__",
    "__lt__",
    "__instancecheck__",
    "keys",
    "values",
    "items",
    "get",
    "lower",
    "upper",
    "encode",
    "utcoffset",
    "astimezone",
    "isoformat",
    "replace",
    "is_finite",
)

STANDARD = (
    str,
    int,
    float,
    list,
    tuple,
    dict,
    set,
    frozenset,
    bytes,
    Decimal,
    datetime,
    date,
    time,
    timedelta,
    UUID,
)


def raising(error):
    def method(*arguments, **options):
        raise error

    return method


def lying(result):
    return lambda *arguments, **options: result


def hostile_class(rng, base):
    """Return a class with the name of a standard one, of which some methods raise or lie."""
    lies = (None, -1, 3, "x", object(), [], 10**5_000, "\ud800\0", KEY)
    names = rng.sample(METHODS, rng.randint(1, 5))
    methods = {
        name: raising(rng.choice(ERRORS)) if rng.random() < 0.6 else lying(rng.choice(lies)) for name in names
    }
    if rng.random() < 0.2:
        methods["__class__"] = property(raising(RuntimeError()))
    return type(rng.choice(STANDARD).__name__, (base,), methods)


class HostileZone(tzinfo):
    def __init__(self, rng):
        self.result = rng.choice([None, 3, timedelta(days=2), timedelta(hours=1), "x", *ERRORS])

    def utcoffset(self, at):
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    dst = tzname = fromutc = utcoffset


class Meta(type):
    """A class whose class raises."""

    __name__ = property(raising(RuntimeError()))
    __subclasscheck__ = __instancecheck__ = __hash__ = __eq__ = raising(RuntimeError())


class Mapped(Mapping):
    """A mapping that lies about its length and its keys."""

    def __init__(self, keys, length, item):
        self._keys, self._length, self._item = keys, length, item

    def __iter__(self):
        return iter(self._keys)

    def __len__(self):
        return self._length

    def __getitem__(self, key):
        if isinstance(self._item, Exception):
            raise self._item
        return self._item


def failing_generator():
    yield 1
    raise RuntimeError("payload")


def instance(rng):
    """Return an object of a hostile class, on top of one of the standard ones."""
    base = rng.choice([object, *STANDARD])
    kind = hostile_class(rng, base)
    arguments = {
        str: ("conversation",),
        int: (3,),
        float: (1.5,),
        list: ([1],),
        tuple: ((1,),),
        dict: ({"a": 1},),
        set: ({1},),
        frozenset: ({1},),
        bytes: (b"a",),
        Decimal: ("1.5",),
        date: (2026, 3, 1),
        time: (8,),
        timedelta: (1,),
        datetime: (2026, 3, 1, 8, 0, 0, 0, HostileZone(rng)),
    }
    try:
        return kind("0" * 32) if base is UUID else kind(*arguments.get(base, ()))
    except Exception:
        return object.__new__(type("A", (), {"__repr__": raising(RuntimeError())}))


def cycle():
    value = {}
    value["a"] = [value]
    return value


def nested(depth):
    value = "x"
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


KEYS = ([], ["a"], ["a", "a"], [1, None], ["\ud800"], itertools.repeat("a", 3))


def hostile_values(rng):
    """Return values, each of which is hostile in its own way."""
    color = Enum("Color", {"RED": rng.choice(["a", 10**5_000, object(), "\ud800"])})
    return [
        lambda: instance(rng),
        lambda: instance(rng),
        lambda: instance(rng),
        lambda: instance(rng),
        lambda: 10 ** rng.choice([10, 4_299, 4_301, 20_000]),
        lambda: nested(rng.choice([5, 99, 101, 5_000])),
        cycle,
        lambda: rng.choice(["\ud800", "a\0b", KEY, "\x1b[31m", "x" * 100_000, "\u202e", "", "\n"]),
        lambda: rng.choice([b"\xff", bytearray(b"a"), memoryview(b"a")]),
        lambda: rng.choice([Decimal("sNaN"), Decimal("NaN"), Decimal("Infinity")]),
        lambda: rng.choice([float("nan"), -float("inf"), 1j, Fraction(1, 3)]),
        lambda: datetime(rng.choice([1, 2026, 9999]), 1, 1, tzinfo=HostileZone(rng)),
        lambda: rng.choice([date(2026, 1, 1), time(8, tzinfo=HostileZone(rng)), timedelta.max]),
        lambda: Mapped(rng.choice(KEYS), rng.choice([-1, 0, 3, 10**30]), rng.choice([*ERRORS, 1, None])),
        failing_generator,
        lambda: color.RED,
        lambda: rng.choice([UserDict({"a": 1}), UserList([1]), UserString("a")]),
        lambda: lazy(raising(rng.choice(ERRORS)), str)(),
        lambda: lazystr(object()),
        lambda: SimpleLazyObject(raising(rng.choice(ERRORS))),
        lambda: SimpleLazyObject(lambda: {"a": 1}),
        lambda: Meta("Odd", (), {})(),
        lambda: Meta("Odd", (), {}),
        lambda: type("a\n\x1b" * 50, (), {})(),
        lambda: rng.choice([object, ..., NotImplemented, print, type, random]),
    ]  # fmt: skip


FIELDS = (
    *sample("openapi"),
    "_project_id",
    "_participants",
    "_attachments",
    "_tags",
    "_pii",
    "_thread_id",
    KEY,
    "a\x1b\nb",
)


def hostile_records(count, seed):
    """Yield records with a hostile value in a field, in the data, as a key, or as the record itself."""
    rng = random.Random(seed)
    for _ in range(count):
        value = rng.choice(hostile_values(rng))()
        place = rng.randrange(6)
        if place == 0:
            yield value
        elif place == 1:
            yield sample("openapi", data={"a": [1, {"b": value}], KEY: value})
        elif place == 2:
            yield keyed(value)
        elif place == 3:
            yield Mapped([*sample("openapi"), "x"], rng.choice([-1, 0, 14]), value)
        else:
            yield sample(
                "openapi", **{rng.choice(FIELDS): rng.choice([value, [value], {"a": value}, {"id": value}])}
            )


def keyed(value):
    try:
        return sample("openapi", data={"a": {value: 1}})
    except Exception:  # the value has no hash
        return sample("openapi", _vendor_ids={"a": value})


def assert_safe(error):
    for each in error.errors:
        for text in (each.path, each.message, each.got, each.allowed):
            assert is_printable_line(text)
            assert KEY[6:14] not in text
            assert len(text) <= 1_000
    str(error).encode("utf-8")
    assert error.message_dict


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("contract", ["openapi", "reference"])
def test_a_hostile_value_raises_only_invalid_record(contract, seed):
    refused = 0
    for record in hostile_records(300, seed):
        try:
            envelope = validate(record, contract=contract)
        except InvalidRecord as error:
            refused += 1
            assert_safe(error)
        else:
            assert type(from_json(envelope.line)) is dict
            assert all(type(text) is str for text in (envelope.type, envelope.product_id, envelope.line))
            assert "\0" not in envelope.line
    assert refused > 150


@pytest.mark.django_db
def test_enqueue_takes_or_refuses_hostile_values(outbox_settings):
    outbox_settings(WAKE_ON_COMMIT=False)
    for record in hostile_records(150, seed=9):
        for call in (outbox.enqueue, lambda each: outbox.enqueue_many([each, each])):
            try:
                call(record)
            except InvalidRecord as error:
                assert_safe(error)


def test_a_record_object_with_hostile_fields_raises_only_invalid_record():
    rng = random.Random(5)
    fields = [*Record.__dataclass_fields__]
    valid = {
        "type": "email",
        "event_at": "2026-03-01T08:00:00Z",
        "vendor_ids": {"a": "1"},
        "product_id": "p",
        "data": {},
        "project_id": "p",
    }
    for _ in range(300):
        value = rng.choice(hostile_values(rng))()
        record = Record(**valid | {rng.choice(fields): value})
        try:
            validate(record, contract="reference")
        except InvalidRecord as error:
            assert_safe(error)


def test_an_error_names_the_value_that_cannot_be_read():
    class Odd(dict):
        def items(self):
            raise RuntimeError("payload")

    with pytest.raises(InvalidRecord) as caught:
        validate(sample("openapi", data={"a": [Odd()], "b": object()}), contract="openapi")
    assert [error.path for error in caught.value.errors] == ["data.a[0]", "data.b"]
    assert caught.value.errors[0].message == "It cannot be read, because this raises RuntimeError."


@pytest.mark.parametrize("workspace", ["other\n\x1b", ["a"], None])
def test_an_unknown_workspace_is_improperly_configured(workspace):
    from django.core.exceptions import ImproperlyConfigured

    with pytest.raises(ImproperlyConfigured) as caught:
        outbox.enqueue(sample(), workspace=workspace, using="default")
    assert is_printable_line(str(caught.value))

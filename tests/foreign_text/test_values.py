"""The repr of any value: short, one line, without secrets, whatever the class does."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given

from evermuse_outbox.foreign_text import MAX_REPR, hide_secret, safe_repr, type_name
from tests.foreign_text.samples import KEY, SECRET, TEXTS, is_printable_line


class HostileMeta(type):
    @property
    def __name__(cls):
        raise RuntimeError

    def __subclasscheck__(cls, other):
        raise RuntimeError


class Hostile(metaclass=HostileMeta):
    def fail(self, *_):
        raise RuntimeError

    __repr__ = __str__ = __len__ = __iter__ = __bool__ = __eq__ = __getattribute__ = fail
    __hash__ = None
    __class__ = property(fail)


def class_named(name, base):
    return type(name, (base,), {"__repr__": Hostile.fail, "__len__": Hostile.fail, "__iter__": Hostile.fail})


STANDARD = [str, int, float, list, tuple, dict, set, frozenset, bytes, bytearray]


@pytest.mark.parametrize("name", [kind.__name__ for kind in (*STANDARD, Decimal, datetime)])
@pytest.mark.parametrize("base", [object, *STANDARD])
def test_a_class_named_like_a_standard_class_is_shown(name, base):
    assert len(safe_repr(class_named(name, base)())) <= MAX_REPR


SHOWN = [
    (10**5_000, "an int of about 5,001 digits"),
    (-(10**5_000), "an int of about 5,001 digits"),
    (Hostile(), "<Hostile object>"),
    ([Hostile()], "[<Hostile object>]"),
    ({"a": 1, 2: (3,)}, "{'a': 1, 2: (3,)}"),
    ([1, 2, 3, 4], "[1, 2, 3, ...]"),
    ([[[1]]], "[[[...]]]"),
    ("a\n\x1b\ud800", r"'a\n\x1b\ud800'"),
    (b"a\xff", r"b'a\xff'"),
    (
        datetime(2026, 1, 1, tzinfo=UTC),
        "datetime.datetime(2026, 1, 1, 0, 0, tzinfo=datetime.timezone.utc)",
    ),
    (Decimal("sNaN"), "Decimal('sNaN')"),
    (None, "None"),
    (type("A\n\x1bB", (), {"__repr__": Hostile.fail})(), "<A \ufffdB object>"),
]


def test_a_value_is_shown():
    for value, shown in SHOWN:
        assert safe_repr(value) == shown


@given(TEXTS, TEXTS)
def test_no_part_of_a_secret_is_shown(before, after):
    hide_secret(SECRET)
    for secret in (SECRET, KEY):
        text = f"{before}{secret}{after}"
        for value in (text, [{before: secret}], (secret * 30,), text.encode("utf-8", "replace")):
            shown = safe_repr(value)
            assert len(shown) <= MAX_REPR
            assert is_printable_line(shown)
            assert secret[6:14] not in shown


def test_a_list_that_contains_itself_is_shown():
    value = []
    value.append(value)
    assert safe_repr(value) == "[[[...]]]"


def test_the_name_of_a_type_is_the_real_one():
    assert type_name(Hostile()) == "Hostile"
    assert type_name(type("a" * 1_000, (), {})()) == "a" * 64

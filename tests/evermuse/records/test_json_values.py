"""Conversion to JSON: which values have a form, which do not, and the path of each error."""

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import NamedTuple
from uuid import UUID

import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st

if not settings.configured:
    settings.configure(USE_I18N=False)

from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import TextChoices
from django.utils.functional import SimpleLazyObject, lazystr
from django.utils.safestring import mark_safe

from evermuse_outbox.evermuse import limits
from evermuse_outbox.evermuse.records.json_values import (
    Normaliser,
    TooLarge,
    encode,
    is_plain,
    join_path,
    looks_plain,
)

LONE_SURROGATE = "\ud83d"


class Colour(TextChoices):
    RED = "red", "Red"


class Shade(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Pair(Enum):
    BOTH = ("a", 1)


class Point(NamedTuple):
    x: int
    y: int


def normalise(value):
    normaliser = Normaliser()
    return normaliser.convert(value, (None, "data")), normaliser.errors


def refusals(value):
    return {error.path: error.message for error in normalise(value)[1]}


def nested(levels):
    value = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


@pytest.mark.parametrize("data", [{"n": 10**1_000_000}, {"n": [1.5, -(10**30)]}])
def test_data_with_a_long_int_is_not_plain(data):
    assert not is_plain(data), "the encoder would take quadratic time for its digits"


@pytest.mark.parametrize("number", [10**30, limits.MAX_NUMBER, -limits.MAX_NUMBER])
def test_a_long_int_in_the_range_of_a_double_is_kept(number):
    converted, errors = normalise({"n": number})
    assert (converted, errors) == ({"n": number}, [])
    assert abs(float(json.loads(encode(converted))["n"])) < float("inf")


@pytest.mark.parametrize(
    "value",
    [
        datetime(2026, 2, 24, 12, 34, 56, 123456, tzinfo=UTC),
        datetime(2026, 2, 24, 12, 34, 56),
        date(2026, 2, 24),
        time(12, 34, 56, 123456),
        timedelta(days=-1, seconds=5, microseconds=7),
        Decimal("1.50"),
        Decimal("1E+3"),
        UUID(int=5),
        lazystr("later"),
    ],
)
def test_the_types_of_django_get_the_form_that_django_gives_them(value):
    converted, errors = normalise({"x": value})
    assert not errors
    assert converted == json.loads(json.dumps({"x": value}, cls=DjangoJSONEncoder))


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (Pair.BOTH, ["a", 1]),
        (mark_safe("<b>"), "<b>"),
        (Point(1, 2), [1, 2]),
        ((1, (2,)), [1, [2]]),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (True, True),
        ({Colour.RED: 1, lazystr("k"): 2}, {"red": 1, "k": 2}),
    ],
)
def test_subclasses_become_plain_values(value, plain):
    converted, errors = normalise(value)
    assert not errors
    assert converted == plain
    assert is_plain({"x": converted})


@pytest.mark.parametrize(
    ("value", "path", "words"),
    [
        ({"a": [1, float("nan")]}, "data.a[1]", "NaN"),
        ({"a": float("-inf")}, "data.a", "infinity"),
        ({"a": Decimal("NaN")}, "data.a", "NaN"),
        ({"a": Decimal("sNaN")}, "data.a", "NaN"),
        ({"a": b"x"}, "data.a", "base64"),
        ({"a": {1}}, "data.a", "sorted"),
        ({"a": object()}, "data.a", "no object"),
        ({"a": (n for n in [1])}, "data.a", "list(value)"),
        ({"a": 1j}, "data.a", "no complex"),
        ({"a": 10**5000}, "data.a", "str(value)"),
        ({"a": [-(10**309)]}, "data.a[0]", "double"),
        ({"a": limits.MAX_NUMBER + 1}, "data.a", "double"),
        ({"a": time(1, tzinfo=UTC)}, "data.a", "value.isoformat()"),
        ({"a": {1: 2}}, "data.a['1']", "str(key)"),
        ({"a": {None: 2}}, "data.a.None", "str(key)"),
        ({"a": LONE_SURROGATE}, "data.a", "lone surrogate at position 0"),
        ({LONE_SURROGATE: 1}, r"data['\ud83d']", "lone surrogate"),
        ({"red": 1, Shade.RED: 2}, "data.red", "same text"),
        ({"odd key.x": b""}, "data['odd key.x']", "base64"),
        ({"a": SimpleLazyObject(lambda: "x")}, "data.a", "SimpleLazyObject"),
    ],
)
def test_a_refused_value_has_its_path_and_a_remedy(value, path, words):
    messages = refusals(value)
    assert list(messages) == [path]
    assert words in messages[path]


def test_a_hundred_levels_are_allowed_and_no_more():
    assert is_plain(nested(100))
    assert not refusals(nested(100))
    assert not is_plain(nested(101))
    assert list(refusals(nested(101)).values()) == ["Nested more than 100 levels deep."]


def test_a_value_that_contains_itself_several_times_is_reported_at_once():
    value = {}
    value["here"] = [value, value]
    with pytest.raises(TooLarge):
        is_plain(value)
    assert refusals(value) == {
        "data.here[0]": "It contains itself.",
        "data.here[1]": "It contains itself.",
    }


def test_a_list_may_stand_in_two_places():
    twice = ["x"]
    assert normalise([twice, twice]) == ([["x"], ["x"]], [])


def test_the_shown_value_is_short_valid_and_without_keys():
    _, [error] = normalise({"a": b"em_sk_secret" + b"x" * 10_000})
    assert len(error.got) <= 80
    assert "secret" not in error.got
    _, [error] = normalise({"a": LONE_SURROGATE})
    error.got.encode()


@pytest.mark.parametrize(
    ("step", "path"),
    [("a", "data.a"), (3, "data[3]"), ("a-b", "data.a-b"), ("a.b", "data['a.b']"), ("", "data['']")],
)
def test_paths(step, path):
    assert join_path("data", step) == path


@pytest.mark.parametrize("value", [{1: 2}, {"a": {None: 1}}, {"a": [Decimal(1)]}, {"a": mark_safe("x")}, 3])
def test_only_the_exact_types_of_json_are_plain(value):
    assert not is_plain(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_json_lacks_never_look_plain(value):
    assert not looks_plain(encode({"a": [value]}))


short_ints = st.integers(
    1 - 2**64, 2**64 - 1
)  # longer ones never take the fast path, and are accepted nevertheless
leaves = st.none() | st.booleans() | short_ints | st.floats(allow_nan=False, allow_infinity=False)
leaves |= st.text(st.characters(exclude_categories=["Cs"]))
texts = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(texts, inner))


@given(json_values)
def test_both_ways_give_the_same_json(value):
    converted, errors = normalise(value)
    assert not errors
    assert converted == value
    assert encode(converted) == encode(value)
    assert json.loads(encode(value)) == value


@given(st.recursive(leaves | st.binary() | st.just(LONE_SURROGATE), lambda inner: st.lists(inner)))
def test_a_value_is_refused_exactly_if_the_fast_path_rejects_it(value):
    assert bool(normalise(value)[1]) == (not _takes_the_fast_path(value))


def _takes_the_fast_path(value):
    try:
        return is_plain([value]) and looks_plain(encode([value]))
    except ValueError:
        return False

"""The budget of a wrong record: its errors, the values that are visited and the text are counted, not timed."""

from __future__ import annotations

import pickle
import sys
import tracemalloc
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import count

import pytest
from django.core.exceptions import NON_FIELD_ERRORS
from django.utils.functional import lazystr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic_core import ValidationError

from evermuse_outbox.evermuse import InvalidRecord, RecordTooLarge, limits
from evermuse_outbox.evermuse.records import json_values, validate
from evermuse_outbox.evermuse.records.json_values import Normaliser
from evermuse_outbox.evermuse.records.schema import checker, find_errors
from tests.evermuse.records.samples import LONE_SURROGATE, sample

pytestmark = pytest.mark.long

MEGABYTE = 1_000_000


def double(times, leaf):
    """Return a list that contains a list twice, which contains a list twice, and so on."""
    value = leaf
    for _ in range(times):
        value = [value, value]
    return value


def nest(levels):
    value: list = []
    for _ in range(levels):
        value = [value]
    return value


def refused(**changes):
    """Return the error of a changed sample, and the peak of the memory that its validation took."""
    record = sample(**changes)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRecord) as caught:
            validate(record, contract="openapi")
        return caught.value, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


class Endless(Mapping):
    """A mapping whose iteration never ends."""

    def __getitem__(self, key):
        return 1

    def __len__(self):
        return 1

    def __iter__(self):
        return (f"k{number}" for number in count())


class EndlessList(list):
    def __iter__(self):
        return iter(int, 1)


MANY = 20_000
MANY_ERRORS = {
    "tags": {"_tags": [1] * MANY},
    "tags of mappings": {"_tags": [{}] * MANY},
    "participants": {"_participants": [{}] * MANY},
    "unknown fields": {f"k{number}": 1 for number in range(MANY)},
    "unknown fields of a participant": {"_participants": [{f"k{number}": 1 for number in range(MANY)}]},
    "vendor ids": {"_vendor_ids": {f"k{number}": 1 for number in range(MANY)}},
    "projects": {"_project_ids": [1] * MANY},
    "detected entities": {"_pii": {"detected_entities": [{}] * MANY}},
    "NaN": {"data": {"x": [float("nan")] * MANY}},
    "keys": {"data": dict.fromkeys(range(MANY), 1)},
    "surrogates": {"data": {"x": [LONE_SURROGATE * 1_000] * MANY}},
}


@pytest.mark.parametrize("changes", MANY_ERRORS.values(), ids=MANY_ERRORS)
def test_the_errors_of_a_record_are_counted(changes):
    error, peak = refused(**changes)
    assert len(error.errors) == limits.MAX_RECORD_ERRORS
    assert error.is_cut
    notice = "The check stopped here: only the first 100 errors are listed."
    assert str(error).endswith(notice)
    assert notice in error.message_dict[NON_FIELD_ERRORS]
    assert pickle.loads(pickle.dumps(error)).is_cut
    assert peak < 20 * MEGABYTE


def test_a_record_with_few_errors_lists_all():
    error, _ = refused(_tags=[1] * limits.MAX_RECORD_ERRORS)
    assert len(error.errors) == limits.MAX_RECORD_ERRORS
    assert not error.is_cut
    assert NON_FIELD_ERRORS not in error.message_dict


def test_items_after_the_maximum_are_not_visited(monkeypatch):
    visited = []
    convert = Normaliser.convert
    monkeypatch.setattr(Normaliser, "convert", lambda self, *args: visited.append(1) or convert(self, *args))
    error, _ = refused(_tags=["t"] * MEGABYTE)
    assert [each.message for each in error.errors] == ["Too many."]
    assert len(visited) < 300


SHARED_OR_LARGE = {
    "a list in a list, doubled": {"x": double(95, "ha")},
    "a large list many times": {"x": [list(range(1_000))] * 1_000},
    "a large text many times": {"x": ["a" * 10_000] * 5_000},
    "a large key many times": {"x": [{"a" * 10_000: 1}] * 5_000},
    "a large lazy text many times": {"x": [lazystr("a" * 10_000)] * 5_000},
    "a large int many times": {"x": [10**308] * 15_000},
    "large texts and a value that is converted": {"x": ["a" * 10_000] * 5_000, "at": datetime.now(UTC)},
    "short texts and a value that is converted": {"x": ["a" * 190] * 5_000, "at": datetime.now(UTC)},
    "one text": {"x": "a" * MEGABYTE},
    "an endless mapping": {"x": Endless()},
    "an endless list": {"x": EndlessList()},
}


@pytest.mark.parametrize("data", SHARED_OR_LARGE.values(), ids=SHARED_OR_LARGE)
def test_shared_and_large_values_end_as_too_large(data, monkeypatch):
    monkeypatch.setattr(json_values, "_MAX_VALUES", 20_000)
    monkeypatch.setattr(json_values, "MAX_READ", 100_000)
    error, peak = refused(data=data)
    assert isinstance(error, RecordTooLarge)
    assert peak < 10 * MEGABYTE


@pytest.mark.parametrize(
    "changes",
    [
        {"_product_id": "é" * 5 * MEGABYTE},
        {"_type": "é" * 5 * MEGABYTE},
        {"_event_at": "2026-03-01T08:00:00." + "0" * 5 * MEGABYTE},
        {"_vendor_ids": dict.fromkeys((f"k{number}" for number in range(1_000)), "a" * MEGABYTE)},
        {"_participants": [{"id": "a", "role": "b" * MEGABYTE}] * 50},
        {"_tags": [OrderedDict((str(number), number) for number in range(2_000))] * 200},
        {"_tags": nest(100_000)},
        {"data": {"x": nest(100_000)}},
        {"b" * MEGABYTE: 1},
    ],
)
def test_large_values_in_other_fields_take_little_memory(changes):
    error, peak = refused(**changes)
    assert len(str(error)) < 100_000
    assert peak < 100 * MEGABYTE


def test_a_long_int_is_refused_also_if_python_would_convert_it():
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)  # as some hosts do
    try:
        error, _ = refused(data={"x": 1 << 1_000_000})
        assert [each.path for each in error.errors] == ["data.x"]
        validate(sample(data={"x": 10**308}), contract="openapi")
    finally:
        sys.set_int_max_str_digits(before)


def test_a_list_that_is_long_and_valid_is_accepted():
    entities = [{"type": "email", "value": str(number)} for number in range(5_000)]
    projects = [f"p{number}" for number in range(5_000)]
    ids = {f"k{number}": "x" for number in range(5_000)}
    record = sample(_pii={"detected_entities": entities}, _project_ids=projects, _vendor_ids=ids)
    assert validate(record, contract="openapi").size > 5_000
    many = [[] for _ in range(150_000)]
    assert validate(sample(data={"x": many}), contract="openapi").size > 450_000


wrong = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.just(LONE_SURROGATE),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.builds(lazystr, st.text())
    ),
)
FIELDS = [
    "_type",
    "_event_at",
    "_vendor_ids",
    "_project_ids",
    "_participants",
    "_tags",
    "_pii",
    "data",
    "other",
]


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(FIELDS), wrong), st.integers(1, 150))
def test_any_input_is_accepted_or_has_few_errors(changes, times):
    changes = {
        name: [value] * times if name != "data" else {"x": [value] * times} for name, value in changes.items()
    }
    found = 0
    try:
        validate(sample(**changes), contract="openapi")
    except InvalidRecord as error:
        found = len(error.errors) or MANY
    assert found <= limits.MAX_RECORD_ERRORS


simple = st.none() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
fields = st.dictionaries(st.sampled_from(["id", "role", "email", "nmae", "type"]), simple, max_size=4)


@given(
    st.lists(fields | simple, max_size=4),
    st.dictionaries(st.text(max_size=2), simple, max_size=3) | simple,
    st.dictionaries(st.sampled_from(["contains_email", "sensitive_score", "detected_entities"]), simple)
    | simple,
)
def test_the_search_finds_an_error_exactly_if_the_check_does(participants, ids, pii):
    record = sample(_participants=participants, _vendor_ids=ids, _pii=pii)
    found = {error.path for error in find_errors(record, "openapi")}
    try:
        checker("openapi")(record)
    except ValidationError:
        assert found
    else:
        assert not found

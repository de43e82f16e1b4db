"""Lookups find exactly the envelopes that they describe, and say in words what differs."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from evermuse_outbox.testing.lookups import OPERATORS, read_lookups

ENVELOPE = {
    "_type": "email",
    "_event_at": "2026-02-24T12:34:56Z",
    "_vendor_ids": {"message_id": "mail-17"},
    "_product_id": "prod-1",
    "_tags": ["urgent", "refund"],
    "_participants": [{"id": "u1", "role": "external", "email": "ada@acme.example"}],
    "data": {"subject": "A Refund", "count": 1, "is_open": True, "none": None, "in": "x", "a": {"b": [[1]]}},
}
EVENT_AT = datetime(2026, 2, 24, 12, 34, 56, tzinfo=UTC)


def matches(**lookups):
    return all(lookup.matches(ENVELOPE) for lookup in read_lookups(lookups))


@pytest.mark.parametrize(
    "lookups",
    [
        {"type": "email"},
        {"_type": "email", "product_id": "prod-1"},
        {"vendor_ids__message_id": "mail-17"},
        {"vendor_ids": {"message_id": "mail-17"}},
        {"participants__0__email": "ada@acme.example"},
        {"tags": ("urgent", "refund")},
        {"tags__contains": "refund"},
        {"tags__1": "refund"},
        {"data__subject": "A Refund"},
        {"data__subject__exact": "A Refund"},
        {"data__subject__iexact": "a refund"},
        {"data__subject__contains": "Ref"},
        {"data__subject__icontains": "REFUND"},
        {"data__subject__startswith": "A "},
        {"data__subject__endswith": "und"},
        {"data__subject__regex": "^A R"},
        {"data__subject__in": ["x", "A Refund"]},
        {"data__count__gt": 0, "data__count__gte": 1, "data__count__lt": 2, "data__count__lte": 1},
        {"data__contains": {"count": 1}},
        {"data__a__b__0__0": 1},
        {"data__in__exact": "x"},
        {"data__none": None},
        {"data__missing": None},
        {"data__none__isnull": True, "data__missing__isnull": True, "data__subject__isnull": False},
        {"event_at": EVENT_AT},
        {"event_at__lt": datetime(2027, 1, 1, tzinfo=UTC)},
    ],
    ids=str,
)
def test_lookups_that_match(lookups):
    assert matches(**lookups)


@pytest.mark.parametrize(
    "lookups",
    [
        {"type": "Email"},
        {"type": "email", "product_id": "prod-2"},
        {"vendor_ids__message_id": 17},
        {"participants__1__email": "ada@acme.example"},
        {"tags__contains": "ref"},
        {"tags__2": "refund"},
        {"data__count": True},
        {"data__is_open": 1},
        {"data__count": "1"},
        {"data__count__contains": 1},
        {"data__subject__gt": 3},
        {"data__count__in": [True, "1"]},
        {"data__contains": {"count": True}},
        {"data__contains": {"count": 1, "other": 1}},
        {"data__missing": "x"},
        {"data__missing__in": ["x"]},
        {"data__subject__icontains": "refunds"},
        {"data__subject__isnull": True},
        {"data__missing__isnull": False},
        {"event_at": EVENT_AT.replace(second=57)},
        {"data__subject": EVENT_AT},
    ],
    ids=str,
)
def test_lookups_that_do_not_match(lookups):
    assert not matches(**lookups)


@pytest.mark.parametrize(
    ("lookup", "value", "words"),
    [
        ("type", "call", "_type is 'email'; expected 'call'"),
        ("vendor_ids__message_id", 17, "_vendor_ids.message_id is 'mail-17'; expected 17"),
        ("participants__0__email__endswith", ".org", ("_participants.0.email is 'ada@acme.example'; expected something "
         "that ends with '.org'")),
        ("vendor_ids__mail", "x", "_vendor_ids.mail is missing (_vendor_ids has 'message_id'); expected 'x'"),
        ("thread_id", "x", "_thread_id is missing; expected 'x'"),
        ("data__subject__isnull", True, "data.subject is 'A Refund'; expected no value"),
        ("data__count__gt", 4, "data.count is 1; expected more than 4"),
    ],
)  # fmt: skip
def test_differences_in_words(lookup, value, words):
    (condition,) = read_lookups({lookup: value})
    assert condition.difference(ENVELOPE) == words


def test_a_long_value_is_shortened():
    (condition,) = read_lookups({"data__text": "x" * 500})
    assert len(condition.difference(ENVELOPE)) < 250


@pytest.mark.parametrize("name", ["typ", "subject", "date__subject", "_data", ""])
def test_a_lookup_that_begins_with_no_field_is_an_error(name):
    with pytest.raises(TypeError, match="must begin with a field of the record"):
        matches(**{name: "x"}) if name != "_data" else matches(_dat="x")


def test_other_wrong_lookups_are_errors():
    with pytest.raises(TypeError, match="must be True or False"):
        matches(data__subject__isnull="yes")
    with pytest.raises(ValueError, match="time zone"):
        matches(event_at=datetime(2026, 2, 24, 12, 34, 56))


def test_each_operator_has_words():
    assert {name for name, operator in OPERATORS.items() if not operator.words} == {"exact", "isnull"}

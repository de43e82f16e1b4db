"""Standing rules compare records: pure, without a database."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from evermuse_outbox.delivery.rules.matching import (
    Conditions,
    Rule,
    Subject,
    first_match,
    in_order,
    match_vendor_id,
    parse_vendor_ids,
    rules_of_group,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
RECORD = Subject(
    "email", "prod-1", {"customer": "acme"}, {"message_id": "import-7", "mailbox": "a@x.example"}
)


@pytest.mark.parametrize(
    ("conditions", "matches"),
    [
        ({}, True),
        ({"type": "email"}, True),
        ({"type": "Email"}, False),
        ({"product_id": "prod-1"}, True),
        ({"product_id": "prod-10"}, False),
        ({"label": ("customer", "acme")}, True),
        ({"label": ("customer", "Acme")}, False),
        ({"label": ("tenant", "acme")}, False),
        ({"vendor_id": "import-*"}, True),
        ({"vendor_id": "message_id=import-?"}, True),
        ({"vendor_id": "mailbox=import-*"}, False),
        ({"vendor_id": "*@x.example"}, True),
        ({"vendor_id": "*@X.example"}, False),
        ({"type": "email", "vendor_id": "export-*"}, False),
        (
            {"type": "email", "product_id": "prod-1", "label": ("customer", "acme"), "vendor_id": "*=a@*"},
            True,
        ),
    ],
)
def test_a_record_matches_if_it_meets_all_conditions(conditions, matches):
    assert Conditions(**conditions).match(RECORD) is matches


def test_conditions_know_whether_they_are_empty_and_which_groups_they_concern():
    assert Conditions().is_empty
    assert not Conditions(label=("a", "")).is_empty
    rules = [
        Rule(1, Conditions(type="email"), is_hold=True),
        Rule(2, Conditions(product_id="p"), is_hold=True),
    ]
    assert [rule.pk for rule in rules_of_group(rules, "email", "p")] == [1, 2]
    assert [rule.pk for rule in rules_of_group(rules, "call", "p")] == [2]


def test_brackets_in_a_pattern_are_taken_literally():
    assert match_vendor_id("id-[1]*", {"x": "id-[1]-a"})
    assert not match_vendor_id("id-[1]", {"x": "id-1"})


def test_a_vendor_id_with_an_equals_sign_needs_a_name_in_its_pattern():
    assert match_vendor_id("*=a=b", {"key": "a=b"})
    assert not match_vendor_id("a=b", {"key": "a=b"})


@pytest.mark.parametrize("line", ["", "{", "[]", "{}", '{"_vendor_ids": null}', '{"_vendor_ids": ["a"]}'])
def test_an_altered_line_has_no_vendor_ids(line):
    assert parse_vendor_ids(line) == {}


def test_vendor_ids_are_read_from_the_line():
    assert parse_vendor_ids(json.dumps({"_vendor_ids": {"id": "ä"}})) == {"id": "ä"}


def test_a_hold_comes_before_a_discard_and_the_longest_hold_first():
    rules = [
        Rule(1, Conditions(), is_hold=False),
        Rule(2, Conditions(), is_hold=True, until=NOON),
        Rule(3, Conditions(), is_hold=True),
        Rule(4, Conditions(), is_hold=True, until=NOON + timedelta(days=1)),
        Rule(5, Conditions(type="call"), is_hold=True),
    ]
    ordered = in_order(rules)
    assert [rule.pk for rule in ordered] == [3, 5, 4, 2, 1]
    assert first_match(ordered, RECORD).pk == 3
    assert first_match([rules[4]], RECORD) is None

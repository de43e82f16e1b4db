"""The terms of a stored line, and their hashes."""

from __future__ import annotations

import json

import pytest

from evermuse_outbox.evermuse.records import validate
from evermuse_outbox.search.terms import is_head_complete, read_terms, term_hash
from tests.records import record

PARTICIPANTS = [
    {"id": "U-1", "role": "internal", "email": "Ann@Example.com", "name": "Ann"},
    {"id": "bob@example.com", "role": "external", "email": "bob@example.com"},
]


def line(**changes):
    return validate(record(1, **changes), contract="reference").line


def hashes(*terms):
    return {term_hash(term) for term in terms}


def test_a_record_has_the_terms_that_people_search():
    stored = line(
        _vendor_ids={"ticket": "T-1", "account": "A-7"}, _thread_id="thread 9", _participants=PARTICIPANTS
    )
    assert read_terms(stored) == hashes("T-1", "A-7", "thread 9", "U-1", "ann@example.com", "bob@example.com")


def test_case_and_outer_spaces_do_not_matter():
    assert term_hash(" ANN@example.COM ") == term_hash("ann@Example.com")
    assert term_hash("straße") == term_hash("STRASSE")


def test_a_hash_fits_into_a_column_of_64_bits():
    values = [term_hash(str(number)) for number in range(1_000)]
    assert all(-(2**63) <= value < 2**63 for value in values)
    assert len(set(values)) == 1_000


@pytest.mark.parametrize(
    "changes",
    [
        {"_vendor_ids": {"a": "x", "data": "y"}},  # the text before `data` occurs in another field
        {"_vendor_ids": {"a": 'x,"data":'}},
        {"data": {"data": {"data": "}"}}},
    ],
)
def test_a_field_that_looks_like_data_hides_no_term(changes):
    stored = line(_thread_id="t", **changes)
    ids = json.loads(stored)["_vendor_ids"].values()
    assert read_terms(stored) == hashes("t", *ids)


def test_the_start_of_a_long_line_is_enough():
    stored = line(_thread_id="t", data={"text": "x" * 100_000})
    assert is_head_complete(stored[:1_000])
    assert read_terms(stored[:1_000]) == read_terms(stored)
    assert not is_head_complete(stored[:100])


@pytest.mark.parametrize(
    "stored", ["", "[]", "nonsense", '{"_vendor_ids":[1]}', '{"_participants":[1]}', "null"]
)
def test_a_line_that_is_no_envelope_has_no_terms(stored):
    assert read_terms(stored) == set()

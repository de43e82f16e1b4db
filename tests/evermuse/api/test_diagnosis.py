"""The likely cause where everything is refused alike."""

from __future__ import annotations

import pytest

from evermuse_outbox.evermuse.api import describe_likely_cause, make_error_signature


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("3 of 1000 records are not valid.", "17 of 20 records are not valid."),
        ("Validation failed for 10 records.", "Validation failed for 1 record."),
        ("Unknown project 'proj-123'", 'Unknown project "other"'),
        ("records[17]._project_id: not found", "records[3]._project_id: not found"),
        ("Project  proj-1 is unknown", "project proj-2 is unknown"),
    ],
)
def test_what_is_said_of_many_records_is_alike(first, second):
    assert make_error_signature(first) == make_error_signature(second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("'_nature' is a required property", "'_project_ids' is a required property"),
        ("HTTP 400: no", "HTTP 400: never"),
    ],
)
def test_what_differs_is_not(first, second):
    assert make_error_signature(first) != make_error_signature(second)


@pytest.mark.parametrize(
    ("message", "contract", "told"),
    [
        ("'_nature' is a required property", "reference", 'set CONTRACT to "openapi"'),
        ("_project_ids: Required", "reference", 'set CONTRACT to "openapi"'),
        ("'_project_id' is a required property", "openapi", 'set CONTRACT to "reference"'),
        ("Unknown field _nature", "openapi", 'set CONTRACT to "reference"'),
        ("Project 'p' does not exist", "reference", "The project id"),
        ("_product_id: no access", "openapi", "The product id"),
        ("_nature: nonsense is not one of evidence, guidance", "reference", "have in common"),
        ("Something is wrong", "reference", "a CONTRACT that this key is not served under"),
    ],
)
def test_the_likely_cause_and_how_to_go_on(message, contract, told):
    advice = describe_likely_cause(message, contract)
    assert told in advice
    assert "resume it" in advice

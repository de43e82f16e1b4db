"""The signature and the likely cause of an error that all records share."""

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
def test_messages_about_different_records_have_one_signature(first, second):
    assert make_error_signature(first) == make_error_signature(second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("'_nature' is a required property", "'_project_ids' is a required property"),
        ("HTTP 400: no", "HTTP 400: never"),
    ],
)
def test_different_errors_have_different_signatures(first, second):
    assert make_error_signature(first) != make_error_signature(second)


@pytest.mark.parametrize(
    ("message", "contract", "words"),
    [
        ("'_nature' is a required property", "reference", 'set CONTRACT to "openapi"'),
        ("_project_ids: Required", "reference", 'set CONTRACT to "openapi"'),
        ("'_project_id' is a required property", "openapi", 'set CONTRACT to "reference"'),
        ("Unknown field _nature", "openapi", 'set CONTRACT to "reference"'),
        ("Project 'p' does not exist", "reference", "The project id"),
        ("_product_id: no access", "openapi", "The product id"),
        ("_nature: nonsense is not one of evidence, guidance", "reference", "have in common"),
        ("Something is wrong", "reference", "a CONTRACT that Evermuse does not apply to this key"),
    ],
)
def test_the_likely_cause_and_the_remedy(message, contract, words):
    advice = describe_likely_cause(message, contract)
    assert words in advice
    assert "resume it" in advice

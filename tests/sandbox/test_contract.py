"""Validation of records in both contracts: each field at its limit and beyond it."""

from __future__ import annotations

import builtins
import sys

import pytest

from evermuse_outbox.sandbox import SandboxUnavailable
from evermuse_outbox.sandbox.contract import load_contract

from .published import EXAMPLES, NDJSON_EXAMPLE, record

REFERENCE = load_contract("reference")
OPENAPI = load_contract("openapi")
BOTH = pytest.mark.parametrize("contract", [REFERENCE, OPENAPI], ids=lambda contract: contract.name)
URL = "https://example.com/"


def participant(**fields):
    return {"id": "p", "role": "internal", **fields}


def attachment(**fields):
    return {"type": "file", **fields}


def pii(**fields):
    return {"_pii": fields}


VALID = {
    "whole second": {"_event_at": "2026-02-24T12:34:56Z"},
    "one digit": {"_event_at": "2026-02-24T12:34:56.1Z"},
    "three digits": {"_event_at": "2026-02-24T12:34:56.123Z"},
    "many vendor ids": {"_vendor_ids": {"a": "1", "b": ""}},
    "thread 512": {"_thread_id": "x" * 512},
    "thread 512 wide": {"_thread_id": "🙂" * 512},
    "product 128": {"_product_id": "x" * 128},
    "nature": {"_nature": "context"},
    "tags 200": {"_tags": ["t"] * 200},
    "tag 64": {"_tags": ["t" * 64]},
    "no tags": {"_tags": []},
    "participants 5000": {"_participants": [participant()] * 5_000},
    "participant": {"_participants": [participant(id="x" * 256, name="x" * 256, type="bot")]},
    "participant email": {"_participants": [participant(email="ada@example.com")]},
    "participant role": {"_participants": [participant(role="unknown")]},
    "attachments 10": {"_attachments": [attachment()] * 10},
    "attachment": {"_attachments": [attachment(filename="x" * 512, mime_type="x" * 256, size=0)]},
    "attachment hashes": {"_attachments": [attachment(sha1="x" * 128, md5="x" * 128)]},
    "attachment url 2048": {"_attachments": [attachment(vendor_url=URL + "x" * (2_048 - len(URL)))]},
    "attachment upload": {"_attachments": [attachment(upload_intent_id="x" * 256)]},
    "empty pii": pii(),
    "pii": pii(contains_email=True, contains_phone=False, sensitive_score=0, redaction_status="encrypted"),
    "pii score 1": pii(sensitive_score=1),
    "pii entity": pii(detected_entities=[{"type": "x" * 64, "value": "x" * 1_024, "confidence": 1.0}]),
    "empty data": {"data": {}},
    "deep data": {"data": {"a": [{"b": [None, 1, 1.5, True, 2**70]}]}},
}

INVALID = {
    "event without Z": {"_event_at": "2026-02-24T12:34:56"},
    "event with offset": {"_event_at": "2026-02-24T12:34:56+00:00"},
    "four digits": {"_event_at": "2026-02-24T12:34:56.1234Z"},
    "newline at the end": {"_event_at": "2026-02-24T12:34:56Z\n"},
    "31 February": {"_event_at": "2026-02-31T12:34:56Z"},
    "other digits": {"_event_at": "\u0662\u0660\u0662\u0666-02-24T12:34:56Z"},
    "event number": {"_event_at": 1_709_282_096},
    "no vendor ids": {"_vendor_ids": {}},
    "vendor id number": {"_vendor_ids": {"id": 1}},
    "vendor ids list": {"_vendor_ids": ["1"]},
    "version": {"_schema_version": "1.0.1"},
    "thread 513": {"_thread_id": "x" * 513},
    "thread null": {"_thread_id": ...},
    "product 129": {"_product_id": "x" * 129},
    "product number": {"_product_id": 7},
    "nature": {"_nature": "opinion"},
    "tags 201": {"_tags": ["t"] * 201},
    "tag 65": {"_tags": ["t" * 65]},
    "tag number": {"_tags": [1]},
    "participants 5001": {"_participants": [participant()] * 5_001},
    "participant without role": {"_participants": [{"id": "p"}]},
    "participant without id": {"_participants": [{"role": "internal"}]},
    "participant id 257": {"_participants": [participant(id="x" * 257)]},
    "participant name 257": {"_participants": [participant(name="x" * 257)]},
    "participant email": {"_participants": [participant(email="ada")]},
    "participant email with name": {"_participants": [participant(email="Ada <ada@example.com>")]},
    "participant email 321": {"_participants": [participant(email="x" * 312 + "@a.example")]},
    "participant role": {"_participants": [participant(role="boss")]},
    "participant type": {"_participants": [participant(type="alien")]},
    "participant unknown field": {"_participants": [participant(age=7)]},
    "attachments 11": {"_attachments": [attachment()] * 11},
    "attachment without type": {"_attachments": [{}]},
    "attachment type": {"_attachments": [attachment(type="hologram")]},
    "attachment filename 513": {"_attachments": [attachment(filename="x" * 513)]},
    "attachment mime 257": {"_attachments": [attachment(mime_type="x" * 257)]},
    "attachment size": {"_attachments": [attachment(size=-1)]},
    "attachment size fraction": {"_attachments": [attachment(size=1.5)]},
    "attachment sha1 129": {"_attachments": [attachment(sha1="x" * 129)]},
    "attachment md5 129": {"_attachments": [attachment(md5="x" * 129)]},
    "attachment url": {"_attachments": [attachment(vendor_url="/files/1")]},
    "attachment url 2049": {"_attachments": [attachment(vendor_url=URL + "x" * (2_049 - len(URL)))]},
    "attachment upload 257": {"_attachments": [attachment(upload_intent_id="x" * 257)]},
    "attachment unknown field": {"_attachments": [attachment(url=URL)]},
    "pii unknown field": pii(contains_ssn=True),
    "pii text": pii(contains_email="yes"),
    "pii score": pii(sensitive_score=1.01),
    "pii score below": pii(sensitive_score=-0.01),
    "pii status": pii(redaction_status="shredded"),
    "pii entity without type": pii(detected_entities=[{"value": "x"}]),
    "pii entity type 65": pii(detected_entities=[{"type": "x" * 65}]),
    "pii entity value 1025": pii(detected_entities=[{"type": "x", "value": "x" * 1_025}]),
    "pii entity confidence": pii(detected_entities=[{"type": "x", "confidence": 2}]),
    "pii entity unknown field": pii(detected_entities=[{"type": "x", "where": 1}]),
    "data list": {"data": []},
    "data text": {"data": "hello"},
}


@BOTH
@pytest.mark.parametrize("fields", VALID.values(), ids=VALID)
def test_a_field_is_valid_up_to_its_limit(contract, fields):
    assert contract.errors(record(contract.name, **fields)) == []


@BOTH
@pytest.mark.parametrize("fields", INVALID.values(), ids=INVALID)
def test_a_field_is_invalid_beyond_its_limit(contract, fields):
    # In the table, ... stands for null, because record() omits a field with the value None.
    invalid = {name: None if value is ... else value for name, value in fields.items()}
    errors = contract.errors({**record(contract.name), **invalid})
    assert errors
    assert all(error.startswith(next(iter(fields))) for error in errors)


@BOTH
@pytest.mark.parametrize(
    "name", ["_type", "_schema_version", "_event_at", "_vendor_ids", "_product_id", "data"]
)
def test_a_required_field_must_be_present(contract, name):
    (error,) = contract.errors(record(contract.name, **{name: None}))
    assert name in error


@BOTH
@pytest.mark.parametrize("value", [None, 5, "text", [], [record()]])
def test_a_record_must_be_an_object(contract, value):
    (error,) = contract.errors(value)
    assert "object" in error


@pytest.mark.parametrize("example", [*EXAMPLES.values(), NDJSON_EXAMPLE], ids=[*EXAMPLES, "ndjson"])
def test_the_published_examples_are_valid(example):
    for example_record in example["records"] if isinstance(example, dict) else example:
        assert OPENAPI.errors(example_record) == []


TYPES = ["email", "call", "meeting_notes", "conversation", "message", "email_thread", "call_transcription"]


@BOTH
@pytest.mark.parametrize("name", TYPES)
def test_both_contracts_have_seven_types(contract, name):
    assert contract.errors(record(contract.name, _type=name)) == []


@pytest.mark.parametrize("name", ["document", "spreadsheet"])
def test_the_openapi_document_has_two_more_types(name):
    assert OPENAPI.errors(record("openapi", _type=name)) == []
    assert REFERENCE.errors(record(_type=name)) != []


@BOTH
@pytest.mark.parametrize("name", ["fax", "", "e-mail"])
def test_any_other_type_is_invalid(contract, name):
    assert contract.errors(record(contract.name, _type=name)) != []


def test_the_contracts_have_different_project_fields():
    assert REFERENCE.errors(record(_project_id=None, _project_ids=["p"])) == [
        '(record): "_project_id" is a required property'
    ]
    assert OPENAPI.errors(record("openapi", _project_ids=None)) != []
    assert OPENAPI.errors(record("openapi", _project_id="p")) != []


@pytest.mark.parametrize(("value", "valid"), [("p" * 128, True), ("p" * 129, False), (["p"], False)])
def test_project_id_of_the_reference_page(value, valid):
    assert (REFERENCE.errors(record(_project_id=value)) == []) is valid


@pytest.mark.parametrize(
    ("value", "valid"),
    [(["p" * 128], True), (["p", "q"], True), (["p" * 129], False), ([], False), ("p", False)],
)
def test_project_ids_of_the_openapi_document(value, valid):
    assert (OPENAPI.errors(record("openapi", _project_ids=value)) == []) is valid


def test_nature_is_required_by_the_openapi_document_only():
    assert OPENAPI.errors(record("openapi", _nature=None)) != []
    assert REFERENCE.errors(record(_nature=None)) == []


def test_unknown_fields_are_valid_on_the_reference_page_only():
    assert OPENAPI.errors(record("openapi", colour="red")) != []
    assert REFERENCE.errors(record(colour="red")) == []
    assert REFERENCE.errors(record(_project_ids="anything")) == []


def test_only_the_reference_page_converts_types_to_lower_case():
    upper_case = record(_type="EMAIL")
    assert REFERENCE.normalise(upper_case)["_type"] == "email"
    assert OPENAPI.normalise(upper_case) is upper_case


def test_an_error_contains_the_path_and_not_the_value():
    (error,) = OPENAPI.errors(
        record("openapi", _attachments=[attachment(), attachment(filename="s3cret" * 100)])
    )
    assert error.startswith("_attachments[1].filename: ")
    assert "s3cret" not in error


def test_a_long_error_is_cut():
    assert max(map(len, OPENAPI.errors(record("openapi", **{"x" * 5_000: 1})))) == 2_048


def test_data_may_be_nested_deeply():
    deep: dict = {}
    for _ in range(400):
        deep = {"a": deep}
    assert REFERENCE.errors(record(data=deep)) == []


def test_an_unknown_contract_is_an_error():
    with pytest.raises(ValueError, match="reference"):
        load_contract("draft")


def test_without_the_extra_the_error_names_it(monkeypatch):
    original_import = builtins.__import__

    def import_without_validator(name, *args, **kwargs):
        if name == "jsonschema_rs":
            raise ImportError(name)
        return original_import(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "jsonschema_rs")
    monkeypatch.setattr(builtins, "__import__", import_without_validator)
    with pytest.raises(SandboxUnavailable, match=r"evermuse-outbox\[sandbox\]"):
        load_contract("reference")

"""Translation between the contracts: the same line as validation gives, and back."""

from __future__ import annotations

import json

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evermuse_outbox.evermuse import (
    Untranslatable,
    limits,
)
from evermuse_outbox.evermuse.records import (
    CONTRACTS,
    record_schema,
    replace_urls,
    translate,
    validate,
)
from tests.evermuse.records.samples import data_of_any_shape, sample, vendor_ids


@given(data_of_any_shape, vendor_ids, st.sampled_from(CONTRACTS))
def test_translation_equals_validation_and_can_be_reversed(data, ids, contract):
    other = CONTRACTS[1 - CONTRACTS.index(contract)]
    given = sample(contract, data=data, _vendor_ids=ids)
    line = validate(given, contract=contract).line
    translated = translate(line, to=other)
    assert translated == validate(given, contract=other).line
    assert translate(translated, to=contract) == line
    assert translate(line, to=contract) == line


def test_numbers_keep_their_text():
    data = '{"big":123456789012345678901234567890,"f":1.10,"e":1E+5,"d":"1.50","u":"\\u00e9é"}'
    line = validate(sample("reference", data={}, _nature=...), contract="reference").line
    line = line.replace('"data":{}', f'"data":{data}')
    assert translate(line, to="openapi").endswith(f'"data":{data}}}')


def test_a_missing_nature_is_added_and_a_present_one_kept():
    line = validate(sample("reference", _nature=...), contract="reference").line
    assert json.loads(translate(line, to="openapi", default_nature="guidance"))["_nature"] == "guidance"
    line = validate(sample(_nature="context"), contract="openapi").line
    assert json.loads(translate(line, to="reference"))["_nature"] == "context"


@pytest.mark.parametrize("changes", [{"_type": "document"}, {"_project_ids": ["p", "q"]}])
def test_a_record_that_reference_has_no_form_for(changes):
    line = validate(sample(**changes), contract="openapi").line
    with pytest.raises(Untranslatable, match='CONTRACT back to "openapi"'):
        translate(line, to="reference")


def test_a_record_may_be_too_large_in_the_other_form():
    empty = validate(sample("reference", data={"x": ""}, _nature=...), contract="reference").size
    data = {"x": "a" * (limits.MAX_RECORD_BYTES - empty)}
    line = validate(sample("reference", data=data, _nature=...), contract="reference").line
    with pytest.raises(Untranslatable, match="bytes"):
        translate(line, to="openapi")


@pytest.mark.parametrize(
    "line", ["", "[]", "{", '{"a":1', '{"a" 1}', "x", "{}", "[", '{1:"a"}', '{"_type":"email"}']
)
def test_a_text_that_is_no_line_is_rejected(line):
    with pytest.raises(Untranslatable):
        translate(line, to="reference")


def test_an_unknown_contract_or_nature_is_a_value_error():
    with pytest.raises(ValueError, match="no such contract"):
        translate("{}", to="other")
    with pytest.raises(ValueError, match="nature"):
        translate("{}", to="openapi", default_nature="other")


FILES = [
    {"type": "file", "filename": "a", "vendor_url": "https://a.example/1"},
    {"type": "file", "filename": "b"},
]


def test_only_the_urls_of_a_line_are_replaced():
    data = {"number": 1.50, "text": "https://a.example/1"}
    line = validate(sample("reference", data=data, _attachments=FILES), contract="reference").line
    seen = []
    replaced = replace_urls(line, lambda attachment: seen.append(attachment) or "https://b.example/2")
    assert replaced == line.replace(
        '"vendor_url":"https://a.example/1"', '"vendor_url":"https://b.example/2"'
    )
    assert seen == FILES[:1]


class Address(str):
    __slots__ = ()

    def __str__(self):
        return "javascript:alert(1)"


def test_a_url_of_a_subclass_of_str_is_sent_as_it_was_checked():
    line = validate(sample("reference", data={}, _attachments=FILES), contract="reference").line
    assert "https://b.example/2" in replace_urls(line, lambda attachment: Address("https://b.example/2"))


@pytest.mark.parametrize("url", [None, "a", "https://a b", 5, b"https://a.example"])
def test_what_is_no_url_is_refused(url):
    line = validate(sample("reference", data={}, _attachments=FILES), contract="reference").line
    with pytest.raises(ValueError, match="Allowed: an absolute URI"):
        replace_urls(line, lambda attachment: url)


THIRD_SHAPE = {**sample("reference"), "_nature": "context"}
"""The third published shape: ``_nature`` of the OpenAPI document, and ``_project_id`` of the reference page."""


@pytest.mark.parametrize(
    ("contract", "project"),
    [("reference", {"_project_id": "proj-1"}), ("openapi", {"_project_ids": ["proj-1"]})],
)
def test_nature_with_project_id_is_valid_under_both_contracts(contract, project):
    line = validate(THIRD_SHAPE, contract=contract).line
    sent_form = {name: value for name, value in THIRD_SHAPE.items() if name != "_project_id"} | project
    assert json.loads(line) == sent_form
    assert jsonschema_rs.is_valid(record_schema(contract), sent_form)
    for other in CONTRACTS:
        assert translate(line, to=other) == validate(THIRD_SHAPE, contract=other).line


def test_both_forms_of_a_record_have_the_same_identity():
    first, second = (validate(THIRD_SHAPE, contract=contract) for contract in CONTRACTS)
    assert first.identity == second.identity

"""The exported JSON Schema: two independent validators decide by it as ``validate`` does; each field is described."""

from __future__ import annotations

import json
import random
from functools import cache

import jsonschema
import jsonschema_rs
import pytest

from evermuse_outbox import records
from evermuse_outbox.evermuse import InvalidRecord, limits
from evermuse_outbox.evermuse.records import (
    CONTRACTS,
    FIELDS,
    record_schema,
    request_schema,
    schema,
    validate,
)
from tests.evermuse.records.samples import PROJECT_FORM, both_contracts, sample, sent
from tests.sandbox.published import EXAMPLES

FULL = {name: FIELDS[name][1] for name in ("_thread_id", "_participants", "_attachments", "_tags", "_pii")}


@cache
def validators_of(contract, make):
    published = make(contract)
    jsonschema.Draft202012Validator.check_schema(published)
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    return (
        jsonschema.Draft202012Validator(published, format_checker=checker).is_valid,
        jsonschema_rs.Draft202012Validator(published, validate_formats=True).is_valid,
    )


def is_valid(value, contract, make=record_schema):
    """Return the decision of both validators, which must be the same."""
    first, second = (check(value) for check in validators_of(contract, make))
    assert first == second, value
    return first


def is_accepted(record, contract):
    try:
        validate(record, contract=contract)
    except InvalidRecord:
        return False
    return True


def paths_of(rule, path=""):
    """Return the path of each field in the rules, as the documentation writes it."""
    inside = [(f"{path}.{name}" if path else name, member) for name, member in rule.members.items()]
    if rule.item is not None and rule.item.members:
        inside = [(f"{path}[]", rule.item)]
    return {
        found
        for name, member in inside
        for found in {name, *paths_of(member, name)}
        if not found.endswith("[]")
    }


@both_contracts
def test_each_field_has_a_description_and_an_example(contract):
    assert paths_of(schema.rules(contract)) == set(FIELDS)


def subschemas(part, path=""):
    """Yield the path and the schema of each field that has a description."""
    for name, inner in part.get("properties", {}).items():
        yield from subschemas(inner, f"{path}.{name}" if path else name)
    if "items" in part:
        yield from subschemas(part["items"], f"{path}[]")
    if "description" in part:
        yield path, part


@both_contracts
def test_each_example_is_valid(contract):
    other = {"reference": "_project_ids", "openapi": "_project_id"}[contract]
    described = dict(subschemas(record_schema(contract)))
    assert set(described) == set(FIELDS) - {other}
    for path, part in described.items():
        [example] = part["examples"]
        jsonschema.validate(example, part, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
        assert path


@both_contracts
def test_what_validate_returns_is_valid(contract):
    for changes in [{}, FULL, {"_event_at": "2026-02-24T13:34:56.7+01:00"}, {"_type": "EMAIL"}]:
        assert is_valid(sent(contract, **changes), contract)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_published_examples_are_valid(name):
    assert is_valid(EXAMPLES[name], "openapi", request_schema)


# Values that make a field invalid or that are at a limit.
VALUES = [
    ...,
    None,
    "",
    "x",
    "x" * 65,
    "x" * 257,
    "x" * 2_100,
    0,
    1,
    2,
    -1,
    0.5,
    True,
    [],
    ["x"],
    {},
    {"a": "b"},
]
PARTS = ["_participants", "_attachments", "_pii"]


def changed(contract, rng):
    """Return a valid record with a field, or a field of a part, that is removed or has another value."""
    record = sample(contract, **json.loads(json.dumps(FULL)))
    value = rng.choice(VALUES)
    if rng.random() < 0.5:
        target, name = record, rng.choice([*sorted(record), "unknown"])
    else:
        part = rng.choice(PARTS)
        target = record[part][0] if part != "_pii" else record[part]
        known = getattr(
            schema, {"_participants": "PARTICIPANT", "_attachments": "ATTACHMENT", "_pii": "PII"}[part]
        )
        name = rng.choice([*known.members, "unknown"])
    if value is ...:
        target.pop(name, None)
    else:
        target[name] = value
    return record


def differs_on_purpose(record):
    """Return whether ``validate`` converts the record: it leaves None out."""
    return "null" in json.dumps(record)


@both_contracts
def test_the_schema_decides_as_validate_does(contract):
    rng, decisions = random.Random(14), {True: 0, False: 0}
    for _ in range(2_000):
        record = changed(contract, rng)
        if not differs_on_purpose(record):
            decision = is_valid(record, contract)
            assert decision == is_accepted(record, contract), record
            decisions[decision] += 1
    assert min(decisions.values()) > 100


@both_contracts
def test_the_project_field_of_the_other_contract_is_not_valid(contract):
    other = {"reference": "openapi", "openapi": "reference"}[contract]
    fields = sample(contract)
    assert is_valid(fields, contract)
    assert not is_valid(fields | PROJECT_FORM[other], contract)
    assert not is_valid(sample(other), contract)


@both_contracts
def test_a_request_is_an_array_or_an_object_with_records(contract):
    fields = sample(contract)
    for body in ([fields], [fields] * limits.MAX_BATCH_RECORDS, {"records": [fields]}):
        assert is_valid(body, contract, request_schema)
    for body in ([], [fields] * (limits.MAX_BATCH_RECORDS + 1), {"records": []}, {"record": [fields]}, [{}]):
        assert not is_valid(body, contract, request_schema)
    assert is_valid(fields, contract, request_schema) == (contract == "reference")


def test_an_unknown_contract_is_an_error():
    for make in (record_schema, request_schema):
        with pytest.raises(ValueError, match="not one of reference, openapi"):
            make("other")


def test_each_function_for_a_type_returns_what_the_schema_allows():
    record = records.Call(
        call_id="c",
        recording_url="https://e.com/a",
        event_at="2026-02-24T12:34:56Z",
        product_id="p",
        project_id="q",
    )
    assert is_valid(json.loads(validate(record, contract="reference").line), "reference")
    assert CONTRACTS == ("reference", "openapi")

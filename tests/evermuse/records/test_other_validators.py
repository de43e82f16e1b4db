"""What ``validate`` accepts, two independent JSON Schema validators and the sandbox accept, and the other way round.

The exceptions are stricter rules, each with a name. ``docs/reference/invalid-records.md`` lists the same names.
"""

from __future__ import annotations

import copy
import json
import random
import re
from functools import cache
from pathlib import Path

import jsonschema
import jsonschema_rs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evermuse_outbox.evermuse import InvalidRecord
from evermuse_outbox.evermuse.records import CONTRACTS, validate
from evermuse_outbox.sandbox.contract import (
    EVENT_AT,
    OPENAPI_RECORD,
    REFERENCE_RECORD,
    load_contract,
)
from tests.evermuse.records.samples import LONE_SURROGATE, both_contracts, data_of_any_shape, sample
from tests.sandbox.published import EXAMPLES, NDJSON_EXAMPLE

SCHEMAS = {"reference": REFERENCE_RECORD, "openapi": OPENAPI_RECORD}
DOCS = Path(__file__).resolve().parents[3] / "docs" / "reference" / "invalid-records.md"


def as_published(schema):
    """Return the schema of the sandbox without the two rules that the published texts give in words only."""
    properties = schema["properties"] | {
        "_schema_version": {"type": "string"},
        "_event_at": {"type": "string", "pattern": EVENT_AT},
    }
    return schema | {"properties": properties}


@cache
def validators_of(contract):
    """Return the checks of a published schema, by independent authors."""
    schema = as_published(SCHEMAS[contract])
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    assert {"email", "uri"} <= checker.checkers.keys()
    return (
        jsonschema.Draft202012Validator(schema, format_checker=checker).is_valid,
        jsonschema_rs.Draft202012Validator(schema, validate_formats=True).is_valid,
    )


@cache
def sandbox(contract):
    return load_contract(contract)


def is_published(record, contract):
    """Return whether both validators accept a record; an error of a validator counts as a refusal."""
    try:
        return all(is_valid(record) for is_valid in validators_of(contract))
    except (ValueError, UnicodeEncodeError):
        return False


STRICTER = {
    "real time": lambda error: error.path == "_event_at",
    "version": lambda error: error.path == "_schema_version",
    "empty id": lambda error: (
        error.message.startswith("Empty.") and re.match(r"_(vendor|product|project)_ids?\b", error.path)
    ),
    "unknown field": lambda error: error.message.startswith("No such field.") and "." not in error.path,
    "project field": lambda error: error.path.startswith("_project_ids"),
    "e-mail address": lambda error: error.path.endswith(".email") and "eave email out" in error.message,
    "URI": lambda error: error.path.endswith(".vendor_url") and "URI" in error.message,
    "whole number": lambda error: error.path.endswith(".size") and "whole number" in error.message,
    "range of numbers": lambda error: "double" in error.message or error.message == "Too large.",
    "depth": lambda error: "levels deep" in error.message,
    "surrogate": lambda error: "lone surrogate" in error.message,
    "NUL in a product": lambda error: error.path == "_product_id" and "NUL" in error.message,
}
"""The stricter rules, by their names in the documentation."""


def compare(record, contract):
    """Compare ``validate`` with the others. Return the line, or None if it refused the record."""
    try:
        line = validate(record, contract=contract).line
    except InvalidRecord as error:
        if is_published(record, contract):
            for each in error.errors:
                assert any(rule(each) for rule in STRICTER.values()), (each, record)
        return None
    sent = json.loads(line)
    assert is_published(sent, contract), line
    assert sandbox(contract).errors(sent) == []
    if is_published(record, contract):
        assert_sent_as_given(sent, record)
    return line


def assert_sent_as_given(sent, given):
    """Assert that values keep their types: ``1`` is not ``1.0``, and no text is changed."""
    for name in sent.keys() - {"_event_at", "_type"}:
        if name in given:
            sort_keys = name != "data"  # the fields of Evermuse have a canonical order
            assert json.dumps(sent[name], sort_keys=sort_keys) == json.dumps(given[name], sort_keys=sort_keys)


@both_contracts
def test_the_schema_of_the_sandbox_has_what_is_published(contract):
    assert is_published(sample(contract), contract)
    assert not is_published(sample(contract, _vendor_ids={}), contract)


# --- generated envelopes

VALUES = st.sampled_from(
    [None, True, 0, 1, 1.0, -1, 0.5, -0.0, 2**53 + 1, 10**308, 10**309, "", " ", "a", "a\0", LONE_SURROGATE]
) | st.sampled_from(["é" * 64, "x" * 65, "x" * 129, "x" * 257, "x" * 513, [], {}, [None], ["a"], {"a": "b"}])
GOOD_EMAILS = ["a@b", "a" * 64 + "@b.c", "a.b@c.example", "a@b--c", "a@xn--nn-xka.example"]
EMAILS = ["a" * 65 + "@b.c", '"a b"@c.d', "a@[192.0.2.1]", "a@bc--d", "a@xn--a"]
GOOD_URLS = ["https://h/a", "s3://b/k", "urn:a:b", "https://[::1]/?a=%20#b"]
URLS = ["x:", "/a", "https://h/a b", "https://h/é", "//h", "https://[v1.a]/"]
GOOD_TIMES = ["2026-02-24T12:34:56Z", "2026-02-24T12:34:56.123Z", "0001-01-01T00:00:00Z"]
TIMES = ["2026-02-30T12:34:56Z", "2026-02-24T24:00:00Z", "2026-02-24T12:34:60Z", "2026-02-24T12:34:56.1234Z"]


def often(usual, *odd):
    """Return a strategy for a field: usual values, and sometimes odd ones or any other. ``one_of`` has no weights."""
    return st.integers(0, 19).flatmap(lambda number: st.one_of(VALUES, *odd) if number == 19 else usual)


def one_of(usual, odd):
    return often(st.sampled_from(usual), st.sampled_from(odd))


def strategies_of(fields):
    return {name: often(each) for name, each in fields.items()}


def fields(**strategies):
    """Return a strategy for a mapping of which each field is optional."""
    return st.fixed_dictionaries({}, optional=strategies_of(strategies))


def with_required(**strategies):
    return st.fixed_dictionaries(strategies_of(strategies))


def merged(*strategies):
    return st.tuples(*strategies).map(lambda parts: {key: part[key] for part in parts for key in part})


short = st.text(max_size=5)
fractions = one_of([0, 1, 0.5, 1.0, -0.0, 1e-300], [1.5, -1])
participants = merged(
    with_required(id=short, role=one_of(["internal", "external", "unknown"], ["agent"])),
    fields(name=short, email=one_of(GOOD_EMAILS, EMAILS), type=one_of(["user", "bot"], ["agent"])),
)
attachments = merged(
    with_required(type=one_of(["audio", "file"], ["pdf"])),
    fields(
        size=one_of([0, 5, 2**60], [5.0, -1]), vendor_url=one_of(GOOD_URLS, URLS), filename=short, sha1=short
    ),
)
entities = merged(with_required(type=short), fields(value=short, confidence=fractions))
pii = fields(
    contains_email=st.booleans(),
    sensitive_score=fractions,
    detected_entities=st.lists(entities, max_size=2),
    redaction_status=one_of(["redacted"], ["none"]),
)
envelopes = merged(
    with_required(
        _type=one_of(["email", "call", "message"], ["document", "other"]),
        _schema_version=st.just("1.0.0"),
        _event_at=one_of(GOOD_TIMES, TIMES),
        _vendor_ids=st.dictionaries(short, short.filter(bool), min_size=1, max_size=2),
        _product_id=short.filter(bool),
        data=data_of_any_shape,
    ),
    one_of(
        [{"_project_id": "p", "_nature": "evidence"}, {"_project_ids": ["p", "q"], "_nature": "context"}],
        [{"_project_ids": ["p"], "_project_id": "p"}, {}],
    ).map(lambda value: value if isinstance(value, dict) else {}),
    fields(
        _thread_id=short,
        _participants=st.lists(participants, max_size=2),
        _attachments=st.lists(attachments, max_size=2),
        _tags=st.lists(short, max_size=3),
        _pii=pii,
    ),
)


@given(envelopes, st.sampled_from(CONTRACTS))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_generated_envelopes(record, contract):
    compare(record, contract)


# --- mutations of the published examples

ANY = [None, True, False, 0, 1, -1, 0.5, 2.0, 2**64, 10**309, "", "a", "a\0b", "x" * 65, "x" * 130, "x" * 600]
ANY += [[], {}, ["a"], [""], {"a": "b"}, {"a": ""}, LONE_SURROGATE, "evidence", "user", "1.0.1"]
ANY += [*GOOD_EMAILS, *EMAILS, *GOOD_URLS, *URLS, *GOOD_TIMES, *TIMES]
NAMES = [
    "_tags",
    "_pii",
    "_thread_id",
    "_project_id",
    "_project_ids",
    "_nature",
    "email",
    "role",
    "size",
    "other",
]


def published_examples(contract):
    records = [*EXAMPLES["array"], *EXAMPLES["wrapper"]["records"], *EXAMPLES["attachment"]]
    for record in copy.deepcopy([*records, *EXAMPLES["guidance"], *NDJSON_EXAMPLE]):
        if contract == "reference":
            record["_project_id"] = record.pop("_project_ids")[0]
        yield record


def mutate(rng, record):
    """Change, add or remove values at random places of a record."""
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        container = record
        while rng.random() < 0.7:
            items = container.values() if isinstance(container, dict) else container
            inner = [each for each in items if isinstance(each, dict | list) and each]
            if not inner:
                break
            container = rng.choice(inner)
        if isinstance(container, list):
            container[rng.randrange(len(container))] = copy.deepcopy(rng.choice(ANY))
        elif rng.random() < 0.2:
            del container[rng.choice([*container])]
        else:
            container[rng.choice([*container, *NAMES])] = copy.deepcopy(rng.choice(ANY))
        if not record:
            break


@both_contracts
def test_mutations_of_the_published_examples(contract):
    rng = random.Random(14)
    examples = [*published_examples(contract)]
    decisions = {True: 0, False: 0}
    for _ in range(400):
        record = copy.deepcopy(rng.choice(examples))
        mutate(rng, record)
        decisions[compare(record, contract) is not None] += 1
    assert min(decisions.values()) > 50, "the mutations test both decisions"


# --- the stricter rules

EXAMPLES_OF_RULES = {
    "real time": {"_event_at": "2026-02-30T12:00:00Z"},
    "version": {"_schema_version": "1.0.1"},
    "empty id": {"_vendor_ids": {"a": ""}},
    "unknown field": {"extra": 1},
    "project field": {"_project_id": "p", "_project_ids": ["q"]},
    "e-mail address": {"_participants": [{"id": "a", "role": "unknown", "email": '"a b"@c.d'}]},
    "URI": {"_attachments": [{"type": "file", "vendor_url": "x:"}]},
    "whole number": {"_attachments": [{"type": "file", "size": 1.0}]},
    "range of numbers": {"data": {"a": 10**309}},
    "depth": {"data": {"a": json.loads("[" * 101 + "]" * 101)}},
    "surrogate": {"data": {"a": LONE_SURROGATE}},
    "NUL in a product": {"_product_id": "a\0"},
}
NOT_IN_JSON_SCHEMA = {"depth", "surrogate"}
"""Rules for values that one of the validators refuses as well."""


@pytest.mark.parametrize("name", STRICTER)
def test_each_stricter_rule_has_an_example_and_is_documented(name):
    contract = "reference"
    record = sample(contract, **EXAMPLES_OF_RULES[name])
    assert is_published(record, contract) or name in NOT_IN_JSON_SCHEMA
    with pytest.raises(InvalidRecord) as caught:
        validate(record, contract=contract)
    assert all(STRICTER[name](error) for error in caught.value.errors), caught.value
    assert f"| {name} |" in DOCS.read_text(encoding="utf-8")

"""Validation: each rule at its limit and one beyond, and all errors at once."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.core.exceptions import NON_FIELD_ERRORS
from django.db.models import TextChoices
from django.utils.functional import lazystr
from hypothesis import given
from hypothesis import strategies as st

from evermuse_outbox.evermuse import (
    InvalidRecord,
    RecordTooLarge,
    limits,
)
from evermuse_outbox.evermuse.records import (
    CONTRACTS,
    OPENAPI_TYPES,
    validate,
)
from evermuse_outbox.evermuse.records.record import REFERENCE_TYPES
from tests.evermuse.records.samples import (
    LONE_SURROGATE,
    both_contracts,
    data_of_any_shape,
    errors_of,
    only_error,
    sample,
    sent,
    vendor_ids,
)


class Kind(TextChoices):
    EMAIL = "email", "E-mail"


def test_a_line_is_compact_json_in_canonical_order_with_data_last():
    given = {"data": {"b": 1, "a": "é"}, "_tags": ["x"], "_thread_id": "t", **sample(data=...)}
    envelope = validate(given, contract="openapi")
    assert envelope.line == (
        '{"_type":"conversation","_schema_version":"1.0.0","_event_at":"2026-03-01T08:00:00Z",'
        '"_vendor_ids":{"conversation_id":"c-1"},"_product_id":"prod-1","_project_ids":["proj-1"],'
        '"_nature":"evidence","_thread_id":"t","_tags":["x"],"data":{"b":1,"a":"é"}}'
    )
    assert envelope.size == len(envelope.line.encode()) == len(envelope.line) + 1
    assert (envelope.type, envelope.product_id, envelope.attachments) == ("conversation", "prod-1", 0)


EVERYTHING = {
    "_thread_id": "t",
    "_participants": [
        {
            "role": "external",
            "id": "ann@example.com",
            "name": "Ann",
            "email": "ann@example.com",
            "type": "contact",
        }
    ],
    "_attachments": [{"type": "audio", "vendor_url": "https://files.example.com/a.mp3?x=%20", "size": 0}],
    "_tags": ["a", "b"],
    "_pii": {
        "contains_email": True,
        "sensitive_score": 0.5,
        "detected_entities": [{"type": "email", "confidence": 1}],
        "redaction_status": "redacted",
    },
}


@both_contracts
def test_every_field_is_in_the_line(contract):
    line = sent(contract, **EVERYTHING)
    assert {name: line[name] for name in EVERYTHING} == EVERYTHING
    assert validate(sample(contract, **EVERYTHING), contract=contract).attachments == 1


@both_contracts
def test_validation_of_a_line_gives_the_same_line(contract):
    line = validate(sample(contract, **EVERYTHING), contract=contract).line
    assert validate(json.loads(line), contract=contract).line == line


def test_the_longest_line_is_accepted_and_a_longer_one_rejected():
    room = limits.MAX_RECORD_BYTES - validate(sample(data={"x": ""}), contract="openapi").size
    assert validate(sample(data={"x": "a" * room}), contract="openapi").size == 4_999_999
    with pytest.raises(RecordTooLarge) as caught:
        validate(sample(data={"x": "a" * (room + 1)}), contract="openapi")
    assert "5,000,000 bytes" in str(caught.value)
    assert "4,999,999" in str(caught.value)
    assert NON_FIELD_ERRORS in caught.value.message_dict
    assert len(str(caught.value)) < 300


# --- types, natures, versions, unknown fields


@pytest.mark.parametrize("name", OPENAPI_TYPES)
def test_openapi_has_nine_types_and_reference_seven(name):
    assert sent(_type=name.upper())["_type"] == name
    if name in REFERENCE_TYPES:
        assert sent("reference", _type=name)["_type"] == name
    else:
        assert 'Only the contract "openapi"' in only_error("reference", _type=name).message


def test_a_misspelled_name_or_value_gets_a_suggestion():
    assert "Did you mean email?" in only_error(_type="emial").message
    assert "Did you mean evidence?" in only_error(_nature="Evidence").message
    assert "Did you mean _tags?" in only_error(_tag=["x"]).message
    error = errors_of(_participants=[{"id": "a", "role": "external", "nmae": "A"}])["_participants[0].nmae"]
    assert "Did you mean name?" in error.message


@both_contracts
def test_unknown_fields_are_rejected(contract):
    assert only_error(contract, unknown=1).path == "unknown"


def test_nature_is_required_by_openapi_and_optional_in_reference():
    assert only_error(_nature=...).message == "Required."
    assert "_nature" not in sent("reference", _nature=...)
    assert sent("reference", _nature="context")["_nature"] == "context"
    assert only_error("reference", _nature="other").path == "_nature"


@both_contracts
@pytest.mark.parametrize(
    "name", ["_type", "_schema_version", "_event_at", "_vendor_ids", "_product_id", "data"]
)
@pytest.mark.parametrize("value", [..., None])
def test_required_fields(contract, name, value):
    assert only_error(contract, **{name: value}).message == "Required."


def test_the_schema_version_is_the_published_one():
    assert only_error(_schema_version="1.0.1").path == "_schema_version"


# --- ids and projects


def test_vendor_ids_are_text():
    assert only_error(_vendor_ids={}).path == "_vendor_ids"
    assert only_error(_vendor_ids={"a": ""}).path == "_vendor_ids.a"
    assert "str(value)" in only_error(_vendor_ids={"a": 1}).message
    assert only_error(_vendor_ids={"a": None}).path == "_vendor_ids.a"
    assert only_error(_vendor_ids={1: "a"}).path == "_vendor_ids['1']"
    assert only_error(_vendor_ids=["a"]).message == "Not a mapping."


@pytest.mark.parametrize(
    ("name", "maximum"), [("_product_id", 128), ("_thread_id", 512), ("_project_id", 128)]
)
def test_lengths_count_characters(name, maximum):
    changes = {"_project_ids": ...} if name == "_project_id" else {}
    sent(**changes, **{name: "😀" * maximum})
    assert only_error(**changes, **{name: "😀" * (maximum + 1)}).path == name


def test_ids_are_not_empty():
    assert only_error(_product_id="").message == "Empty."
    assert only_error("reference", _project_id="").message == "Empty."
    assert only_error(_project_ids=[]).message == "Empty."
    assert only_error(_project_ids=["p", ""]).path == "_project_ids[1]"


@pytest.mark.parametrize("given", [{"_project_id": "p"}, {"_project_ids": ["p"]}])
def test_either_project_field_becomes_that_of_the_contract(given):
    given = {"_project_id": ..., "_project_ids": ..., **given}
    assert sent("reference", **given)["_project_id"] == "p"
    assert sent("openapi", **given)["_project_ids"] == ["p"]
    names = list(sent("openapi", **given))
    assert names.index("_project_ids") == names.index("_product_id") + 1


@both_contracts
def test_both_project_fields_must_agree(contract):
    agreed = sent(contract, _project_id="p", _project_ids=["p"])
    assert len(agreed.keys() & {"_project_id", "_project_ids"}) == 1
    assert "give one of the two" in only_error(contract, _project_id="p", _project_ids=["q"]).message


def test_a_project_is_required_and_reference_takes_only_one():
    assert only_error("reference", _project_id=...).path == "_project_id"
    assert only_error("openapi", _project_ids=...).path == "_project_ids"
    assert sent(_project_ids=["p", "q"])["_project_ids"] == ["p", "q"]
    assert "one project a record" in only_error("reference", _project_id=..., _project_ids=["p", "q"]).message


# --- lists and their items


@pytest.mark.parametrize(
    ("name", "item", "maximum"),
    [
        ("_participants", {"id": "a", "role": "unknown"}, 5_000),
        ("_attachments", {"type": "file"}, 10),
        ("_tags", "t", 200),
    ],
)
def test_the_maximum_length_of_each_list(name, item, maximum):
    assert len(sent(**{name: [item] * maximum})[name]) == maximum
    error = only_error(**{name: [item] * (maximum + 1)})
    assert (error.path, error.message, error.got) == (name, "Too many.", f"{maximum + 1:,}")
    assert "write [value]" in only_error(**{name: item}).message


def participant(**changes):
    return {"_participants": [{"id": "a", "role": "external"} | changes]}


def attachment(**changes):
    return {"_attachments": [{"type": "file"} | changes]}


def pii(**changes):
    return {"_pii": changes}


def entity(**changes):
    return {"_pii": {"detected_entities": [{"type": "email"} | changes]}}


def email(before, after):
    """Return an address with this many characters before and after the @."""
    return "a" * before + "@" + (".".join(["b" * 63] * 5))[-after:]


URL = "https://example.com/"

EDGES = [
    (participant, "id", "i" * 256, "i" * 257),
    (participant, "name", "n" * 256, "n" * 257),
    (participant, "email", email(64, 10), email(65, 10)),
    (participant, "email", email(1, 253), email(1, 254)),
    (participant, "email", email(64, 253), email(64, 256)),
    (participant, "email", "a@xn--nn-xka.example", "a@xn--a.example"),
    (participant, "email", "a@b--c.d", "a@bc--d.e"),
    (participant, "email", "ann.o'neil+x@mail.example.com", "ann@@example.com"),
    (participant, "email", "a@b", "a@"),
    (participant, "email", "a.b@c.d", ".a@c.d"),
    (participant, "email", "a@b-c.d", "a@b-.d"),
    (participant, "email", "a@b.c", "a@b.c\n"),
    (participant, "role", "unknown", "boss"),
    (participant, "type", "workspace_member", "robot"),
    (attachment, "type", "text", "pdf"),
    (attachment, "filename", "f" * 512, "f" * 513),
    (attachment, "size", 0, -1),
    (attachment, "size", 2**70, True),
    (attachment, "size", 10**308, 10**309),
    (attachment, "size", 1, 1.0),
    (attachment, "mime_type", "m" * 256, "m" * 257),
    (attachment, "sha1", "s" * 128, "s" * 129),
    (attachment, "md5", "s" * 128, "s" * 129),
    (attachment, "upload_intent_id", "u" * 256, "u" * 257),
    (attachment, "vendor_url", URL + "a" * (2_048 - len(URL)), URL + "a" * (2_049 - len(URL))),
    (attachment, "vendor_url", "https://u:p@[2001:db8::1]:8443/a%20b;c?d=e/f#g", "https://example.com/a b"),
    (attachment, "vendor_url", "http://[1:2:3:4:5:6:7:8]/", "http://[1:2:3:4:5:6:7:8:9]/"),
    (attachment, "vendor_url", "http://[::ffff:192.0.2.1]/", "http://[::ffff:192.0.2.256]/"),
    (attachment, "vendor_url", "http://[::]/", "http://[1]/"),
    (attachment, "vendor_url", "s3://bucket/key", "/relative/path"),
    (attachment, "vendor_url", "https://example.com", "//example.com/a"),
    (attachment, "vendor_url", "https://example.com/%C3%A9", "https://example.com/é"),
    (attachment, "vendor_url", "https://example.com/%25", "https://example.com/%2"),
    (attachment, "vendor_url", "https://example.com/a?b#c", "https://example.com/a?b#c#d"),
    (attachment, "vendor_url", "https://example.com/a", "https://example.com/a\n"),
    (pii, "contains_email", False, 0),
    (pii, "contains_phone", True, "yes"),
    (pii, "sensitive_score", 0, -0.1),
    (pii, "sensitive_score", 1, 1.01),
    (pii, "sensitive_score", 0.5, True),
    (pii, "sensitive_score", 0.5, Decimal("0.5")),
    (pii, "sensitive_score", 0.5, float("nan")),
    (pii, "redaction_status", "encrypted", "hidden"),
    (entity, "type", "t" * 64, "t" * 65),
    (entity, "value", "v" * 1_024, "v" * 1_025),
    (entity, "confidence", 1.0, 2),
]


@pytest.mark.parametrize(("within", "name", "good", "bad"), EDGES)
def test_the_limit_of_each_field_and_one_beyond(within, name, good, bad):
    sent(**within(**{name: good}))
    assert only_error(**within(**{name: bad})).path.endswith(f".{name}")


@pytest.mark.parametrize("within", [participant, attachment, pii, entity])
def test_nested_fields_reject_unknown_names_and_ignore_none(within):
    assert "No such field" in only_error(**within(other=1)).message
    name = {pii: "redaction_status", entity: "value", participant: "name", attachment: "md5"}[within]
    assert sent(**within(**{name: None})) == sent(**within())


def test_required_nested_fields():
    assert set(errors_of(_participants=[{}])) == {"_participants[0].id", "_participants[0].role"}
    assert only_error(_attachments=[{}]).path == "_attachments[0].type"
    assert only_error(**entity(type=None)).path == "_pii.detected_entities[0].type"


def test_tags():
    assert sent(_tags=["t" * 64, ""])["_tags"] == ["t" * 64, ""]
    assert only_error(_tags=["t" * 65]).path == "_tags[0]"
    assert only_error(_tags=["a", None]).path == "_tags[1]"
    assert only_error(_tags={"a"}).path == "_tags"


# --- kinds of text


def test_lazy_text_and_choices_become_plain_text():
    envelope = validate(
        sample(
            _type=Kind.EMAIL, _product_id=lazystr("p"), _vendor_ids={Kind.EMAIL: lazystr("1")}, _tags=("a",)
        ),
        contract="openapi",
    )
    plain = sample(_type="email", _product_id="p", _vendor_ids={"email": "1"}, _tags=["a"])
    assert envelope == validate(plain, contract="openapi")
    assert type(envelope.type) is type(envelope.product_id) is str
    on_fast_path = validate(sample(_type=Kind.EMAIL, _product_id=Kind.EMAIL), contract="openapi")
    assert type(on_fast_path.type) is type(on_fast_path.product_id) is str


TEXTS = {
    "_product_id": lambda text: {"_product_id": text},
    "_vendor_ids.a": lambda text: {"_vendor_ids": {"a": text}},
    "_tags[1]": lambda text: {"_tags": ["x", text]},
    "_participants[0].id": lambda text: {"_participants": [{"id": text, "role": "unknown"}]},
    "data.a[0]": lambda text: {"data": {"a": [text]}},
}
"""Texts of a record by their paths."""


@pytest.mark.parametrize("path", TEXTS)
def test_a_lone_surrogate_is_rejected_everywhere(path):
    assert only_error(**TEXTS[path](LONE_SURROGATE)).path == path


@pytest.mark.parametrize("path", sorted(TEXTS.keys() - {"_product_id"}))
@both_contracts
def test_nul_is_sent_as_an_escape(path, contract):
    changes = TEXTS[path]("a\0")
    line = validate(sample(contract, **changes), contract=contract).line
    assert "a\\u0000" in line
    assert "\0" not in line
    [name] = changes
    assert sent(contract, **changes)[name] == changes[name]


@pytest.mark.parametrize("within", [{}, {"_tags": (lazystr("t"),)}])
def test_a_product_has_no_nul_because_its_name_is_a_column(within):
    assert only_error(_product_id="a\0", **within).path == "_product_id"


@pytest.mark.parametrize("number", [0, 1, 0.0, 1.0, -0.0, 0.5, 1e-300])
@pytest.mark.parametrize("within", [{}, {"_tags": (lazystr("t"),)}])
def test_a_number_is_sent_as_it_is_given(number, within):
    line = validate(sample(**entity(confidence=number), **within), contract="openapi").line
    [got] = json.loads(line)["_pii"]["detected_entities"]
    assert repr(got["confidence"]) == repr(number)
    assert f'"confidence":{number}' in line


@pytest.mark.parametrize("within", [{}, {"_tags": (lazystr("t"),)}])
def test_a_decimal_is_no_number_on_either_path(within):
    assert "float(value)" in only_error(**pii(sensitive_score=Decimal("0.5")), **within).message


def test_text_that_looks_like_an_escape_or_nan_is_accepted():
    data = {"a": "\\u0000", "b": "NaN", "c": "Infinity"}
    assert sent(data=data)["data"] == data


# --- data


def test_data_keeps_its_order_and_takes_the_types_of_django():
    data = {"z": Decimal("1.10"), "a": datetime(2026, 1, 1, tzinfo=UTC), "m": None, "t": (1,)}
    encoded = sent(data=data)["data"]
    assert encoded == {"z": "1.10", "a": "2026-01-01T00:00:00Z", "m": None, "t": [1]}
    assert list(encoded) == list(data)


@pytest.mark.parametrize("value", [[], "x", 1])
def test_data_is_a_mapping(value):
    assert only_error(data=value).path == "data"


def test_data_may_be_empty():
    assert sent(data={})["data"] == {}


# --- all errors at once


def test_all_errors_are_reported_with_path_value_and_allowed_values():
    errors = errors_of(
        _type="emial",
        _event_at=datetime(2026, 1, 1),
        _vendor_ids={"a": 1},
        _product_id=...,
        _participants=[{"id": "a", "role": "unknown"}] * 3 + [{"id": "b", "role": "boss"}],
        _tags=["t"] * 199 + ["t" * 65] * 2,
        extra=1,
        data={"items": [{}, {}, {"price": float("nan")}]},
    )
    assert {
        "_type",
        "_event_at",
        "_vendor_ids.a",
        "_product_id",
        "_participants[3].role",
        "_tags",
        "_tags[199]",
        "extra",
        "data.items[2].price",
    } <= errors.keys()
    role = errors["_participants[3].role"]
    assert (role.got, role.allowed) == ("'boss'", "internal, external, unknown")
    assert all(error.got and error.allowed for error in errors.values())


@pytest.mark.parametrize("given", [None, [], "x", 3])
def test_a_value_that_is_no_record_is_rejected(given):
    with pytest.raises(InvalidRecord):
        validate(given, contract="openapi")


def test_an_unknown_contract_is_a_value_error():
    with pytest.raises(ValueError, match="reference, openapi"):
        validate(sample(), contract="other")


# --- properties


@given(data_of_any_shape, vendor_ids, st.sampled_from(CONTRACTS))
def test_data_round_trips_and_validation_is_idempotent(data, ids, contract):
    line = validate(sample(contract, data=data, _vendor_ids=ids), contract=contract).line
    assert json.loads(line)["data"] == data
    assert list(json.loads(line)["data"]) == list(data)
    assert validate(json.loads(line), contract=contract).line == line

"""A record in, canonical bytes out: every rule at its edge and one past it."""

import json
import pickle
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from uuid import RFC_4122

import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st

if not settings.configured:
    settings.configure(USE_I18N=False)

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db.models import TextChoices
from django.utils.functional import lazystr

from evermuse_outbox.evermuse import (
    EvermuseError,
    InvalidRecord,
    RecordTooLarge,
    TransportError,
    Unanswered,
    Unreachable,
    Untranslatable,
    limits,
)
from evermuse_outbox.evermuse.records import (
    CONTRACTS,
    Attachment,
    Participant,
    Pii,
    PiiEntity,
    Record,
    record,
    schema,
    translate,
    validate,
)

LONE_SURROGATE = "\ud83d"
PROJECT_FORM = {"reference": {"_project_id": "proj-1"}, "openapi": {"_project_ids": ["proj-1"]}}


class Kind(TextChoices):
    EMAIL = "email", "E-mail"


def a_record(contract="openapi", **changes):
    fields = {
        "_type": "conversation",
        "_schema_version": "1.0.0",
        "_event_at": "2026-03-01T08:00:00Z",
        "_vendor_ids": {"conversation_id": "c-1"},
        "_product_id": "prod-1",
        **PROJECT_FORM[contract],
        "_nature": "evidence",
        "data": {"messages": [{"sender": "agent", "text": "Grüß Gott"}]},
    }
    return {name: value for name, value in (fields | changes).items() if value is not ...}


def sent(contract="openapi", **changes):
    return json.loads(validate(a_record(contract, **changes), contract=contract).line)


def errors_of(contract="openapi", **changes):
    with pytest.raises(InvalidRecord) as caught:
        validate(a_record(contract, **changes), contract=contract)
    return {error.path: error for error in caught.value.errors}


def only_error(contract="openapi", **changes):
    [error] = errors_of(contract, **changes).values()
    return error


both = pytest.mark.parametrize("contract", CONTRACTS)


# The line


def test_the_line_is_compact_in_canonical_order_with_data_last():
    given = {"data": {"b": 1, "a": "é"}, "_tags": ["x"], "_thread_id": "t", **a_record(data=...)}
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


@both
def test_every_field_arrives(contract):
    line = sent(contract, **EVERYTHING)
    assert {name: line[name] for name in EVERYTHING} == EVERYTHING
    assert validate(a_record(contract, **EVERYTHING), contract=contract).attachments == 1


@both
def test_validating_the_line_gives_the_line(contract):
    line = validate(a_record(contract, **EVERYTHING), contract=contract).line
    assert validate(json.loads(line), contract=contract).line == line


def test_a_line_as_long_as_a_body_allows_and_one_byte_more():
    room = limits.MAX_RECORD_BYTES - validate(a_record(data={"x": ""}), contract="openapi").size
    assert validate(a_record(data={"x": "a" * room}), contract="openapi").size == 4_999_999
    with pytest.raises(RecordTooLarge) as caught:
        validate(a_record(data={"x": "a" * (room + 1)}), contract="openapi")
    assert "5,000,000 bytes" in str(caught.value)
    assert "4,999,999" in str(caught.value)
    assert NON_FIELD_ERRORS in caught.value.message_dict
    assert len(str(caught.value)) < 300


# Types, natures, versions, unknown fields


@pytest.mark.parametrize("name", record.OPENAPI_TYPES)
def test_nine_types_under_openapi_seven_under_reference(name):
    assert sent(_type=name.upper())["_type"] == name
    if name in record.REFERENCE_TYPES:
        assert sent("reference", _type=name)["_type"] == name
    else:
        assert 'Only the contract "openapi"' in only_error("reference", _type=name).message


def test_near_misses_get_a_suggestion():
    assert "Did you mean email?" in only_error(_type="emial").message
    assert "Did you mean evidence?" in only_error(_nature="Evidence").message
    assert "Did you mean _tags?" in only_error(_tag=["x"]).message
    error = errors_of(_participants=[{"id": "a", "role": "external", "nmae": "A"}])["_participants[0].nmae"]
    assert "Did you mean name?" in error.message


@both
def test_unknown_fields_are_refused(contract):
    assert only_error(contract, unknown=1).path == "unknown"


def test_nature_is_required_by_openapi_and_kept_by_reference():
    assert only_error(_nature=...).message == "Required."
    assert "_nature" not in sent("reference", _nature=...)
    assert sent("reference", _nature="context")["_nature"] == "context"
    assert only_error("reference", _nature="other").path == "_nature"


@both
@pytest.mark.parametrize(
    "name", ["_type", "_schema_version", "_event_at", "_vendor_ids", "_product_id", "data"]
)
@pytest.mark.parametrize("value", [..., None])
def test_required_fields(contract, name, value):
    assert only_error(contract, **{name: value}).message == "Required."


def test_the_version_is_the_published_one():
    assert only_error(_schema_version="1.0.1").path == "_schema_version"


# Moments


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("2026-02-24T12:34:56.999999Z", "2026-02-24T12:34:56Z"),
        ("2026-02-24T12:34:56.123456789+02:00", "2026-02-24T10:34:56Z"),
        ("2026-02-24t12:34:56z", "2026-02-24T12:34:56Z"),
        ("2026-02-24 12:34:56+00:00", "2026-02-24T12:34:56Z"),
        ("2026-02-24T12:34+0130", "2026-02-24T11:04:00Z"),
        (datetime(2026, 2, 24, 12, 34, 56, 999_999, tzinfo=UTC), "2026-02-24T12:34:56Z"),
        (datetime(1969, 12, 31, 23, 59, 59, 900_000, tzinfo=UTC), "1969-12-31T23:59:59Z"),
        (datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1))), "2025-12-31T23:00:00Z"),
        (datetime(33, 4, 3, 15, tzinfo=UTC), "0033-04-03T15:00:00Z"),
        (lazystr("2026-02-24T12:34:56Z"), "2026-02-24T12:34:56Z"),
    ],
)
def test_moments_in_utc_cut_to_the_second(value, told):
    assert sent(_event_at=value)["_event_at"] == told


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (datetime(2026, 2, 24), "make_aware"),
        ("2026-02-24T12:34:56", "Without a zone"),
        (date(2026, 2, 24), "date is not a moment"),
        ("2026-02-24", "date is not a moment"),
        ("2026-02-30T12:34:56Z", "No such moment"),
        ("2026-02-24T24:00:00Z", "Not ISO 8601"),
        ("2026-02-24T12:34:56Z\n", "Not ISO 8601"),
        ("٢026-02-24T12:34:56Z", "Not ISO 8601"),
        ("yesterday", "Not ISO 8601"),
        ("0001-01-01T00:00:00+14:00", "outside the years"),
        (datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-2))), "outside the years"),
        (1771936496, "Not a moment"),
    ],
)
def test_no_moments(value, words):
    error = only_error(_event_at=value)
    assert error.path == "_event_at"
    assert words in error.message


# Ids and projects


def test_vendor_ids_are_given_as_text_or_not_at_all():
    assert only_error(_vendor_ids={}).path == "_vendor_ids"
    assert only_error(_vendor_ids={"a": ""}).path == "_vendor_ids.a"
    assert "write it as a string" in only_error(_vendor_ids={"a": 1}).message
    assert only_error(_vendor_ids={"a": None}).path == "_vendor_ids.a"
    assert only_error(_vendor_ids={1: "a"}).path == "_vendor_ids['1']"
    assert only_error(_vendor_ids=["a"]).message == "Not a mapping."


@pytest.mark.parametrize(("name", "most"), [("_product_id", 128), ("_thread_id", 512), ("_project_id", 128)])
def test_lengths_count_characters(name, most):
    changes = {"_project_ids": ...} if name == "_project_id" else {}
    sent(**changes, **{name: "😀" * most})
    assert only_error(**changes, **{name: "😀" * (most + 1)}).path == name


def test_ids_are_not_empty():
    assert only_error(_product_id="").message == "Empty."
    assert only_error("reference", _project_id="").message == "Empty."
    assert only_error(_project_ids=[]).message == "Empty."
    assert only_error(_project_ids=["p", ""]).path == "_project_ids[1]"


@pytest.mark.parametrize("given", [{"_project_id": "p"}, {"_project_ids": ["p"]}])
def test_either_form_of_the_project_becomes_the_contracts(given):
    given = {"_project_id": ..., "_project_ids": ..., **given}
    assert sent("reference", **given)["_project_id"] == "p"
    assert sent("openapi", **given)["_project_ids"] == ["p"]
    names = list(sent("openapi", **given))
    assert names.index("_project_ids") == names.index("_product_id") + 1


@both
def test_both_forms_have_to_agree(contract):
    agreed = sent(contract, _project_id="p", _project_ids=["p"])
    assert len(agreed.keys() & {"_project_id", "_project_ids"}) == 1
    assert "give one of the two" in only_error(contract, _project_id="p", _project_ids=["q"]).message


def test_a_project_is_required_and_reference_takes_one_only():
    assert only_error("reference", _project_id=...).path == "_project_id"
    assert only_error("openapi", _project_ids=...).path == "_project_ids"
    assert sent(_project_ids=["p", "q"])["_project_ids"] == ["p", "q"]
    assert "one project a record" in only_error("reference", _project_id=..., _project_ids=["p", "q"]).message


# Lists and what is in them


@pytest.mark.parametrize(
    ("name", "item", "most"),
    [
        ("_participants", {"id": "a", "role": "unknown"}, 5_000),
        ("_attachments", {"type": "file"}, 10),
        ("_tags", "t", 200),
    ],
)
def test_how_many(name, item, most):
    assert len(sent(**{name: [item] * most})[name]) == most
    error = only_error(**{name: [item] * (most + 1)})
    assert (error.path, error.message, error.got) == (name, "Too many.", f"{most + 1:,}")
    assert only_error(**{name: item}).message == "Not a list."


def participant(**changes):
    return {"_participants": [{"id": "a", "role": "external"} | changes]}


def attachment(**changes):
    return {"_attachments": [{"type": "file"} | changes]}


def pii(**changes):
    return {"_pii": changes}


def entity(**changes):
    return {"_pii": {"detected_entities": [{"type": "email"} | changes]}}


def long_email(length):
    host = ".".join(["b" * 63] * 4)
    return "a" * (length - len(host) - 1) + "@" + host


URL = "https://example.com/"

EDGES = [
    (participant, "id", "i" * 256, "i" * 257),
    (participant, "name", "n" * 256, "n" * 257),
    (participant, "email", long_email(320), long_email(321)),
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
def test_the_edge_of_each_field_and_one_past_it(within, name, good, bad):
    sent(**within(**{name: good}))
    assert only_error(**within(**{name: bad})).path.endswith(f".{name}")


@pytest.mark.parametrize("within", [participant, attachment, pii, entity])
def test_inside_too_unknown_is_refused_and_none_is_not_given(within):
    assert "No such field" in only_error(**within(other=1)).message
    name = {pii: "redaction_status", entity: "value", participant: "name", attachment: "md5"}[within]
    assert sent(**within(**{name: None})) == sent(**within())


def test_required_inside():
    assert set(errors_of(_participants=[{}])) == {"_participants[0].id", "_participants[0].role"}
    assert only_error(_attachments=[{}]).path == "_attachments[0].type"
    assert only_error(**entity(type=None)).path == "_pii.detected_entities[0].type"


def test_tags():
    assert sent(_tags=["t" * 64, ""])["_tags"] == ["t" * 64, ""]
    assert only_error(_tags=["t" * 65]).path == "_tags[0]"
    assert only_error(_tags=["a", None]).path == "_tags[1]"
    assert only_error(_tags={"a"}).path == "_tags"


# Kinds of text


def test_lazy_text_and_choices_become_plain_text():
    envelope = validate(
        a_record(
            _type=Kind.EMAIL, _product_id=lazystr("p"), _vendor_ids={Kind.EMAIL: lazystr("1")}, _tags=("a",)
        ),
        contract="openapi",
    )
    plain = a_record(_type="email", _product_id="p", _vendor_ids={"email": "1"}, _tags=["a"])
    assert envelope == validate(plain, contract="openapi")
    assert type(envelope.type) is type(envelope.product_id) is str
    quick = validate(a_record(_type=Kind.EMAIL, _product_id=Kind.EMAIL), contract="openapi")
    assert type(quick.type) is type(quick.product_id) is str


@pytest.mark.parametrize("bad", ["\0", LONE_SURROGATE])
@pytest.mark.parametrize(
    ("changes", "path"),
    [
        (lambda bad: {"_product_id": bad}, "_product_id"),
        (lambda bad: {"_vendor_ids": {"a": bad}}, "_vendor_ids.a"),
        (lambda bad: {"_tags": ["x", bad]}, "_tags[1]"),
        (lambda bad: {"_participants": [{"id": bad, "role": "unknown"}]}, "_participants[0].id"),
        (lambda bad: {"data": {"a": [bad]}}, "data.a[0]"),
    ],
)
def test_nul_and_lone_surrogates_are_refused_everywhere(bad, changes, path):
    assert only_error(**changes(bad)).path == path


@pytest.mark.parametrize("within", [{}, {"_tags": (lazystr("t"),)}])
def test_a_decimal_is_no_number_whichever_way_it_goes(within):
    assert "float(value)" in only_error(**pii(sensitive_score=Decimal("0.5")), **within).message


def test_text_that_only_looks_like_trouble_goes_through():
    data = {"a": "\\u0000", "b": "NaN", "c": "Infinity"}
    assert sent(data=data)["data"] == data


# data


def test_data_in_django_types_and_its_own_order():
    data = {"z": Decimal("1.10"), "a": datetime(2026, 1, 1, tzinfo=UTC), "m": None, "t": (1,)}
    told = sent(data=data)["data"]
    assert told == {"z": "1.10", "a": "2026-01-01T00:00:00Z", "m": None, "t": [1]}
    assert list(told) == list(data)


@pytest.mark.parametrize("value", [[], "x", 1])
def test_data_is_a_mapping(value):
    assert only_error(data=value).path == "data"


def test_data_may_be_empty():
    assert sent(data={})["data"] == {}


# All at once


def test_all_errors_at_once_each_with_path_got_and_allowed():
    found = errors_of(
        _type="emial",
        _event_at=datetime(2026, 1, 1),
        _vendor_ids={"a": 1},
        _product_id=...,
        _participants=[{"id": "a", "role": "unknown"}] * 3 + [{"id": "b", "role": "boss"}],
        _tags=["t" * 65] * 201,
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
        "_tags[200]",
        "extra",
        "data.items[2].price",
    } <= found.keys()
    role = found["_participants[3].role"]
    assert (role.got, role.allowed) == ("'boss'", "internal, external, unknown")
    assert all(error.got and error.allowed for error in found.values())


def test_an_invalid_record_is_a_validation_error():
    with pytest.raises(ValidationError) as caught:
        validate(a_record(_type="x" * 10_000, _nature="100% sure"), contract="openapi")
    error = caught.value
    assert set(error.message_dict) == {"_type", "_nature"}
    assert len(error.messages) == 2
    assert str(error).count("\n") == 1
    assert len(str(error)) < 600
    again = pickle.loads(pickle.dumps(error))
    assert again.errors == error.errors
    assert again.message_dict == error.message_dict


def test_many_errors_are_all_kept_but_not_all_spelled_out():
    with pytest.raises(InvalidRecord) as caught:
        validate(a_record(_tags=[1] * 100), contract="openapi")
    assert len(caught.value.errors) == 100
    assert str(caught.value).endswith("… and 80 more")


@pytest.mark.parametrize("given", [None, [], "x", 3])
def test_what_is_no_record(given):
    with pytest.raises(InvalidRecord):
        validate(given, contract="openapi")


def test_an_unknown_contract_is_the_callers_mistake():
    with pytest.raises(ValueError, match="reference, openapi"):
        validate(a_record(), contract="other")


def test_one_root():
    for kind in (InvalidRecord, RecordTooLarge, Untranslatable, TransportError, Unreachable, Unanswered):
        assert issubclass(kind, EvermuseError)


# Record


def test_a_record_says_what_its_mapping_says():
    when = datetime(2026, 3, 1, 8, tzinfo=UTC)
    given = Record(
        type="conversation",
        event_at=when,
        vendor_ids={"conversation_id": "c-1"},
        product_id="prod-1",
        project_ids=("proj-1",),
        nature="evidence",
        data=a_record()["data"],
    )
    assert set(given.as_mapping()) == set(a_record())
    assert validate(given, contract="openapi") == validate(a_record(), contract="openapi")


def test_the_typed_dicts_name_what_the_rules_name():
    for typed, rule in [
        (Participant, schema.PARTICIPANT),
        (Attachment, schema.ATTACHMENT),
        (Pii, schema.PII),
        (PiiEntity, schema.PII.members["detected_entities"].item),
    ]:
        assert set(typed.__annotations__) == set(rule.members)


# Identity


def identity_of(workspace="default", **changes):
    return validate(a_record(**changes), contract="openapi", workspace=workspace).identity


def test_identity_is_of_type_vendor_ids_and_second():
    same = identity_of(data={"other": 1}, _product_id="other", _event_at="2026-03-01T09:00:00.9+01:00")
    assert same == identity_of()
    others = [
        identity_of(_type="email"),
        identity_of(_event_at="2026-03-01T08:00:01Z"),
        identity_of(_vendor_ids={"conversation_id": "c-2"}),
        identity_of(_vendor_ids={"conversation_id": "c-1", "x": "y"}),
        identity_of(workspace="other"),
    ]
    assert len({identity_of(), *others}) == 6
    assert identity_of(_vendor_ids={"a": "1", "b": "2"}) == identity_of(_vendor_ids={"b": "2", "a": "1"})


def test_identity_never_changes_from_release_to_release():
    assert str(identity_of()) == "20260301-0800-7614-b8ed-4701bbd9ef28"
    assert (identity_of().version, identity_of().variant) == (7, RFC_4122)


@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)))
def test_identities_stand_in_the_order_of_their_minutes(at):
    minute = at.replace(tzinfo=None).isoformat()[:16].translate(str.maketrans("", "", "-:T"))
    assert identity_of(_event_at=at).hex.startswith(f"{minute}7")


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
vendor_ids = st.dictionaries(texts, texts.filter(bool), min_size=1, max_size=3)


@given(vendor_ids, vendor_ids)
def test_different_vendor_ids_are_different_identities(one, other):
    assert (identity_of(_vendor_ids=one) == identity_of(_vendor_ids=other)) == (one == other)


# Properties

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
json_values = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(texts, inner))
data_of_any_shape = st.dictionaries(texts | st.sampled_from(["data", "_project_id"]), json_values)


@given(data_of_any_shape, vendor_ids, st.sampled_from(CONTRACTS))
def test_data_round_trips_and_validation_is_idempotent(data, ids, contract):
    line = validate(a_record(contract, data=data, _vendor_ids=ids), contract=contract).line
    assert json.loads(line)["data"] == data
    assert list(json.loads(line)["data"]) == list(data)
    assert validate(json.loads(line), contract=contract).line == line


@given(data_of_any_shape, vendor_ids, st.sampled_from(CONTRACTS))
def test_translated_there_is_validated_there_and_back_is_the_same(data, ids, contract):
    other = CONTRACTS[1 - CONTRACTS.index(contract)]
    given = a_record(contract, data=data, _vendor_ids=ids)
    line = validate(given, contract=contract).line
    there = translate(line, to=other)
    assert there == validate(given, contract=other).line
    assert translate(there, to=contract) == line
    assert translate(line, to=contract) == line


# Translation


def test_numbers_keep_how_they_are_written():
    data = '{"big":123456789012345678901234567890,"f":1.10,"e":1E+5,"d":"1.50","u":"\\u00e9é"}'
    line = validate(a_record("reference", data={}, _nature=...), contract="reference").line
    line = line.replace('"data":{}', f'"data":{data}')
    assert translate(line, to="openapi").endswith(f'"data":{data}}}')


def test_a_missing_nature_is_filled_in_and_a_present_one_kept():
    line = validate(a_record("reference", _nature=...), contract="reference").line
    assert json.loads(translate(line, to="openapi", default_nature="guidance"))["_nature"] == "guidance"
    line = validate(a_record(_nature="context"), contract="openapi").line
    assert json.loads(translate(line, to="reference"))["_nature"] == "context"


@pytest.mark.parametrize("changes", [{"_type": "document"}, {"_project_ids": ["p", "q"]}])
def test_what_reference_cannot_say(changes):
    line = validate(a_record(**changes), contract="openapi").line
    with pytest.raises(Untranslatable, match='CONTRACT back to "openapi"'):
        translate(line, to="reference")


def test_a_record_may_become_too_large_for_the_other_form():
    empty = validate(a_record("reference", data={"x": ""}, _nature=...), contract="reference").size
    data = {"x": "a" * (limits.MAX_RECORD_BYTES - empty)}
    line = validate(a_record("reference", data=data, _nature=...), contract="reference").line
    with pytest.raises(Untranslatable, match="bytes"):
        translate(line, to="openapi")


@pytest.mark.parametrize(
    "line", ["", "[]", "{", '{"a":1', '{"a" 1}', "x", "{}", "[", '{1:"a"}', '{"_type":"email"}']
)
def test_what_is_no_line(line):
    with pytest.raises(Untranslatable):
        translate(line, to="reference")


def test_translation_to_nowhere_is_the_callers_mistake():
    with pytest.raises(ValueError, match="no such contract"):
        translate("{}", to="other")
    with pytest.raises(ValueError, match="nature"):
        translate("{}", to="openapi", default_nature="other")

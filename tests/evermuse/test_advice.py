"""Advice: a usual mistake gets a message that names the cure."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from datetime import UTC, time

import pytest
from django.contrib.auth.models import Group, User
from django.core.files.base import ContentFile
from pydantic import BaseModel

from evermuse_outbox.evermuse import InvalidRecord, advice
from evermuse_outbox.evermuse.records import Record, validate
from tests.evermuse.records.samples import only_error, sample
from tests.foreign_text.samples import KEY


@dataclasses.dataclass
class Note:
    text: str = ""


class Message(BaseModel):
    text: str = ""


class Array:
    """As numpy's arrays."""

    def tolist(self):
        return []

    def __iter__(self):
        return iter([])


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (json.dumps(sample()), "json.loads(value)"),
        (json.dumps(sample()).encode(), "json.loads(value)"),
        ([sample()], "enqueue_many"),
        (User.objects.all(), "enqueue_many"),
        (User(), "record_of"),
        (Record, "A class"),
        ("_type", "Call enqueue"),
        (Note(), "dataclasses.asdict(value)"),
        (Message(), "value.model_dump()"),
        (None, "Not a record."),
    ],
)
def test_a_value_that_is_no_record(record, words):
    with pytest.raises(InvalidRecord) as caught:
        validate(record, contract="openapi")
    [error] = caught.value.errors
    assert error.path == ""
    assert words in error.message


def participant(**fields):
    return {"_participants": [{"id": "a", "role": "internal", **fields}]}


def attachment(**fields):
    return {"_attachments": [{"type": "file", **fields}]}


MISTAKES = [
    (participant(role="agent"), "Did you mean internal? Write internal for your team"),
    (participant(role="customer"), "Did you mean external?"),
    (participant(role="bot"), "belongs in type"),
    (participant(type="customer"), "Did you mean contact?"),
    (participant(type="agent"), "Did you mean workspace_member?"),
    (participant(email=""), "Leave email out"),
    (participant(id=7), "write str(value)"),
    (participant(phone="1"), "belong in data"),
    ({"_participants": {"id": "a", "role": "internal"}}, "write [value]"),
    ({"_participants": [User()]}, "it is a model"),
    ({"_participants": User.objects.all()}, 'value.values("id")'),
    (attachment(url="https://h/a"), "Did you mean vendor_url?"),
    (attachment(name="a"), "Did you mean filename?"),
    (attachment(content_type="a/b"), "Did you mean mime_type?"),
    (attachment(type="pdf"), "Did you mean file?"),
    (attachment(size="5"), "int(value)"),
    (attachment(size=5.0), "int(value)"),
    (attachment(vendor_url="/media/a"), "build_absolute_uri"),
    (attachment(vendor_url=ContentFile(b"x", name="a")), "vendor_url"),
    ({"_type": "ticket"}, "Did you mean conversation?"),
    ({"_type": "sms"}, "Did you mean message?"),
    ({"_product_id": 7}, "write str(value)"),
    ({"_product_id": User(pk=7)}, "str(value.pk)"),
    ({"_vendor_ids": {"a": None}}, "leave it out"),
    ({"_vendor_ids": {"a": ["b"]}}, "not converted"),
    ({"_tags": "a,b"}, "value.split(',')"),
    ({"_tags": {"a"}}, "sorted(value)"),
    ({"_pii": {"contains_email": "yes"}}, "True or False"),
    ({"subject": "a"}, "belong in data"),
    ({"records": [{}]}, "enqueue_many"),
    ({"data": '{"a": 1}'}, "json.loads(value)"),
    ({"data": User()}, "it is a model"),
    ({"data": {"a": b"x"}}, "base64"),
    ({"data": {"a": User().get_full_name}}, "value()"),
    ({"data": {"a": pathlib.Path("a")}}, "str(value)"),
    ({"data": {"a": Note()}}, "asdict"),
    ({"data": {"a": Message()}}, "model_dump"),
    ({"data": {"a": Array()}}, "value.tolist()"),
    ({"data": {"a": {}.values()}}, "list(value)"),
    ({"data": {"a": object()}}, "convert it to text"),
    ({"data": {"a": float("nan")}}, "write None or text"),
    ({"data": {"a": time(1, tzinfo=UTC)}}, "value.isoformat()"),
]


@pytest.mark.parametrize(("changes", "words"), MISTAKES)
def test_the_message_names_the_cure(changes, words):
    assert words in only_error(**changes).message


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (sample(), "use enqueue"),
        (Record(type="email", event_at="", vendor_ids={}, product_id="", data={}), "use enqueue"),
        ("[]", "json.loads"),
        (b"{}\n{}", "NDJSON"),
    ],
)
def test_a_single_record_in_place_of_several(value, words):
    assert words in advice.describe_single(value)


def test_a_word_is_never_suggested_if_it_is_not_allowed():
    assert advice.suggest("document", ["email", "file"]) == " Did you mean file?"
    assert advice.suggest("agent", ["audio"]) == ""
    assert advice.suggest("x" * 65, ["x" * 64]) == ""


def test_the_advice_has_no_value_of_the_record():
    for changes in (
        {KEY: 1},
        participant(role=KEY),
        participant(email=KEY),
        {"_event_at": KEY},
        {"data": KEY},
    ):
        assert KEY not in only_error(**changes).message


def test_a_model_without_a_row_is_no_crash():
    assert "it is a model" in advice.describe_non_json(Group())

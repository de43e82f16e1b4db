"""One function for each ``_type``: its record is valid under both contracts and has the fields of the examples."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from evermuse_outbox import InvalidRecord, Record, records
from evermuse_outbox.evermuse import formats
from evermuse_outbox.evermuse.records import CONTRACTS, TYPES, validate

AT = datetime(2026, 2, 24, 12, 34, 56, tzinfo=UTC)
TURNS = [{"sender": "Ann", "text": "Hi", "sent_at": AT}]
SENT_TURNS = [{"sender": "Ann", "text": "Hi", "sent_at": "2026-02-24T12:34:56Z"}]
ENVELOPE = {"event_at": AT, "product_id": "prod-abc", "project_id": "proj-123", "nature": "evidence"}
FILE = "https://storage.example.com/f"

# For each type: the function, its arguments, and the fields that they become.
CASES = {
    "email": (
        records.Email,
        {"message_id": "1", "subject": "Hi", "sender": "a@b.c", "to": ["d@e.f"], "body": "Text"},
        {
            "_vendor_ids": {"message_id": "1"},
            "data": {"subject": "Hi", "from": "a@b.c", "to": ["d@e.f"], "body": "Text"},
        },
    ),
    "email_thread": (
        records.EmailThread,
        {"thread_id": "1", "subject": "Hi", "messages": ({"from": "a@b.c", "body": "Text"},)},
        {
            "_vendor_ids": {"thread_id": "1"},
            "_thread_id": "1",
            "data": {"subject": "Hi", "messages": [{"from": "a@b.c", "body": "Text"}]},
        },
    ),
    "call": (
        records.Call,
        {
            "call_id": "1",
            "title": "Sync",
            "duration_seconds": 7,
            "recording_url": FILE,
            "recording_type": "video",
        },
        {
            "_vendor_ids": {"call_id": "1"},
            "_attachments": [{"type": "video", "vendor_url": FILE}],
            "data": {"title": "Sync", "duration_seconds": 7},
        },
    ),
    "call_transcription": (
        records.CallTranscription,
        {"call_id": "1", "text": "Hi", "turns": TURNS, "title": "Sync", "duration_seconds": 7.5},
        {
            "_vendor_ids": {"call_id": "1"},
            "data": {"text": "Hi", "messages": SENT_TURNS, "title": "Sync", "duration_seconds": 7.5},
        },
    ),
    "meeting_notes": (
        records.MeetingNotes,
        {"meeting_id": "1", "title": "Sync", "body": "Notes", "duration_minutes": 45},
        {
            "_vendor_ids": {"meeting_id": "1"},
            "data": {"title": "Sync", "body": "Notes", "duration_minutes": 45},
        },
    ),
    "conversation": (
        records.Conversation,
        {"conversation_id": "1", "messages": TURNS, "subject": "Hi"},
        {"_vendor_ids": {"conversation_id": "1"}, "data": {"messages": SENT_TURNS, "subject": "Hi"}},
    ),
    "message": (
        records.Message,
        {"message_id": "1", "text": "Hi", "sender": "Ann"},
        {"_vendor_ids": {"message_id": "1"}, "data": {"text": "Hi", "sender": "Ann"}},
    ),
    "document": (
        records.Document,
        {"document_id": "1", "title": "OKRs", "body": "Text", "file_url": FILE},
        {
            "_vendor_ids": {"document_id": "1"},
            "_attachments": [{"type": "file", "vendor_url": FILE}],
            "data": {"title": "OKRs", "body": "Text"},
        },
    ),
    "spreadsheet": (
        records.Spreadsheet,
        {"spreadsheet_id": "1", "title": "Plan", "columns": ["a"], "rows": [[1]], "file_url": FILE},
        {
            "_vendor_ids": {"spreadsheet_id": "1"},
            "_attachments": [{"type": "file", "vendor_url": FILE}],
            "data": {"title": "Plan", "columns": ["a"], "rows": [[1]]},
        },
    ),
}


def sent(record, contract="openapi"):
    """Return a record as Evermuse receives it."""
    return json.loads(validate(record, contract=contract).line)


def test_each_type_has_a_function():
    assert set(CASES) == set(TYPES["openapi"])
    assert all(function.__name__ in records.__all__ for function, _, _ in CASES.values())


@pytest.mark.parametrize("contract", CONTRACTS)
@pytest.mark.parametrize("record_type", CASES)
def test_a_function_returns_a_record_of_its_type(record_type, contract):
    function, arguments, fields = CASES[record_type]
    record = function(**arguments, **ENVELOPE)
    assert type(record) is Record
    if record_type not in TYPES[contract]:
        with pytest.raises(InvalidRecord, match='Only the contract "openapi" has this type') as caught:
            validate(record, contract=contract)
        assert [error.path for error in caught.value.errors] == ["_type"]
        return
    line = sent(record, contract)
    project = {"_project_id": "proj-123"} if contract == "reference" else {"_project_ids": ["proj-123"]}
    common = {"_schema_version": "1.0.0", "_event_at": "2026-02-24T12:34:56Z", "_product_id": "prod-abc"}
    assert line == {"_type": record_type, "_nature": "evidence", **common, **project, **fields}


@pytest.mark.parametrize("record_type", CASES)
def test_arguments_without_a_value_are_not_sent(record_type):
    function, arguments, fields = CASES[record_type]
    required = dict.fromkeys(set(arguments) & {"text", "messages", next(iter(arguments))})
    line = sent(function(**{name: arguments[name] for name in required}, **ENVELOPE))
    assert line["_vendor_ids"] == fields["_vendor_ids"]
    assert "_attachments" not in line
    assert None not in line["data"].values()
    assert set(line["data"]) <= set(fields["data"])


def test_every_field_of_the_envelope_can_be_given():
    more = {
        "thread_id": "t-1",
        "participants": [{"id": "1", "role": "internal"}],
        "attachments": [{"type": "image", "vendor_url": FILE}],
        "tags": ["enterprise"],
        "pii": {"contains_email": False},
    }
    record = records.Call(call_id="1", recording_url=f"{FILE}2", **ENVELOPE, **more)
    line = sent(record)
    assert line["_attachments"] == [{"type": "audio", "vendor_url": f"{FILE}2"}, *more["attachments"]]
    assert {
        f"_{name}": value for name, value in more.items() if name != "attachments"
    }.items() <= line.items()


def test_more_ids_and_data_are_added():
    record = records.Email(
        message_id="1", subject="Hi", vendor_ids={"mailbox": "support"}, data={"language": "en"}, **ENVELOPE
    )
    assert record.vendor_ids == {"message_id": "1", "mailbox": "support"}
    assert record.data == {"subject": "Hi", "language": "en"}


@pytest.mark.parametrize("more", [{"data": {"subject": "Ho"}}, {"vendor_ids": {"message_id": "2"}}])
def test_a_value_that_is_given_twice_is_an_error(more):
    with pytest.raises(TypeError, match=r"repeats (subject|message_id), which is an argument already"):
        records.Email(message_id="1", subject="Hi", **ENVELOPE, **more)


def test_an_unknown_argument_is_an_error():
    with pytest.raises(TypeError, match="subjct"):
        records.Email(message_id="1", subjct="Hi", **ENVELOPE)


def test_a_missing_argument_is_an_error():
    with pytest.raises(TypeError, match="event_at"):
        records.Message(message_id="1", text="Hi", product_id="prod-abc")


def test_checks_of_single_values_are_those_of_the_validator():
    assert (records.is_email, records.is_uri, records.is_number) == (
        formats.is_email,
        formats.is_uri,
        formats.is_number,
    )
    assert records.is_email("ann@example.com")
    assert not records.is_email("Ann <ann@example.com>")

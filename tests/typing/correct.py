"""Correct uses, for ``test_typing.py``: mypy and pyright accept them, and no result is ``Any``.

``assert_type`` fails if a type is ``Any``. This file is never imported.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, assert_type

import evermuse_outbox
from evermuse_outbox import InvalidRecord, outbox
from evermuse_outbox.evermuse import FieldError
from evermuse_outbox.models import OutboxRecord
from evermuse_outbox.records import (
    Attachment,
    Call,
    CallTranscription,
    Conversation,
    Document,
    Email,
    EmailThread,
    MeetingNotes,
    Message,
    Participant,
    Pii,
    Record,
    RecordFields,
    Spreadsheet,
    UploadedAttachment,
    is_email,
    is_number,
    is_uri,
)

AT = datetime(2026, 2, 24, 12, 34, 56, tzinfo=UTC)

# --- the dataclass

record = evermuse_outbox.Record(
    type="email",
    event_at=AT,
    vendor_ids={"message_id": "m-1"},
    product_id="prod-abc",
    project_ids=["proj-123"],
    nature="evidence",
    participants=[{"id": "1", "role": "external", "email": None}],
    attachments=[
        {"type": "audio", "vendor_url": "https://example.com/a.mp3"},
        {"type": "file", "upload_intent_id": "intent-1"},
    ],
    pii={"contains_email": True, "detected_entities": [{"type": "email", "confidence": 1}]},
    data={"subject": "Hi"},
)
assert_type(record, Record)
assert_type(record.nature, Literal["evidence", "guidance", "context"] | None)
assert_type(record.as_mapping(), dict[str, Any])
assert_type(evermuse_outbox.__version__, str)

# --- the parts of a record

ann = Participant(id="ann@example.com", role="internal", type="user")
scan: Attachment = {"type": "image", "vendor_url": "https://example.com/a.png", "size": 7, "sha1": None}
upload = UploadedAttachment(type="file", upload_intent_id="intent-1")
pii: Pii = {"sensitive_score": 0.5, "redaction_status": "redacted"}

# --- mappings

fields: RecordFields = {
    "_type": "message",
    "_schema_version": "1.0.0",
    "_event_at": AT,
    "_vendor_ids": {"message_id": "m-1"},
    "_product_id": "prod-abc",
    "_project_id": "proj-123",
    "_participants": [ann],
    "_attachments": [scan, upload],
    "_pii": pii,
    "data": {"text": "Hi"},
}
assert_type(outbox.enqueue(fields), OutboxRecord)
outbox.enqueue(
    {
        "_type": "message",
        "_schema_version": "1.0.0",
        "_event_at": AT,
        "_vendor_ids": {"message_id": "m-1"},
        "_product_id": "prod-abc",
        "_project_ids": ["proj-123"],
        "_nature": "guidance",
        "data": {"text": "Hi", "nested": [{"a": 1}]},
    }
)


def of_any_shape(plain: dict[str, Any], mapping: Mapping[str, Any], either: RecordFields | Record) -> None:
    outbox.enqueue(plain)
    outbox.enqueue(mapping)
    outbox.enqueue(either)
    outbox.enqueue_many([plain, either, record])
    assert_type(outbox.validate(either, workspace="other"), dict[str, Any])


def generated() -> Iterator[Record]:
    yield record


async def streamed() -> AsyncIterator[dict[str, Any]]:
    yield {}


async def in_async_code() -> None:
    assert_type(await outbox.aenqueue(record, using="default"), OutboxRecord)
    assert_type(await outbox.aenqueue_many(streamed()), outbox.EnqueuedCount)


assert_type(outbox.enqueue_many(generated()), outbox.EnqueuedCount)
assert_type(
    outbox.enqueue_many(Message(message_id=text, text=text, event_at=AT, product_id="p") for text in "ab"),
    outbox.EnqueuedCount,
)

# --- one function for each type

assert_type(
    Email(
        message_id="m-1",
        event_at=AT,
        product_id="prod-abc",
        project_id="proj-123",
        subject="Hi",
        sender="ann@example.com",
        to=["bob@example.com"],
        participants=[ann],
        tags=["enterprise"],
        vendor_ids={"mailbox": "support"},
        data={"language": "en"},
    ),
    Record,
)
assert_type(EmailThread(thread_id="t", messages=[{"from": "a@b.c"}], event_at=AT, product_id="p"), Record)
assert_type(Call(call_id="c", event_at=AT, product_id="p", recording_url="https://e.com/a"), Record)
assert_type(
    CallTranscription(call_id="c", turns=[{"sender": "Ann", "text": "Hi"}], event_at=AT, product_id="p"),
    Record,
)
assert_type(MeetingNotes(meeting_id="m", duration_minutes=45, event_at=AT, product_id="p"), Record)
assert_type(
    Conversation(
        conversation_id="c",
        messages=[{"sender": "Ann", "text": "Hi", "sent_at": AT}],
        event_at=AT,
        product_id="p",
        thread_id="t",
    ),
    Record,
)
assert_type(Message(message_id="m", text="Hi", event_at=AT, product_id="p", nature=None), Record)
assert_type(Document(document_id="d", file_url="https://e.com/a.pdf", event_at=AT, product_id="p"), Record)
assert_type(Spreadsheet(spreadsheet_id="s", columns=["a"], rows=[[1]], event_at=AT, product_id="p"), Record)

# --- errors and single values

try:
    outbox.enqueue(record)
except InvalidRecord as error:
    assert_type(error, InvalidRecord)
    for each in error.errors:
        assert_type(each, FieldError)
        assert_type(each.path, str)

assert_type((is_email("a@b.c"), is_uri("https://e.com"), is_number(1)), tuple[bool, bool, bool])

"""Usual mistakes, for ``test_typing.py``: each is on a line that ends with the codes of mypy and pyright.

This file is never imported.
"""

# ruff: noqa: B018, E501, F401, I001
# Each mistake is on a line of its own, so the formatter must not break it.
# fmt: off

from __future__ import annotations

from datetime import date

from evermuse_outbox import Recrod, outbox  # expect: attr-defined / reportAttributeAccessIssue
from evermuse_outbox.records import Attachment, Call, Conversation, Email, EmailThread, Message, MeetingNotes
from evermuse_outbox.records import Participant, Pii, Record, RecordFields, UploadedAttachment

AT = "2026-02-24T12:34:56Z"
IDS = {"message_id": "m-1"}

# --- the dataclass

Record(type="mail", event_at=AT, vendor_ids=IDS, product_id="p", data={})  # expect: arg-type / reportArgumentType
Record(type="email", event_at=date(2026, 2, 24), vendor_ids=IDS, product_id="p", data={})  # expect: arg-type / reportArgumentType
Record(type="email", event_at=AT, vendor_ids="m-1", product_id="p", data={})  # expect: arg-type / reportArgumentType
Record(type="email", event_at=AT, vendor_ids={"id": 1}, product_id="p", data={})  # expect: dict-item / reportArgumentType
Record(type="email", event_at=AT, vendor_ids=IDS, data={})  # expect: call-arg / reportCallIssue
Record(type="email", event_at=AT, vendor_ids=IDS, product_id="p", data={}, natur="evidence")  # expect: call-arg / reportCallIssue
Record(type="email", event_at=AT, vendor_ids=IDS, product_id="p", data={}, nature="proof")  # expect: arg-type / reportArgumentType
Record(type="email", event_at=AT, vendor_ids=IDS, product_id="p", data={}, schema_version="1.0")  # expect: arg-type / reportArgumentType
Record(type="email", event_at=AT, vendor_ids=IDS, product_id="p", data={}).thread  # expect: attr-defined / reportAttributeAccessIssue

Record(type="email", event_at=AT, vendor_ids=IDS, product_id="p", data={}, tags="enterprise")  # expect: arg-type / reportArgumentType
Record(type="email", event_at=AT, vendor_ids=IDS, product_id="p", data={}, project_ids="proj-1")  # expect: arg-type / reportArgumentType

# --- the parts of a record

agent: Participant = {"id": "ann@example.com", "role": "agent"}  # expect: typeddict-item / reportAssignmentType
nameless: Participant = {"role": "internal"}  # expect: typeddict-item / reportAssignmentType
misspelt: Participant = {"id": "1", "role": "internal", "mail": "a@b.c"}  # expect: typeddict-unknown-key / reportAssignmentType
no_link: Attachment = {"type": "audio", "filename": "a.mp3"}  # expect: typeddict-item / reportAssignmentType
no_intent: UploadedAttachment = {"type": "file"}  # expect: typeddict-item / reportAssignmentType
no_kind: Attachment = {"type": "mp3", "vendor_url": "https://example.com/a.mp3"}  # expect: typeddict-item / reportAssignmentType
score: Pii = {"sensitive_score": "high"}  # expect: typeddict-item / reportAssignmentType
status: Pii = {"redaction_status": "hidden"}  # expect: typeddict-item / reportAssignmentType

# --- mappings

fields: RecordFields = {"_type": "email", "_schema_version": "1.0.0", "_event_at": AT, "_vendor_ids": IDS, "_product_id": "p", "data": {}, "_tag": []}  # expect: typeddict-unknown-key / reportAssignmentType
outbox.enqueue({"_type": "email", "_schema_version": "1.0.0", "_event_at": AT, "_vendor_id": IDS, "_product_id": "p", "data": {}})  # expect: dict-item / reportArgumentType
outbox.enqueue({"_type": "mail", "_schema_version": "1.0.0", "_event_at": AT, "_vendor_ids": IDS, "_product_id": "p", "data": {}})  # expect: dict-item / reportArgumentType
outbox.enqueue("{}")  # expect: arg-type / reportArgumentType
outbox.enqueue_many(Message(message_id="m", text="Hi", event_at=AT, product_id="p"))  # expect: arg-type / reportArgumentType
outbox.enqueue([Message(message_id="m", text="Hi", event_at=AT, product_id="p")])  # expect: arg-type / reportArgumentType
outbox.validate({"_type": "email"})  # expect: dict-item / reportArgumentType
outbox.enqueue(agent)  # expect: arg-type / reportArgumentType

# --- one function for each type

Email(message_id="m", event_at=AT, product_id="p", subjct="Hi")  # expect: call-arg / reportCallIssue
Email(event_at=AT, product_id="p")  # expect: call-arg / reportCallIssue
Email("m", event_at=AT, product_id="p")  # expect: call-arg / reportCallIssue
Message(message_id="m", text="Hi", product_id="p")  # expect: call-arg / reportCallIssue
Message(message_id=7, text="Hi", event_at=AT, product_id="p")  # expect: arg-type / reportArgumentType
Call(call_id="c", event_at=AT, product_id="p", recording_type="tape")  # expect: arg-type / reportArgumentType
MeetingNotes(meeting_id="m", duration_minutes="45", event_at=AT, product_id="p")  # expect: arg-type / reportArgumentType
Conversation(conversation_id="c", messages=[{"text": "Hi"}], event_at=AT, product_id="p")  # expect: typeddict-item / reportArgumentType
EmailThread(thread_id="t", messages="Hi", event_at=AT, product_id="p")  # expect: arg-type / reportArgumentType

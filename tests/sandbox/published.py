"""The published contract as test data: valid records, the published examples, schemas of responses."""

from __future__ import annotations

from typing import Any

import jsonschema_rs


def record(contract: str = "reference", **fields: Any) -> dict[str, Any]:
    """Return a small valid record. A field with the value None is omitted."""
    project = {"_project_id": "proj-1"} if contract == "reference" else {"_project_ids": ["proj-1"]}
    nature = {} if contract == "reference" else {"_nature": "evidence"}
    base = {
        "_type": "message",
        "_schema_version": "1.0.0",
        "_event_at": "2026-02-24T12:34:56Z",
        "_vendor_ids": {"id": "m-1"},
        "_product_id": "prod-1",
        **project,
        **nature,
        "data": {"text": "hello"},
    }
    return {name: value for name, value in {**base, **fields}.items() if value is not None}


def records(count: int, contract: str = "reference", **fields: Any) -> list[dict[str, Any]]:
    """Return valid records with different identities."""
    return [record(contract, _vendor_ids={"id": f"m-{number}"}, **fields) for number in range(count)]


CONVERSATIONS = [
    {
        "_type": "conversation",
        "_schema_version": "1.0.0",
        "_event_at": "2026-02-24T12:34:56Z",
        "_nature": "evidence",
        "_vendor_ids": {"conversation_id": "conv-001"},
        "_product_id": "prod-abc",
        "_project_ids": ["proj-123"],
        "data": {"messages": [{"sender": "agent", "text": "What can I do for you?"}]},
    },
    {
        "_type": "conversation",
        "_schema_version": "1.0.0",
        "_event_at": "2026-02-24T12:40:00Z",
        "_nature": "evidence",
        "_vendor_ids": {"conversation_id": "conv-002"},
        "_product_id": "prod-abc",
        "_project_ids": ["proj-123"],
        "data": {"messages": [{"sender": "customer", "text": "Where is my invoice?"}]},
    },
]

EMAIL = {
    "_type": "email",
    "_schema_version": "1.0.0",
    "_event_at": "2026-02-24T12:34:56Z",
    "_nature": "evidence",
    "_vendor_ids": {"message_id": "msg-001"},
    "_thread_id": "thread-inquiry",
    "_participants": [
        {
            "id": "alice@acme.com",
            "name": "Alice",
            "email": "alice@acme.com",
            "role": "external",
            "type": "contact",
        },
        {
            "id": "bob@example.com",
            "name": "Bob",
            "email": "bob@example.com",
            "role": "internal",
            "type": "user",
        },
    ],
    "_product_id": "prod-abc",
    "_project_ids": ["proj-123"],
    "_tags": ["product-feedback", "enterprise"],
    "data": {"subject": "Re: feedback", "from": "alice@acme.com", "body": "Dark mode, please."},
}

MEETING = {
    "_type": "meeting_notes",
    "_schema_version": "1.0.0",
    "_event_at": "2026-02-24T15:00:00Z",
    "_nature": "evidence",
    "_product_id": "prod-abc",
    "_project_ids": ["proj-123"],
    "_vendor_ids": {"meeting_id": "mtg-456"},
    "_attachments": [
        {
            "type": "audio",
            "filename": "recording.mp3",
            "mime_type": "audio/mpeg",
            "vendor_url": "https://storage.example.com/recordings/mtg-456.mp3",
        }
    ],
    "data": {"title": "Weekly sync", "duration_minutes": 45},
}

GUIDANCE = {
    "_type": "meeting_notes",
    "_schema_version": "1.0.0",
    "_event_at": "2026-02-24T10:00:00Z",
    "_nature": "guidance",
    "_vendor_ids": {"doc_id": "okr-q2-2026"},
    "_product_id": "prod-abc",
    "_project_ids": ["proj-456"],
    "data": {"title": "OKRs", "body": "Better onboarding"},
}

EXAMPLES = {
    "array": CONVERSATIONS,
    "wrapper": {"records": [EMAIL]},
    "attachment": [MEETING],
    "guidance": [GUIDANCE],
}
NDJSON_EXAMPLE = [
    {**EMAIL, "_vendor_ids": {"message_id": "msg-001"}},
    {**EMAIL, "_vendor_ids": {"message_id": "msg-002"}, "_event_at": "2026-02-24T12:40:00Z"},
]


def closed_object(required: str, **properties: Any) -> dict[str, Any]:
    """Return the schema of an object that must not have other fields. ``required`` is separated by spaces."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": required.split(),
        "properties": properties,
    }


COUNT = {"type": "integer", "minimum": 0}
TEXT = {"type": "string"}
ERROR = closed_object(
    "index code message",
    index=COUNT,
    code={"type": "string", "maxLength": 64},
    message={"type": "string", "maxLength": 2048},
)
ERRORS = {"type": "array", "maxItems": 20, "items": ERROR}
COUNTS = {"acceptedCount": COUNT, "rejectedCount": COUNT, "totalErrorCount": COUNT}
BATCH_ID = {"type": "string", "maxLength": 128}

ACCEPTED = closed_object(
    "batchId acceptedCount rejectedCount totalErrorCount", batchId=BATCH_ID, errors=ERRORS, **COUNTS
)
STATUS = closed_object(
    "batchId status acceptedCount rejectedCount totalErrorCount createdAt",
    batchId=BATCH_ID,
    status={"enum": ["LANDING", "LANDED", "PROCESSING", "COMPLETE", "FAILED"]},
    createdAt={"type": "number"},
    errors=ERRORS,
    source=TEXT,
    type=TEXT,
    attachmentDownloadTotal=COUNT,
    attachmentDownloadComplete=COUNT,
    attachmentDownloadFailed=COUNT,
    attachmentDownloadStatus={"enum": ["PENDING", "IN_PROGRESS", "COMPLETE", "PARTIAL_FAILURE", "FAILED"]},
    **COUNTS,
)
PAGE = closed_object(
    "batches nextCursor",
    batches={"type": "array", "items": STATUS},
    nextCursor={"type": ["string", "null"], "maxLength": 256},
)
ERROR_ENVELOPE = closed_object(
    "error message",
    error={"type": "string", "maxLength": 64, "minLength": 1},
    message={"type": "string", "maxLength": 2048, "minLength": 1},
    retryAfter={"type": "number", "exclusiveMinimum": 0},
    details={"type": "object"},
)

RESPONSE_SCHEMAS = {
    name: jsonschema_rs.Draft202012Validator(schema)
    for name, schema in {
        "accepted": ACCEPTED,
        "status": STATUS,
        "page": PAGE,
        "error": ERROR_ENVELOPE,
    }.items()
}

"""The two published contracts as data: which record is valid, which bodies are taken, which limits hold.

Sources: the API reference page ("reference") and the OpenAPI document behind the endpoint pages
("openapi"). Where the reference page names a field only, the shape is the endpoint page's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]

MAX_BODY_BYTES = 5_000_000  # API limits: 5 MB a request
MAX_RECORDS = 1_000  # API limits: records a request
MAX_ATTACHMENTS = 1_000  # API limits: attachments a batch
MAX_ERRORS_SHOWN = 20  # OpenAPI document: `errors` of the ingest answer and of a batch
MAX_MESSAGE = 2_048  # OpenAPI document: `message` of an error
MAX_IDEMPOTENCY_KEY = 256  # OpenAPI document: header Idempotency-Key
MAX_CURSOR = 256  # OpenAPI document: `cursor` of the listing
MAX_PAGE = 100  # OpenAPI document: `limit` of the listing
DEFAULT_PAGE = 20  # OpenAPI document: `limit` of the listing
FORMATS = frozenset({"text", "audio", "video", "file"})  # OpenAPI document: query parameter `format`

REFERENCE_TYPES = (
    "email",
    "call",
    "meeting_notes",
    "conversation",
    "message",
    "email_thread",
    "call_transcription",
)
OPENAPI_TYPES = (*REFERENCE_TYPES, "document", "spreadsheet")
NATURES = ("evidence", "guidance", "context")
# JSON can write half of a surrogate pair; no UTF-8 can, so nobody could store it as it was sent.
LONE_SURROGATE = "(record): a lone surrogate is no Unicode text"
EVENT_AT = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,3})?Z$"


class SandboxUnavailable(ImportError):
    """The sandbox cannot validate records because its optional dependency is not installed."""


def text(max_length: int, **more: Any) -> Schema:
    """Schema of a string of at most `max_length` characters."""
    return {"type": "string", "maxLength": max_length, **more}


def one_of(*values: str) -> Schema:
    """Schema of a string out of a closed list."""
    return {"type": "string", "enum": list(values)}


def closed(properties: Schema, required: tuple[str, ...] = ()) -> Schema:
    """Schema of an object that takes no other fields."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(required),
        "properties": properties,
    }


def list_of(items: Schema, max_items: int) -> Schema:
    """Schema of an array of at most `max_items`."""
    return {"type": "array", "maxItems": max_items, "items": items}


FRACTION: Schema = {"type": "number", "minimum": 0, "maximum": 1}

PARTICIPANT = closed(
    {
        "id": text(256),
        "name": text(256),
        "email": text(320, format="email"),
        "role": one_of("internal", "external", "unknown"),
        "type": one_of("user", "contact", "workspace_member", "bot", "system", "unknown"),
    },
    required=("id", "role"),
)

ATTACHMENT = closed(
    {
        "type": one_of("audio", "video", "file", "image", "text", "unknown"),
        "filename": text(512),
        "size": {"type": "integer", "minimum": 0},
        "mime_type": text(256),
        "sha1": text(128),
        "md5": text(128),
        "vendor_url": text(2_048, format="uri"),
        "upload_intent_id": text(256),
    },
    required=("type",),
)

PII_ENTITY = closed({"type": text(64), "value": text(1_024), "confidence": FRACTION}, required=("type",))

PII = closed(
    {
        "contains_email": {"type": "boolean"},
        "contains_phone": {"type": "boolean"},
        "sensitive_score": FRACTION,
        "detected_entities": {"type": "array", "items": PII_ENTITY},
        "redaction_status": one_of("unredacted", "redacted", "encrypted"),
    }
)

# What both contracts say of a record.
SHARED_FIELDS: Schema = {
    # One text says "use", the other "always".
    "_schema_version": {"type": "string", "const": "1.0.0"},
    # The pattern lets through 31 February, which is no ISO-8601 timestamp: hence the format too.
    "_event_at": {"type": "string", "pattern": EVENT_AT, "format": "date-time"},
    "_vendor_ids": {"type": "object", "minProperties": 1, "additionalProperties": {"type": "string"}},
    "_product_id": text(128),
    "_nature": one_of(*NATURES),
    "_thread_id": text(512),
    "_participants": list_of(PARTICIPANT, 5_000),
    "_attachments": list_of(ATTACHMENT, 10),
    "_tags": list_of(text(64), 200),
    "_pii": PII,
    "data": {"type": "object"},
}
SHARED_REQUIRED = ("_type", "_schema_version", "_event_at", "_vendor_ids", "_product_id", "data")

# Unknown top-level fields are "not said" on the reference page: taken. `_project_ids` is one of them.
REFERENCE_RECORD: Schema = {
    **closed(
        {**SHARED_FIELDS, "_type": one_of(*REFERENCE_TYPES), "_project_id": text(128)},
        required=(*SHARED_REQUIRED, "_project_id"),
    ),
    "additionalProperties": True,
}

OPENAPI_RECORD = closed(
    {
        **SHARED_FIELDS,
        "_type": one_of(*OPENAPI_TYPES),
        "_project_ids": {"type": "array", "minItems": 1, "items": text(128)},
    },
    required=(*SHARED_REQUIRED, "_project_ids", "_nature"),
)


def compiled(schema: Schema) -> Any:
    """A validator for `schema` with formats switched on; its messages never repeat the values."""
    try:
        import jsonschema_rs
    except ImportError as error:
        raise SandboxUnavailable(
            "The sandbox validates records with jsonschema-rs: pip install 'evermuse-outbox[sandbox]'"
        ) from error
    # An address alone is meant: the library would also take `Ada <ada@example.com>`.
    plain_address = jsonschema_rs.EmailOptions(allow_display_text=False)
    return jsonschema_rs.Draft202012Validator(
        schema, validate_formats=True, mask="the value", email_options=plain_address
    )


@dataclass(frozen=True)
class Contract:
    """One of the two published texts.

    `takes_single_record`: a JSON body may be one record. `folds_type`: `_type` is lower-cased before it
    is judged (the reference page lists values and another page says that they are lower-cased; the
    OpenAPI document has a closed list, which is exact).
    """

    name: str
    takes_single_record: bool
    folds_type: bool
    validator: Any

    def normalised(self, record: Any) -> Any:
        """`record` as it is judged and stored: `_type` in lower case where the contract folds it."""
        if not self.folds_type or not isinstance(record, dict) or not isinstance(record.get("_type"), str):
            return record
        return {**record, "_type": record["_type"].lower()}

    def errors(self, record: Any) -> list[str]:
        """Everything wrong with a record, one `path: message` each; empty when it is valid."""
        try:
            if self.validator.is_valid(record):
                return []
            return [described(error) for error in self.validator.iter_errors(record)]
        except UnicodeEncodeError:
            return [LONE_SURROGATE]
        except ValueError as error:  # nesting deeper than the validator follows
            return [f"(record): {error}"]


def described(error: Any) -> str:
    """One validation error as `path: message`, cut to the length that an error message may have."""
    path = "".join(steps(error.instance_path)).lstrip(".") or "(record)"
    return f"{path}: {error.message}"[:MAX_MESSAGE]


def steps(path: list[str | int]) -> Iterator[str]:
    """The steps of an instance path as `.name` and `[0]`."""
    for step in path:
        yield f"[{step}]" if isinstance(step, int) else f".{step}"


def contract_named(name: str) -> Contract:
    """The contract `"reference"` or `"openapi"`; ValueError for another name."""
    if name == "reference":
        return Contract(name, takes_single_record=True, folds_type=True, validator=compiled(REFERENCE_RECORD))
    if name == "openapi":
        return Contract(name, takes_single_record=False, folds_type=False, validator=compiled(OPENAPI_RECORD))
    raise ValueError(f'contract is "reference" or "openapi", not {name!r}')

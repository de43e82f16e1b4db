"""The two published contracts as data: limits of a request, JSON Schemas of a record, accepted forms of a body.

The sources are the API reference page (``reference``) and the OpenAPI document of the endpoint pages (``openapi``).
The reference page does not define every field that it names. The sandbox then uses the schema of the OpenAPI document.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]

# Source: the section "API Limits" of the reference page. Each limit is for one request.
MAX_BODY_BYTES = 5_000_000
MAX_RECORDS = 1_000
MAX_ATTACHMENTS = 1_000

# Source: the OpenAPI document. Lengths are in characters.
MAX_ERRORS_SHOWN = 20  # entries of `errors` in the response to a POST and in a batch
MAX_MESSAGE = 2_048  # length of `message` in an error
MAX_IDEMPOTENCY_KEY = 256  # length of the header Idempotency-Key
MAX_CURSOR = 256  # length of the query parameter `cursor`
MAX_PAGE = 100  # highest value of the query parameter `limit`
DEFAULT_PAGE = 20  # default of the query parameter `limit`
FORMATS = frozenset({"text", "audio", "video", "file"})  # values of the query parameter `format`

LONE_SURROGATE = "(record): a lone surrogate is no Unicode text"
"""Error of a record with half of a surrogate pair. JSON can escape it, but UTF-8 cannot encode it."""


class SandboxUnavailable(ImportError):
    """The sandbox cannot validate records, because its optional dependency is not installed."""


# --- Building blocks of a schema ----------------------------------------------------------------


def string(max_length: int, **keywords: Any) -> Schema:
    """Return the schema of a string of at most ``max_length`` characters."""
    return {"type": "string", "maxLength": max_length, **keywords}


def enum(*values: str) -> Schema:
    """Return the schema of a string that is one of ``values``."""
    return {"type": "string", "enum": list(values)}


def closed_object(properties: Schema, required: Sequence[str] = ()) -> Schema:
    """Return the schema of an object that must not have fields other than ``properties``."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(required),
        "properties": properties,
    }


def array(items: Schema, max_items: int) -> Schema:
    """Return the schema of an array of at most ``max_items`` values of the schema ``items``."""
    return {"type": "array", "maxItems": max_items, "items": items}


# --- Schema of a record -------------------------------------------------------------------------

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

# Source: the OpenAPI document, pattern of `_event_at`.
EVENT_AT = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,3})?Z$"
FRACTION: Schema = {"type": "number", "minimum": 0, "maximum": 1}

PARTICIPANT = closed_object(
    {
        "id": string(256),
        "name": string(256),
        "email": string(320, format="email"),
        "role": enum("internal", "external", "unknown"),
        "type": enum("user", "contact", "workspace_member", "bot", "system", "unknown"),
    },
    required=("id", "role"),
)

ATTACHMENT = closed_object(
    {
        "type": enum("audio", "video", "file", "image", "text", "unknown"),
        "filename": string(512),
        "size": {"type": "integer", "minimum": 0},
        "mime_type": string(256),
        "sha1": string(128),
        "md5": string(128),
        "vendor_url": string(2_048, format="uri"),
        "upload_intent_id": string(256),
    },
    required=("type",),
)

PII_ENTITY = closed_object(
    {"type": string(64), "value": string(1_024), "confidence": FRACTION}, required=("type",)
)

PII = closed_object(
    {
        "contains_email": {"type": "boolean"},
        "contains_phone": {"type": "boolean"},
        "sensitive_score": FRACTION,
        "detected_entities": {"type": "array", "items": PII_ENTITY},
        "redaction_status": enum("unredacted", "redacted", "encrypted"),
    }
)

SHARED_FIELDS: Schema = {
    # The reference page says that it is always 1.0.0. The OpenAPI document says to use 1.0.0.
    "_schema_version": {"type": "string", "const": "1.0.0"},
    # The pattern alone would allow 31 February, so the format is checked, too.
    "_event_at": {"type": "string", "pattern": EVENT_AT, "format": "date-time"},
    "_vendor_ids": {"type": "object", "minProperties": 1, "additionalProperties": {"type": "string"}},
    "_product_id": string(128),
    "_nature": enum(*NATURES),
    "_thread_id": string(512),
    "_participants": array(PARTICIPANT, 5_000),
    "_attachments": array(ATTACHMENT, 10),
    "_tags": array(string(64), 200),
    "_pii": PII,
    "data": {"type": "object"},
}
"""Fields that both contracts define in the same way."""

SHARED_REQUIRED = ("_type", "_schema_version", "_event_at", "_vendor_ids", "_product_id", "data")

REFERENCE_RECORD: Schema = {
    **closed_object(
        {**SHARED_FIELDS, "_type": enum(*REFERENCE_TYPES), "_project_id": string(128)},
        required=(*SHARED_REQUIRED, "_project_id"),
    ),
    # The reference page does not forbid unknown fields, so they are accepted. `_project_ids` is one of them.
    "additionalProperties": True,
}

OPENAPI_RECORD = closed_object(
    {
        **SHARED_FIELDS,
        "_type": enum(*OPENAPI_TYPES),
        "_project_ids": {"type": "array", "minItems": 1, "items": string(128)},
    },
    required=(*SHARED_REQUIRED, "_project_ids", "_nature"),
)


# --- Validation ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contract:
    """One of the two published contracts.

    Attributes:
        takes_single_record: A JSON body may be one record, without an array around it.
        lowercases_type: ``_type`` is converted to lower case before it is validated. The reference documentation
            says so. The OpenAPI document has a closed list of exact values.
        validator: The compiled JSON Schema of a record.
    """

    name: str
    takes_single_record: bool
    lowercases_type: bool
    validator: Any

    def normalise(self, record: Any) -> Any:
        """Return ``record`` in the form in which it is validated and stored. Other values are returned unchanged."""
        if (
            not self.lowercases_type
            or not isinstance(record, dict)
            or not isinstance(record.get("_type"), str)
        ):
            return record
        return {**record, "_type": record["_type"].lower()}

    def errors(self, record: Any) -> list[str]:
        """Return every error of a record as ``path: message``. The list is empty if the record is valid."""
        try:
            if self.validator.is_valid(record):
                return []
            return [describe_error(error) for error in self.validator.iter_errors(record)]
        except UnicodeEncodeError:
            return [LONE_SURROGATE]
        except ValueError as error:  # the record is nested deeper than the validator supports
            return [f"(record): {error}"]


def load_contract(name: str) -> Contract:
    """Return the contract ``"reference"`` or ``"openapi"``.

    Raises:
        ValueError: There is no contract of this name.
        SandboxUnavailable: The extra ``[sandbox]`` is not installed.
    """
    if name == "reference":
        validator = compile_schema(REFERENCE_RECORD)
        return Contract(name, takes_single_record=True, lowercases_type=True, validator=validator)
    if name == "openapi":
        validator = compile_schema(OPENAPI_RECORD)
        return Contract(name, takes_single_record=False, lowercases_type=False, validator=validator)
    raise ValueError(f'contract must be "reference" or "openapi", not {name!r}')


def compile_schema(schema: Schema) -> Any:
    """Return a validator for ``schema`` that checks formats. Its messages never contain values of a record.

    Raises:
        SandboxUnavailable: The extra ``[sandbox]`` is not installed.
    """
    try:
        import jsonschema_rs
    except ImportError as error:
        raise SandboxUnavailable(
            "The sandbox validates records with jsonschema-rs: pip install 'evermuse-outbox[sandbox]'"
        ) from error
    # An address with a name, as in `Ada <ada@example.com>`, is not an e-mail address.
    email_options = jsonschema_rs.EmailOptions(allow_display_text=False)
    return jsonschema_rs.Draft202012Validator(
        schema, validate_formats=True, mask="the value", email_options=email_options
    )


def describe_error(error: Any) -> str:
    """Return a validation error as ``path: message``, cut to the maximum length of an error message."""
    path = format_path(error.instance_path) or "(record)"
    return f"{path}: {error.message}"[:MAX_MESSAGE]


def format_path(steps: Sequence[str | int]) -> str:
    """Return the path of a value in a record, such as ``_attachments[1].filename``."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).lstrip(".")

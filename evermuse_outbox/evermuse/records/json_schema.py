"""The rules of a record as JSON Schema (draft 2020-12), with a description and an example of each field.

The schema is made from the rules of ``schema.py``, so it cannot differ from what ``validate`` checks. It describes a
record as it is sent: with the project field of the contract, and ``_event_at`` in UTC.
"""

from collections.abc import Mapping
from typing import Any

from .. import limits
from .record import CONTRACTS

DIALECT = "https://json-schema.org/draft/2020-12/schema"

SENT_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"

FIELDS: dict[str, tuple[str, Any]] = {
    "_type": (
        "The kind of record. A request has records of one type. Part of the identity.",
        "email",
    ),
    "_schema_version": ("The version of the envelope.", "1.0.0"),
    "_event_at": (
        "When the event happened, in UTC and whole seconds. Part of the identity.",
        "2026-02-24T12:34:56Z",
    ),
    "_vendor_ids": (
        "Ids in your system. Part of the identity: a record with the same type, time and ids replaces the earlier one.",
        {"message_id": "msg-1"},
    ),
    "_product_id": (
        "The product that the record belongs to. A request has records of one product.",
        "prod-abc",
    ),
    "_project_id": (
        "The project that the record belongs to. Required by the contract reference.",
        "proj-123",
    ),
    "_project_ids": (
        "The projects that the record belongs to. Required by the contract openapi.",
        ["proj-123"],
    ),
    "_nature": (
        (
            "How the analysis uses the record. evidence: the voice of customers, such as conversations and tickets. "
            "guidance: the direction of the company, such as goals and decisions. context: background that is no "
            "evidence, such as the market and competitors."
        ),
        "evidence",
    ),
    "_thread_id": ("Groups the records of one thread, such as a chain of mails.", "thread-7"),
    "_participants": (
        "The people and machines that took part. Evermuse attributes and filters by them.",
        [{"id": "ann@example.com", "role": "external"}],
    ),
    "_participants[].id": (
        "A stable id: an address, a phone number or an id of your system.",
        "ann@example.com",
    ),
    "_participants[].name": ("The name to display.", "Ann Example"),
    "_participants[].email": ("The e-mail address. Leave it out if there is none.", "ann@example.com"),
    "_participants[].role": ("internal: of your team. external: a customer or another outsider.", "external"),
    "_participants[].type": ("What the participant is, such as a contact or a bot.", "contact"),
    "_attachments": (
        "Files of the record. Evermuse downloads them after it has accepted the batch.",
        [{"type": "audio", "vendor_url": "https://storage.example.com/call.mp3"}],
    ),
    "_attachments[].type": ("The kind of file.", "audio"),
    "_attachments[].filename": ("The name of the file.", "call.mp3"),
    "_attachments[].size": ("The size in bytes. Evermuse accepts files up to 2 GB.", 48_000),
    "_attachments[].mime_type": ("The media type.", "audio/mpeg"),
    "_attachments[].sha1": (
        "The SHA-1 of the content, to verify it.",
        "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    ),
    "_attachments[].md5": ("The MD5 of the content, to verify it.", "d41d8cd98f00b204e9800998ecf8427e"),
    "_attachments[].vendor_url": (
        "Where Evermuse downloads the file. Without it, give upload_intent_id.",
        "https://storage.example.com/call.mp3",
    ),
    "_attachments[].upload_intent_id": ("The id of a file that you have uploaded to Evermuse.", "intent-1"),
    "_tags": ("Labels for filters.", ["enterprise"]),
    "_pii": (
        "What is known of personal data in the record, so that Evermuse protects it.",
        {"contains_email": True},
    ),
    "_pii.contains_email": ("Whether data contains e-mail addresses.", True),
    "_pii.contains_phone": ("Whether data contains phone numbers.", False),
    "_pii.sensitive_score": ("How likely sensitive content is: 0 is not at all, 1 is certain.", 0.2),
    "_pii.detected_entities": ("The pieces of personal data that were detected.", [{"type": "email"}]),
    "_pii.detected_entities[].type": ("The kind of personal data.", "email"),
    "_pii.detected_entities[].value": (
        "The value itself. Leave it out to keep it private.",
        "ann@example.com",
    ),
    "_pii.detected_entities[].confidence": ("How certain the detection is, from 0 to 1.", 0.9),
    "_pii.redaction_status": ("Whether personal data was removed or encrypted before.", "redacted"),
    "data": (
        "Your content, with all its fields. It is stored as it is sent.",
        {"subject": "Hi", "body": "…"},
    ),
}
"""What each field does, and an example of it, by its path."""


def record_schema(contract: str) -> dict[str, Any]:
    """Return the JSON Schema of a record as it is sent under a contract.

    Args:
        contract: ``"reference"`` or ``"openapi"``.

    Raises:
        ValueError: The contract is unknown.
    """
    return {"$schema": DIALECT, "title": f'An Evermuse record, contract "{contract}"', **_record(contract)}


def request_schema(contract: str) -> dict[str, Any]:
    """Return the JSON Schema of the JSON body of a request under a contract.

    A schema cannot say that all records of a request have the same ``_type`` and ``_product_id``, nor limit the bytes.
    """
    several = {
        "type": "array",
        "items": {"$ref": "#/$defs/record"},
        "minItems": 1,
        "maxItems": limits.MAX_BATCH_RECORDS,
    }
    wrapped = {
        "type": "object",
        "properties": {"records": several},
        "required": ["records"],
        "additionalProperties": False,
    }
    single = [{"$ref": "#/$defs/record"}] if contract == "reference" else []
    return {
        "$schema": DIALECT,
        "title": f'A request to Evermuse, contract "{contract}"',
        "oneOf": [several, wrapped, *single],
        "$defs": {"record": _record(contract)},
    }


def _record(contract: str) -> dict[str, Any]:
    if contract not in CONTRACTS:
        raise ValueError(f"contract is {contract!r}, not one of {', '.join(CONTRACTS)}")
    from .schema import rules  # late, because only this needs pydantic

    schema = _of_rule(rules(contract), "")
    project, other = ("_project_id", "_project_ids")[:: 1 if contract == "reference" else -1]
    del schema["properties"][other]
    schema["required"].append(project)
    return schema


def _of_rule(rule: Any, path: str) -> dict[str, Any]:
    """Return the schema of a rule and of all rules inside."""
    schema: dict[str, Any] = {"type": "object"} if path == "data" else _of_core(rule.schema)
    if rule.members:
        separator = "." if path else ""
        schema["properties"] = {
            name: _of_rule(member, f"{path}{separator}{name}") for name, member in rule.members.items()
        }
        schema["required"] = [name for name, member in rule.members.items() if member.required]
        schema["additionalProperties"] = False
    elif rule.item is not None:
        inside = "items" if schema["type"] == "array" else "additionalProperties"
        schema[inside] = _of_rule(rule.item, f"{path}[]")
    if path == "_event_at":
        schema["pattern"] = SENT_TIME
    if path in FIELDS:
        description, example = FIELDS[path]
        schema |= {"description": description, "examples": [example]}
    return schema


def _of_core(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema of a check of pydantic's core, without what is inside of it."""
    match schema["type"]:
        case "literal":
            return {"type": "string", "enum": list(schema["expected"])}
        case "chain":  # text of a form
            first, form = schema["steps"]
            return _of_core(first) | {"format": form["custom_error_type"]}
        case "function-wrap":  # a number that keeps its form
            return _of_core(schema["schema"])
        case kind:
            names = _KEYWORDS[kind]
            return {"type": _TYPES[kind]} | {
                names[name]: value for name, value in schema.items() if name in names and _is_limit(value)
            }


def _is_limit(value: Any) -> bool:
    # The range of a double has more digits than parsers of a schema need to read.
    return value is not None and value != limits.MAX_NUMBER


_TYPES = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "list": "array",
    "dict": "object",
    "typed-dict": "object",
}
_KEYWORDS: dict[str, dict[str, str]] = {
    "str": {"min_length": "minLength", "max_length": "maxLength", "pattern": "pattern"},
    "int": {"ge": "minimum", "le": "maximum"},
    "float": {"ge": "minimum", "le": "maximum"},
    "bool": {},
    "list": {"min_length": "minItems", "max_length": "maxItems"},
    "dict": {"min_length": "minProperties", "max_length": "maxProperties"},
    "typed-dict": {},
}
"""For each type of the core, its limits and their names in JSON Schema."""

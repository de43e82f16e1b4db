"""The Python types of a record. The limits of each field are in ``schema.py``.

Source of all names and values: OpenAPI document, IngestRecord and the schemas below it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, NotRequired, TypeAlias, TypedDict, final, get_args

Contract = Literal["reference", "openapi"]
RecordType = Literal[
    "email",
    "call",
    "meeting_notes",
    "conversation",
    "message",
    "email_thread",
    "call_transcription",
    "document",
    "spreadsheet",
]
SchemaVersion = Literal["1.0.0"]
Nature = Literal["evidence", "guidance", "context"]
Role = Literal["internal", "external", "unknown"]
ParticipantType = Literal["user", "contact", "workspace_member", "bot", "system", "unknown"]
AttachmentType = Literal["audio", "video", "file", "image", "text", "unknown"]
RedactionStatus = Literal["unredacted", "redacted", "encrypted"]

CONTRACTS: tuple[str, ...] = get_args(Contract)
NATURES: tuple[str, ...] = get_args(Nature)
ROLES: tuple[str, ...] = get_args(Role)
PARTICIPANT_TYPES: tuple[str, ...] = get_args(ParticipantType)
ATTACHMENT_TYPES: tuple[str, ...] = get_args(AttachmentType)
REDACTION_STATUSES: tuple[str, ...] = get_args(RedactionStatus)

SCHEMA_VERSION: Final = "1.0.0"

OPENAPI_TYPES: tuple[str, ...] = get_args(RecordType)
# Source: the API reference has seven types, the OpenAPI document has these two more.
REFERENCE_TYPES = tuple(name for name in OPENAPI_TYPES if name not in ("document", "spreadsheet"))
TYPES: dict[str, tuple[str, ...]] = {"reference": REFERENCE_TYPES, "openapi": OPENAPI_TYPES}


class Participant(TypedDict):
    """A person or machine that took part in the event."""

    id: str
    role: Role
    name: NotRequired[str | None]
    email: NotRequired[str | None]
    type: NotRequired[ParticipantType | None]


class FileFacts(TypedDict):
    """What both kinds of attachments have; ``size`` is in bytes."""

    type: AttachmentType
    filename: NotRequired[str | None]
    size: NotRequired[int | None]
    mime_type: NotRequired[str | None]
    sha1: NotRequired[str | None]
    md5: NotRequired[str | None]


class Attachment(FileFacts):
    """A file that Evermuse downloads from ``vendor_url``."""

    vendor_url: str
    upload_intent_id: NotRequired[str | None]


class UploadedAttachment(FileFacts):
    """A file that the host has uploaded to Evermuse before."""

    upload_intent_id: str
    vendor_url: NotRequired[str | None]


class PiiEntity(TypedDict):
    """A piece of personal information that was detected; ``confidence`` is from 0 to 1."""

    type: str
    value: NotRequired[str | None]
    confidence: NotRequired[float | None]


class Pii(TypedDict, total=False):
    """The personal information in the record; ``sensitive_score`` is from 0 to 1."""

    contains_email: bool | None
    contains_phone: bool | None
    sensitive_score: float | None
    detected_entities: Sequence[PiiEntity] | None
    redaction_status: RedactionStatus | None


Texts: TypeAlias = list[str] | tuple[str, ...]
"""Several texts. Not ``Sequence[str]``, because a single text is one."""


class RecordFields(TypedDict):
    """A record as a mapping with the field names of the API, so that a type checker knows them.

    At run time it is a plain dict. The project is required in either form, and ``_nature`` by the contract "openapi".
    """

    _type: RecordType
    _schema_version: SchemaVersion
    _event_at: datetime | str
    _vendor_ids: Mapping[str, str]
    _product_id: str
    data: Mapping[str, Any]
    _project_id: NotRequired[str | None]
    _project_ids: NotRequired[Texts | None]
    _nature: NotRequired[Nature | None]
    _thread_id: NotRequired[str | None]
    _participants: NotRequired[Sequence[Participant] | None]
    _attachments: NotRequired[Sequence[Attachment | UploadedAttachment] | None]
    _tags: NotRequired[Texts | None]
    _pii: NotRequired[Pii | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """A record as a dataclass, so that editors and type checkers know its fields. ``enqueue`` checks the values.

    ``event_at`` is an aware datetime, or ISO 8601 text with ``Z`` or an offset. Give the project as ``project_id`` or
    as ``project_ids``; it is sent in the form that the contract requires. None and empty sequences are not sent.
    Its ``repr`` has no content, because error trackers store it.
    """

    type: RecordType
    event_at: datetime | str
    vendor_ids: Mapping[str, str] = field(repr=False)
    product_id: str
    data: Mapping[str, Any] = field(repr=False)
    project_id: str | None = None
    project_ids: Texts | None = None
    nature: Nature | None = None
    schema_version: SchemaVersion = SCHEMA_VERSION
    thread_id: str | None = field(default=None, repr=False)
    participants: Sequence[Participant] = field(default=(), repr=False)
    attachments: Sequence[Attachment | UploadedAttachment] = field(default=(), repr=False)
    tags: Texts = field(default=(), repr=False)
    pii: Pii | None = field(default=None, repr=False)

    def as_mapping(self) -> dict[str, Any]:
        """Return the record as a dict with Evermuse's field names (``_type`` … ``data``), without unset fields."""
        values = ((wire_name, getattr(self, name)) for name, wire_name in _WIRE_NAMES)
        return {wire_name: _as_json(value) for wire_name, value in values if not _is_unset(value)}


def _as_json(value: Any) -> Any:
    return list(value) if type(value) is tuple else value


def _is_unset(value: Any) -> bool:
    # Only tuples and lists. An empty `data` or `vendor_ids` is set, and `validate` decides whether it is allowed.
    return value is None or (not value and type(value) in (tuple, list))


_WIRE_NAMES = tuple((name, name if name == "data" else f"_{name}") for name in Record.__dataclass_fields__)


@final
class UseRecordFields:
    """A type without values, so that a type checker accepts only values of type ``Any`` in its place.

    Its name is part of the message of a type checker: it says what to do.
    """

    def __init__(self) -> None:
        raise TypeError("UseRecordFields has no instances")


AnyRecord: TypeAlias = RecordFields | Record | Mapping[str, UseRecordFields]
"""A record, for type checkers. They find a wrong field in a dict literal, but still accept a ``dict[str, Any]``.

With ``Mapping[str, Any]``, they would accept each dict literal. A mapping is checked at run time in each case.
"""

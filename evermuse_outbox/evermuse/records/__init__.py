"""Convert a record of the host to the exact bytes that Evermuse accepts, or list everything that is wrong with it.

The package must not use the database, the network or the clock. It loads pydantic only at the first validation.
Its interface is :class:`Record` with the types of its fields, :func:`validate`, :func:`make_identity`,
:func:`make_checksum`, :func:`translate`, :func:`replace_urls`, :func:`record_schema` and :func:`request_schema`.
"""

from .checksum import make_checksum
from .identity import make_identity
from .json_schema import FIELDS, record_schema, request_schema
from .record import (
    CONTRACTS,
    NATURES,
    OPENAPI_TYPES,
    SCHEMA_VERSION,
    TYPES,
    AnyRecord,
    Attachment,
    Contract,
    Nature,
    Participant,
    Pii,
    PiiEntity,
    Record,
    RecordFields,
    RecordType,
    Texts,
    UploadedAttachment,
)
from .translation import replace_urls, translate
from .validation import Envelope, validate

__all__ = [
    "CONTRACTS",
    "FIELDS",
    "NATURES",
    "OPENAPI_TYPES",
    "SCHEMA_VERSION",
    "TYPES",
    "AnyRecord",
    "Attachment",
    "Contract",
    "Envelope",
    "Nature",
    "Participant",
    "Pii",
    "PiiEntity",
    "Record",
    "RecordFields",
    "RecordType",
    "Texts",
    "UploadedAttachment",
    "make_checksum",
    "make_identity",
    "record_schema",
    "replace_urls",
    "request_schema",
    "translate",
    "validate",
]

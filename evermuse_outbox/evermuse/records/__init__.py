"""Convert a record of the host to the exact bytes that Evermuse accepts, or list everything that is wrong with it.

The package must not use the database, the network or the clock. It loads pydantic only at the first validation.
Its interface is :class:`Record` with the types of its fields, :func:`validate`, :func:`make_identity`,
:func:`make_checksum`, :func:`translate` and :func:`replace_urls`.
"""

from .checksum import make_checksum
from .identity import make_identity
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
    "replace_urls",
    "translate",
    "validate",
]

"""Describe Evermuse: its published limits, its errors, the body of a request; below it, its API and its records.

The package must not use the database, the settings or Celery, and this module must import quickly, because each
process of the host imports it. Its interface is the errors, :class:`BodyFormat` and the module :mod:`.limits`;
the sub-packages ``api`` (HTTP) and ``records`` (validation) have interfaces of their own.
"""

from . import limits
from .body import FORMATS, BodyFormat, fingerprint
from .errors import (
    EvermuseError,
    FieldError,
    InvalidRecord,
    RecordTooLarge,
    TransportError,
    Unanswered,
    Unreachable,
    Untranslatable,
    safe_repr,
)

__all__ = [
    "FORMATS",
    "BodyFormat",
    "EvermuseError",
    "FieldError",
    "InvalidRecord",
    "RecordTooLarge",
    "TransportError",
    "Unanswered",
    "Unreachable",
    "Untranslatable",
    "fingerprint",
    "limits",
    "safe_repr",
]

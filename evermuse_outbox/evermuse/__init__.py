"""Describe Evermuse: its published limits, the errors about it, and the body of a request.

The package must not use the database, the settings or Celery. This module must import quickly, because each process of
the host imports it. Its interface is the errors, :class:`BodyFormat`, the address of a :class:`Proxy` and the modules
:mod:`.advice`, :mod:`.formats` and :mod:`.limits`. The sub-packages ``api`` (HTTP) and ``records`` (validation) have
interfaces of their own.
"""

from . import advice, formats, limits
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
)
from .proxies import InvalidProxy, Proxy, is_host, is_loopback, parse_proxy

__all__ = [
    "FORMATS",
    "BodyFormat",
    "EvermuseError",
    "FieldError",
    "InvalidProxy",
    "InvalidRecord",
    "Proxy",
    "RecordTooLarge",
    "TransportError",
    "Unanswered",
    "Unreachable",
    "Untranslatable",
    "advice",
    "fingerprint",
    "formats",
    "is_host",
    "is_loopback",
    "limits",
    "parse_proxy",
]

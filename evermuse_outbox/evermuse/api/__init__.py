"""Call the three endpoints of Evermuse over HTTP, and turn each answer into a value.

The package must not use the database, retry, sleep or decide what to do next. Its interface is :class:`Client`, the
classification of answers into an :data:`Outcome`, and the readers of a :class:`Status` or a :class:`Page`. It also
diagnoses errors that all records of a group share.
"""

from .answers import Answer, RecordError
from .client import Client
from .diagnosis import describe_cause_of_failures, describe_likely_cause, make_error_signature
from .outcomes import (
    Accepted,
    InDoubt,
    KeyRefused,
    NoCredits,
    Outcome,
    Refused,
    Throttled,
    TooLarge,
    Unavailable,
    classify_read,
    classify_send,
    classify_transport_error,
    read_error_envelope,
    read_retry_after,
)
from .routes import ProxySetting, Route, find_route
from .statuses import Page, Status, read_page, read_status

__all__ = [
    "Accepted",
    "Answer",
    "Client",
    "InDoubt",
    "KeyRefused",
    "NoCredits",
    "Outcome",
    "Page",
    "ProxySetting",
    "RecordError",
    "Refused",
    "Route",
    "Status",
    "Throttled",
    "TooLarge",
    "Unavailable",
    "classify_read",
    "classify_send",
    "classify_transport_error",
    "describe_cause_of_failures",
    "describe_likely_cause",
    "find_route",
    "make_error_signature",
    "read_error_envelope",
    "read_page",
    "read_retry_after",
    "read_status",
]

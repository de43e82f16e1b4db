"""Classification of the result of every HTTP call into one closed set of outcomes. Pure.

Only an answer that is exactly as documented becomes :class:`Accepted`. If it is unknown whether Evermuse has the batch,
the outcome is :class:`InDoubt`. A wrong classification would lose a batch, or send it twice. Source: OpenAPI document,
responses of ``/api/v1/ingest``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from .. import Unanswered, Unreachable, limits
from .answers import Answer, RecordError, is_batch_id, is_count, parse_object, parse_record_errors, parse_text

DEFAULT_RETRY_AFTER = 1.0
"""Seconds to wait after a 429 without a usable ``retryAfter``: the window of the published rate limit."""

MAX_RETRY_AFTER = 1e9
"""Maximum seconds, about 32 years, so that the value stays finite. The throttle applies a lower maximum."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A 2xx, documented as 202: Evermuse has the batch and rejected ``rejected`` of its records.

    Evermuse sends at most 20 ``errors`` of the ``total_errors``. Several of them may concern one record.
    """

    remote_id: str
    accepted: int
    rejected: int
    total_errors: int
    errors: tuple[RecordError, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """400 or 422 with JSON: Evermuse took no record. ``errors`` may be incomplete, or empty if no record is named."""

    code: str
    message: str
    errors: tuple[RecordError, ...]


@dataclass(frozen=True, slots=True)
class TooLarge:
    """413: Evermuse took no record, because the body is too large."""

    message: str


@dataclass(frozen=True, slots=True)
class KeyRefused:
    """401 or 403 of Evermuse: it took no record, because of the API key."""

    status: int
    message: str


@dataclass(frozen=True, slots=True)
class NoCredits:
    """402 of Evermuse: it took no record, because the workspace has no credits."""

    message: str


@dataclass(frozen=True, slots=True)
class Throttled:
    """429 of Evermuse: it took no record, and the key must not be used for ``retry_after`` seconds."""

    retry_after: float
    message: str


@dataclass(frozen=True, slots=True)
class InDoubt:
    """A timeout, a reset, a 5xx or an unreadable answer: Evermuse may have the batch.

    The same bytes must be sent again with the same idempotency key. ``status`` is the HTTP status; None without an
    answer.
    """

    message: str
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Evermuse took no record: there was no connection, or a proxy or firewall answered.

    ``status`` is the HTTP status of the answer. It is None if nothing can have reached a server.
    """

    message: str
    status: int | None = None


Outcome: TypeAlias = (
    Accepted | Refused | TooLarge | KeyRefused | NoCredits | Throttled | InDoubt | Unavailable
)


def classify_transport_error(error: Unreachable | Unanswered) -> Outcome:
    """Return the outcome of a call without an answer: ``Unavailable`` or ``InDoubt``."""
    return Unavailable(str(error)) if isinstance(error, Unreachable) else InDoubt(str(error))


def classify_send(answer: Answer, sent: int) -> Outcome:
    """Return the outcome of the answer to a POST of ``sent`` records."""
    if 200 <= answer.status < 300:
        return _classify_success(answer, sent)
    return _classify_failure(answer)


def classify_read(answer: Answer) -> Outcome | None:
    """Return the outcome of the answer to a GET, or None if the GET succeeded (200)."""
    return None if answer.status == 200 else _classify_failure(answer)


def read_retry_after(answer: Answer) -> float | None:
    """Return the seconds in the ``retryAfter`` of a 429 of Evermuse, or None for any other answer."""
    envelope = read_error_envelope(answer)
    return _retry_after(envelope) if answer.status == 429 and envelope is not None else None


def read_error_envelope(answer: Answer) -> Mapping[str, Any] | None:
    """Return the fields of the JSON error envelope, or None if the body is none: a proxy or firewall answered.

    Source: OpenAPI document, ``ErrorResponse``. It requires the texts ``error`` and ``message``.
    """
    fields = parse_object(answer.body) or {}
    return fields if all(isinstance(fields.get(name), str) for name in ("error", "message")) else None


def _classify_success(answer: Answer, sent: int) -> Outcome:
    fields = parse_object(answer.body)
    if fields is None:
        return InDoubt(f"HTTP {answer.status} with an unreadable body", answer.status)
    counts: list[Any] = [fields.get(name) for name in ("acceptedCount", "rejectedCount", "totalErrorCount")]
    remote_id: Any = fields.get("batchId")
    if not is_batch_id(remote_id) or not all(map(is_count, counts)):
        return InDoubt(f"HTTP {answer.status} without a usable batchId and counts", answer.status)
    accepted, rejected, total = counts
    if accepted + rejected != sent:
        message = f"HTTP {answer.status} about {accepted + rejected} records, and {sent} were sent"
        return InDoubt(message, answer.status)
    return Accepted(remote_id, accepted, rejected, total, parse_record_errors(fields, sent))


def _classify_failure(answer: Answer) -> Outcome:
    envelope, status = read_error_envelope(answer), answer.status
    if status == 413:
        # A proxy may answer, too. Its limit holds as well: only a smaller request gets through.
        return TooLarge(_message(answer))
    if status in (400, 422):
        return _classify_bad_request(answer)
    if status >= 500:
        return InDoubt(_message(answer), status)
    if envelope is not None:
        match status:
            case 401 | 403:
                return KeyRefused(status, _message(answer))
            case 402:
                return NoCredits(_message(answer))
            case 429:
                return Throttled(_retry_after(envelope), _message(answer))
    return Unavailable(_message(answer), status)


def _classify_bad_request(answer: Answer) -> Outcome:
    """Return the outcome of a 400, or of a 422: frameworks use it for the same purpose.

    The contract is not consistent about the body of a 400, so any JSON object counts as an answer of Evermuse.
    """
    fields = parse_object(answer.body)
    if fields is None:
        return Unavailable(_message(answer), answer.status)
    code = parse_text(fields.get("error"), limits.MAX_ERROR_CODE) or "REFUSED"
    return Refused(code, _message(answer), parse_record_errors(fields))


def _message(answer: Answer) -> str:
    fields = parse_object(answer.body)
    if fields is None:
        return f"HTTP {answer.status} without a JSON body: probably the answer of a proxy or firewall"
    text = parse_text(fields.get("message"), limits.MAX_ERROR_MESSAGE) or parse_text(
        fields.get("error"), limits.MAX_ERROR_CODE
    )
    return f"HTTP {answer.status}: {text}" if text else f"HTTP {answer.status} with no readable message"


def _retry_after(fields: Mapping[str, Any]) -> float:
    value = fields.get("retryAfter")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return DEFAULT_RETRY_AFTER
    # Compare before the conversion, because an integer, positive or negative, may be too large for a float.
    return float(min(value, MAX_RETRY_AFTER)) if value > 0 else DEFAULT_RETRY_AFTER

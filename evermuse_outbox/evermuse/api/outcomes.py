"""What an attempt came to: one closed type, decided here and turned into rows in one other place.

Pure: an :class:`~.client.Answer` goes in, an outcome comes out. Anything that is not exactly what the
contract describes becomes :class:`InDoubt`, never a success.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from .client import Answer
from .errors import Unanswered, Unreachable
from .limits import MAX_BATCH_ID, MAX_CURSOR, MAX_ERROR_CODE, MAX_ERROR_MESSAGE, MAX_LISTING

DEFAULT_RETRY_AFTER = 1.0
"""Seconds, where a 429 does not say: the window of the published limit."""

LONGEST_RETRY_AFTER = 1e9
"""Seconds. Larger numbers say the same: not in this life; what is obeyed is capped further on."""


@dataclass(frozen=True, slots=True)
class RecordError:
    """One complaint about the record at ``index`` (from 0) of the request."""

    index: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """202: Evermuse has the batch. ``errors`` are the first 20; several may belong to one record."""

    remote_id: str
    accepted: int
    rejected: int
    total_errors: int
    errors: tuple[RecordError, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """400: nothing was taken. ``errors`` may be cut, or empty where the answer does not say who."""

    code: str
    message: str
    errors: tuple[RecordError, ...]


@dataclass(frozen=True, slots=True)
class TooLarge:
    """413: nothing was taken, the body is too large."""

    message: str


@dataclass(frozen=True, slots=True)
class KeyRefused:
    """401 or 403: nothing was taken; the trouble is the key's."""

    status: int
    message: str


@dataclass(frozen=True, slots=True)
class Throttled:
    """429: nothing was taken; nobody may send for ``retry_after`` seconds."""

    retry_after: float
    message: str


@dataclass(frozen=True, slots=True)
class InDoubt:
    """Timeout, reset, 5xx, unreadable answer: Evermuse may have it or not. Same key, same bytes, again."""

    message: str


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Nothing was taken, and no record is at fault: nobody there, or not an Evermuse API there."""

    message: str


Outcome: TypeAlias = Accepted | Refused | TooLarge | KeyRefused | Throttled | InDoubt | Unavailable


def of_error(error: Unreachable | Unanswered) -> Outcome:
    """The outcome of a call that brought no answer."""
    return Unavailable(str(error)) if isinstance(error, Unreachable) else InDoubt(str(error))


def of_ingest(answer: Answer, sent: int) -> Outcome:
    """The outcome of a POST of ``sent`` records."""
    if 200 <= answer.status < 300:
        return _of_success(answer, sent)
    return _of_trouble(answer)


def of_read(answer: Answer) -> Outcome | None:
    """The outcome of a GET that did not bring what was asked for; None where it did."""
    return None if answer.status == 200 else _of_trouble(answer)


def _of_success(answer: Answer, sent: int) -> Outcome:
    told = _object(answer.body)
    if told is None:
        return InDoubt(f"HTTP {answer.status} with an unreadable body")
    counts: list[Any] = [told.get(name) for name in ("acceptedCount", "rejectedCount", "totalErrorCount")]
    remote_id: Any = told.get("batchId")
    if not _is_remote_id(remote_id) or not all(map(_is_count, counts)):
        return InDoubt(f"HTTP {answer.status} without a usable batchId and counts")
    accepted, rejected, total = counts
    if accepted + rejected != sent:
        return InDoubt(f"HTTP {answer.status} about {accepted + rejected} records, and {sent} were sent")
    return Accepted(remote_id, accepted, rejected, total, _record_errors(told, sent))


def _of_trouble(answer: Answer) -> Outcome:
    known = _object(answer.body)
    told = known or {}
    message = _message(answer, told)
    match answer.status:
        case 400 | 422 if known is None:
            # Evermuse refuses in JSON: this is somebody on the way, who knows nothing of the records.
            return Unavailable(message)
        case 400 | 422:
            # 422 is not in the contract; where it comes, it can only mean the same.
            return Refused(
                _text(told.get("error"), MAX_ERROR_CODE) or "REFUSED", message, _record_errors(told)
            )
        case 413:
            return TooLarge(message)
        case 401 | 403:
            return KeyRefused(answer.status, message)
        case 429:
            return Throttled(_retry_after(told), message)
        case status if status >= 500:
            return InDoubt(message)
        case _:
            return Unavailable(message)


def _message(answer: Answer, told: Mapping[str, Any]) -> str:
    said = _text(told.get("message"), MAX_ERROR_MESSAGE) or _text(told.get("error"), MAX_ERROR_CODE)
    return f"HTTP {answer.status}: {said}" if said else f"HTTP {answer.status} with no readable message"


def _retry_after(told: Mapping[str, Any]) -> float:
    value = told.get("retryAfter")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return DEFAULT_RETRY_AFTER
    # Compared before it is converted: an integer may be too large for a float, on either side.
    return float(min(value, LONGEST_RETRY_AFTER)) if value > 0 else DEFAULT_RETRY_AFTER


def _record_errors(told: Mapping[str, Any], sent: int | None = None) -> tuple[RecordError, ...]:
    """The per-record errors, wherever they stand: the contract names ``errors`` and has ``details``, which may hold
    anything."""
    for listed in _lists(told):
        errors = filter(None, map(_record_error, listed[:1_000]))
        if found := tuple(error for error in errors if sent is None or error.index < sent):
            return found
    return ()


def _lists(told: Mapping[str, Any]) -> Iterator[list[Any]]:
    details = told.get("details")
    within = details.values() if isinstance(details, Mapping) else ()
    return (value for value in (told.get("errors"), details, *within) if isinstance(value, list))


def _record_error(entry: Any) -> RecordError | None:
    if not isinstance(entry, Mapping) or not _is_count(entry.get("index")):
        return None
    return RecordError(
        entry["index"],
        _text(entry.get("code"), MAX_ERROR_CODE) or "REJECTED",
        _text(entry.get("message"), MAX_ERROR_MESSAGE) or "Evermuse gave no message.",
    )


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) else None


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _is_moment(value: Any) -> bool:
    """Milliseconds since the epoch that a clock can show."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**53


def _is_remote_id(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_BATCH_ID and _text(value, MAX_BATCH_ID) == value


def _text(value: Any, length: int) -> str:
    """A string as it may be stored: cut, and without what a database refuses."""
    if not isinstance(value, str):
        return ""
    return value[:length].replace("\0", "\ufffd").encode("utf-8", "replace").decode()


# --- reads ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Status:
    """What Evermuse says of one batch; ``created_at`` in milliseconds since the epoch."""

    remote_id: str
    status: str
    accepted: int
    rejected: int
    total_errors: int
    errors: tuple[RecordError, ...]
    created_at: float | None = None
    type: str = ""
    attachment_status: str = ""
    attachment_total: int | None = None
    attachment_complete: int | None = None
    attachment_failed: int | None = None

    @property
    def is_over(self) -> bool:
        """Whether Evermuse is done with the records; attachments may still be under way."""
        return self.status in ("COMPLETE", "FAILED")


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the listing; ``next_cursor`` is None at the end."""

    statuses: tuple[Status, ...]
    next_cursor: str | None

    def reaches(self, moment: float) -> bool:
        """Whether it tells of a batch made before ``moment`` (seconds since the epoch), as all later pages do."""
        return any(s.created_at is not None and s.created_at / 1000 < moment for s in self.statuses)


def read_status(answer: Answer) -> Status | None:
    """The status in the answer to a GET of one batch; None when it cannot be read."""
    return _status(_object(answer.body))


def read_page(answer: Answer) -> Page | None:
    """The page in the answer to a listing; None when it cannot be read."""
    told = _object(answer.body)
    if told is None or not isinstance(told.get("batches"), list):
        return None
    statuses = tuple(status for status in map(_status, told["batches"][:MAX_LISTING]) if status)
    cursor = told.get("nextCursor")
    return Page(statuses, cursor if isinstance(cursor, str) and 0 < len(cursor) <= MAX_CURSOR else None)


def _status(told: Any) -> Status | None:
    if not isinstance(told, Mapping):
        return None
    counts: list[Any] = [told.get(name) for name in ("acceptedCount", "rejectedCount", "totalErrorCount")]
    remote_id: Any = told.get("batchId")
    status = _text(told.get("status"), 32)
    if not _is_remote_id(remote_id) or not status or not all(map(_is_count, counts)):
        return None
    created = told.get("createdAt")
    accepted, rejected, total_errors = counts
    return Status(
        remote_id,
        status,
        accepted,
        rejected,
        total_errors,
        errors=_record_errors(told),
        created_at=created if _is_moment(created) else None,
        type=_text(told.get("type"), 32),
        attachment_status=_text(told.get("attachmentDownloadStatus"), 32),
        attachment_total=_count_or_none(told.get("attachmentDownloadTotal")),
        attachment_complete=_count_or_none(told.get("attachmentDownloadComplete")),
        attachment_failed=_count_or_none(told.get("attachmentDownloadFailed")),
    )


def _count_or_none(value: Any) -> int | None:
    return value if _is_count(value) else None

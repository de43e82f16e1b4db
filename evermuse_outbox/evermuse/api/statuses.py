"""Readers for the answers to GET requests: the status of a batch, and a page of the listing. Pure.

Every value is checked, because a proxy may have written the answer. Source: OpenAPI document, getBatch and listBatches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .. import limits
from .answers import (
    Answer,
    RecordError,
    is_batch_id,
    is_count,
    is_token,
    parse_object,
    parse_record_errors,
    parse_text,
)

MAX_STATUS = 32
"""Characters of a status or type that are kept. The longest published value, ``call_transcription``, has 18."""


@dataclass(frozen=True, slots=True)
class Status:
    """The status of one batch at Evermuse; ``created_at`` is in milliseconds since the epoch.

    The attachment fields are empty or None if the batch has no attachments to download.
    """

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
        """Whether Evermuse has finished the records. Attachments may still be in progress."""
        return self.status in ("COMPLETE", "FAILED")


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the listing, newest batch first; ``next_cursor`` is None on the last page."""

    statuses: tuple[Status, ...]
    next_cursor: str | None

    def reaches(self, time: float) -> bool:
        """Return whether the page has a batch that was created before ``time`` (seconds since the epoch).

        All later pages then contain only older batches.
        """
        return any(s.created_at is not None and s.created_at / 1000 < time for s in self.statuses)


def read_status(answer: Answer) -> Status | None:
    """Return the status in the answer to a GET of one batch, or None if it is unreadable."""
    return _parse_status(parse_object(answer.body))


def read_page(answer: Answer) -> Page | None:
    """Return the page in the answer to a GET of the listing, or None if it is unreadable.

    An unreadable batch is left out of the page.
    """
    fields = parse_object(answer.body)
    if fields is None or not isinstance(fields.get("batches"), list):
        return None
    statuses = tuple(
        status for status in map(_parse_status, fields["batches"][: limits.MAX_LISTING]) if status
    )
    cursor = fields.get("nextCursor")
    return Page(statuses, cursor if is_token(cursor, limits.MAX_CURSOR) else None)


def _parse_status(fields: Any) -> Status | None:
    if not isinstance(fields, Mapping):
        return None
    counts: list[Any] = [fields.get(name) for name in ("acceptedCount", "rejectedCount", "totalErrorCount")]
    remote_id: Any = fields.get("batchId")
    status = parse_text(fields.get("status"), MAX_STATUS)
    if not is_batch_id(remote_id) or not status or not all(map(is_count, counts)):
        return None
    created_at = fields.get("createdAt")
    accepted, rejected, total_errors = counts
    return Status(
        remote_id,
        status,
        accepted,
        rejected,
        total_errors,
        errors=parse_record_errors(fields),
        created_at=created_at if _is_timestamp(created_at) else None,
        type=parse_text(fields.get("type"), MAX_STATUS),
        attachment_status=parse_text(fields.get("attachmentDownloadStatus"), MAX_STATUS),
        attachment_total=_count_or_none(fields.get("attachmentDownloadTotal")),
        attachment_complete=_count_or_none(fields.get("attachmentDownloadComplete")),
        attachment_failed=_count_or_none(fields.get("attachmentDownloadFailed")),
    )


def _is_timestamp(value: Any) -> bool:
    """Return whether ``value`` is a number of milliseconds since the epoch that a float can represent exactly."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**53


def _count_or_none(value: Any) -> int | None:
    return value if is_count(value) else None

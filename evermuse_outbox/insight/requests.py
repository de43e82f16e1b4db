"""The request of an attempt: as a command for curl, without the API key, and as the exact bytes of its body.

The bytes are not stored. They are joined again from the stored lines, and the hash of the batch proves that they are
the same.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from urllib.parse import quote

from ..conf import get_settings
from ..evermuse import FORMATS, fingerprint
from ..models import OutboxAttempt, OutboxBatch, OutboxRecord, by_id

API_KEY = "$EVERMUSE_API_KEY"
"""Environment variable in the place of the API key."""

API_URL = "$EVERMUSE_API_URL"
"""Environment variable in the place of the URL, if the settings do not have the workspace any more."""

MAX_PARTS = 1_000
"""Maximum number of later batches in which the records of a batch are looked for."""


def file_name(batch: OutboxBatch) -> str:
    """Return the name of the file with the body of a batch."""
    return f"batch-{batch.pk}.{'ndjson' if batch.body_format == 'ndjson' else 'json'}"


def as_curl(attempt: OutboxAttempt, batch: OutboxBatch) -> str:
    """Return a command that repeats the request of an attempt."""
    workspace = get_settings().workspaces.get(batch.workspace)
    root = f"{workspace.api_url if workspace else API_URL}/api/v1/ingest"
    parts = [f'--header "x-api-key: {API_KEY}"', "--header 'Accept: application/json'"]
    match attempt.call:
        case OutboxAttempt.Call.INGEST:
            hint = f"?format={quote(batch.format_hint)}" if batch.format_hint else ""
            url = f"{root}{hint}"
            parts += [
                f"--header {shlex.quote('Content-Type: ' + FORMATS[batch.body_format].content_type)}",
                f"--header {shlex.quote('Idempotency-Key: ' + batch.key)}",
                f"--data-binary @{file_name(batch)}",
            ]
        case OutboxAttempt.Call.STATUS:
            url = f"{root}/batches/{quote(batch.remote_id, safe='')}"
        case _:
            url = f"{root}/batches?limit=100"
    return " \\\n  ".join([f"curl {_quoted_url(url)}", *parts])


def _quoted_url(url: str) -> str:
    # The shell must replace a variable in the URL, but nothing else.
    return f'"{url}"' if url.startswith(API_URL) else shlex.quote(url)


def rebuild_body(batch: OutboxBatch) -> bytes | None:
    """Return the exact bytes that were sealed; None if the stored lines have changed or were deleted since."""
    for members in _possible_members(batch):
        rows = OutboxRecord.rows.using(batch._state.db).filter(by_id(members))
        body = FORMATS[batch.body_format].join(rows.order_by("pk").values_list("payload", flat=True))
        if fingerprint(body) == batch.sha256:
            return body
    return None


def _possible_members(batch: OutboxBatch) -> Iterator[list[int]]:
    """Yield the sets of records that can be the members of a batch, each with the right number and size.

    After an isolation or a split, some are in later batches. Records of its parent were rejected before it was sealed.
    """
    records = OutboxRecord.rows.using(batch._state.db)
    present = records.filter(batch=batch)
    candidates = [present, present.filter(closed_as__isnull=True)]
    if parts := _later_batches(batch):
        candidates.append(records.filter(batch__in=[batch.pk, *parts]))
    body_format = FORMATS[batch.body_format]
    for rows in candidates:
        members = list(rows.order_by("pk").values_list("pk", "size")[: batch.record_count + 1])
        sizes = [size for _, size in members]
        if len(members) == batch.record_count and body_format.size(sizes) == batch.byte_count:
            yield [pk for pk, _ in members]


def _later_batches(batch: OutboxBatch) -> list[int]:
    """Return the batches to which records of a batch were moved, and those to which these were moved."""
    batches = OutboxBatch.objects.using(batch._state.db)
    later: list[int] = []
    level = [batch.pk]
    while level and len(later) < MAX_PARTS:
        level = list(batches.filter(parent__in=level).values_list("pk", flat=True)[:MAX_PARTS])
        later += level
    return later

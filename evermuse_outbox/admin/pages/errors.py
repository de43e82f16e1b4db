"""Errors: those that Evermuse listed for a batch, and the last one of each rejected record of a list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models.functions import Substr
from django.utils.safestring import SafeString

from ...models import OutboxBatch, OutboxRecord, OutboxRejection, RecordState
from .. import html

MESSAGE_LENGTH = 160
"""Characters of a message that a list shows."""


@dataclass(frozen=True, slots=True)
class BatchError:
    """One listed error. ``index`` is the position of its record in the batch, ``record`` a link to the record."""

    index: Any
    code: str
    message: str
    record: SafeString | str


def batch_errors(batch: OutboxBatch, site: str) -> list[BatchError]:
    """Return the errors that Evermuse listed for ``batch``, with links into the admin ``site``."""
    errors = [error for error in batch.errors or [] if isinstance(error, dict)]
    ids = record_ids(batch) if errors else {}
    return [_batch_error(error, ids.get(error.get("index")), site) for error in errors]


def members_of(batch: OutboxBatch) -> Any:
    """Return the records in ``batch`` in the order in which they were sent."""
    return OutboxRecord.rows.using(batch._state.db).filter(batch=batch).order_by("pk")


def record_ids(batch: OutboxBatch) -> dict[Any, int]:
    """Return a dict from the position of a record in the request to its id.

    A rejection stores the position of its record. The other positions follow from the order of ids, but only while no
    record has left the batch.
    """
    rejected = batch.rejections.filter(position__isnull=False).values_list("position", "record_id")
    members = list(members_of(batch).values_list("pk", flat=True))
    in_order = dict(enumerate(members)) if len(members) == batch.record_count else {}
    return in_order | dict(rejected)


def _batch_error(error: dict[str, Any], pk: int | None, site: str) -> BatchError:
    record = html.link_to(OutboxRecord, pk, f"#{pk}", site) if pk else html.EMPTY
    return BatchError(error.get("index"), error.get("code", ""), error.get("message", ""), record)


def add_last_errors(records: Sequence[OutboxRecord]) -> None:
    """Set ``last_rejection`` and ``rejection_count`` of the rejected ones of the records, with one query."""
    rejected = {record.pk: record for record in records if record.closed_as == RecordState.REJECTED}
    if not rejected:
        return
    rejections = OutboxRejection.objects.using(records[0]._state.db).filter(record__in=[*rejected])
    rows = rejections.defer("message").annotate(head=Substr("message", 1, MESSAGE_LENGTH)).order_by("pk")
    for rejection in rows:
        record = rejected[rejection.record_id].__dict__
        record["last_rejection"] = rejection
        record["rejection_count"] = record.get("rejection_count", 0) + 1

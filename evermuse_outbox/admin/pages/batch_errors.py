"""The errors that Evermuse listed for a batch, each with a link to its record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils.safestring import SafeString

from ...models import OutboxBatch, OutboxRecord
from .. import html


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

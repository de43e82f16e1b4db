"""The errors that Evermuse listed for a batch, each with the record that it is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils.safestring import SafeString

from ...models import OutboxBatch, OutboxRecord
from .. import html


@dataclass(frozen=True, slots=True)
class Complaint:
    """What Evermuse said of the record at ``index``; ``record`` is its link where it is known."""

    index: Any
    code: str
    message: str
    record: SafeString | str


def complaints_about(batch: OutboxBatch, site: str) -> list[Complaint]:
    """The listed errors of ``batch``; links lead into the admin ``site``."""
    errors = [error for error in batch.errors or [] if isinstance(error, dict)]
    records = positions(batch) if errors else {}
    return [_complaint(error, records.get(error.get("index")), site) for error in errors]


def members_of(batch: OutboxBatch) -> Any:
    """The records in ``batch``, in the order in which they were sent."""
    return OutboxRecord.rows.using(batch._state.db).filter(batch=batch).order_by("pk")


def positions(batch: OutboxBatch) -> dict[Any, int]:
    """Position → id of the record. Rejections know it; the order of ids does while no member has left."""
    told = batch.rejections.filter(position__isnull=False).values_list("position", "record_id")
    members = list(members_of(batch).values_list("pk", flat=True))
    in_order = dict(enumerate(members)) if len(members) == batch.record_count else {}
    return in_order | dict(told)


def _complaint(error: dict[str, Any], pk: int | None, site: str) -> Complaint:
    record = html.link_to(OutboxRecord, pk, f"#{pk}", site) if pk else html.NOTHING
    return Complaint(error.get("index"), error.get("code", ""), error.get("message", ""), record)

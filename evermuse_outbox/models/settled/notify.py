"""Send the signals of settled batches and records, after the commit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ...signals import batch_settled, call_after_commit, records_settled, send_after_commit
from .rejection_log import warn_of_rejections

if TYPE_CHECKING:
    from django.db.models import Model, QuerySet

Event = dict[str, Any]

DELIVERED, REJECTED = "delivered", "rejected"
"""Outcomes of records."""

NOT_SETTLED = ("sealed", "in_doubt")
"""States to which a batch returns after an attempt without a result. It will be sent again."""

BATCH_COLUMNS = ("workspace", "type", "product_id", "record_count")


def notify_batch(using: str, batch: Any, outcome: str) -> None:
    """Send ``batch_settled`` for a batch that this transaction has changed, if ``outcome`` ends sending or polling."""
    if outcome in NOT_SETTLED:
        return

    def events() -> Iterator[Event]:
        return _batch_events(type(batch)._base_manager.using(using).filter(pk=batch.pk), outcome)

    send_after_commit(batch_settled, type(batch), using, events)


def notify_completed(
    rows: QuerySet[Any], ids: Collection[int], count: int, finished_at: datetime | None, outcome: str
) -> None:
    """Send ``batch_settled`` and ``records_settled`` for batches that this transaction has completed.

    Args:
        rows: the batches of the database.
        ids: the batches that should be completed.
        count: how many of them were completed. If it is not all, another process has completed the others.
        finished_at: the end of the batches, which tells those that this process has completed.
        outcome: the state of the batches now.
    """
    if not count:
        return
    completed = rows.filter(pk__in=ids)
    if count < len(ids):
        completed = completed.filter(state=outcome, finished_at=finished_at)
    batch = rows.model
    record = batch._meta.get_field("records").related_model

    def batches() -> Iterator[Event]:
        return _batch_events(completed, outcome)

    def records() -> Iterator[Event]:
        for batch_id, workspace in completed.order_by("pk").values_list("pk", "workspace"):
            members = record._base_manager.using(rows.db).filter(batch=batch_id, closed_as__isnull=True)
            yield _records_event(
                workspace, batch_id, DELIVERED, members.order_by("pk").values_list("pk", flat=True)
            )

    send_after_commit(batch_settled, batch, rows.db, batches)
    send_after_commit(records_settled, record, rows.db, records)


def notify_rejected(
    using: str, record: type[Model], rejections: Sequence[Any], workspaces: Mapping[int, str]
) -> None:
    """Send ``records_settled`` for records that this transaction has rejected, and log a warning.

    Args:
        using: database alias.
        record: the model of records.
        rejections: the rejections that were stored.
        workspaces: the workspace of each record.
    """
    by_batch: dict[tuple[str, int | None], list[Any]] = defaultdict(list)
    for rejection in rejections:
        by_batch[workspaces[rejection.record_id], rejection.batch_id].append(rejection)

    def events() -> Iterator[Event]:
        for (workspace, batch_id), group in by_batch.items():
            yield _records_event(workspace, batch_id, REJECTED, sorted(row.record_id for row in group))

    def warn() -> None:
        for (workspace, batch_id), group in by_batch.items():
            warn_of_rejections(using, workspace, batch_id, group)

    send_after_commit(records_settled, record, using, events)
    call_after_commit(warn, using)


def _batch_events(batches: QuerySet[Any], outcome: str) -> Iterator[Event]:
    for batch_id, *values in batches.order_by("pk").values_list("pk", *BATCH_COLUMNS):
        columns = dict(zip(BATCH_COLUMNS, values, strict=True))
        yield {"batch_id": batch_id, "outcome": str(outcome), **columns}


def _records_event(workspace: str, batch_id: int | None, outcome: str, record_ids: Iterable[int]) -> Event:
    return {
        "workspace": workspace,
        "batch_id": batch_id,
        "outcome": outcome,
        "record_ids": tuple(record_ids),
    }

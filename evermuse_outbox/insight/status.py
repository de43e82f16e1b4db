"""The outbox in figures: how many records and batches are where, and what holds a workspace back."""

from __future__ import annotations

from typing import Any

from django.db.models import Count, Min
from django.utils import timezone

from ..conf import get_settings
from ..models import (
    BatchState,
    GroupState,
    OutboxBatch,
    OutboxGroup,
    OutboxRecord,
    OutboxWorkspace,
    RecordState,
    WorkspaceState,
)
from ..upkeep.postgresql import tables


def status(using: str) -> dict[str, Any]:
    """Counts of ``using`` by state, the age of the oldest unsent record in seconds, the workspaces, the
    groups that are paused, and on PostgreSQL what the tables hold of dead rows."""
    return {
        "records": record_counts(using),
        "batches": batch_counts(using),
        "oldest_unsent_seconds": oldest_unsent(using),
        "workspaces": workspaces(using),
        "paused_groups": paused_groups(using),
        "tables": tables(using),
    }


def record_counts(using: str) -> dict[str, int]:
    """How many records are in each state. Exact, by way of the table: for a person, not for a hot path."""
    rows = OutboxRecord.rows.using(using)
    closed = dict(_counts(rows.filter(closed_as__isnull=False), "closed_as"))
    taken = dict(_counts(rows.filter(closed_as__isnull=True, batch__isnull=False), "batch__state"))
    return {
        RecordState.PENDING.value: rows.pending().count(),
        RecordState.DELIVERED.value: taken.pop(BatchState.COMPLETE, 0),
        RecordState.IN_FLIGHT.value: sum(taken.values()),
        RecordState.REJECTED.value: closed.get(RecordState.REJECTED, 0),
        RecordState.SUPERSEDED.value: closed.get(RecordState.SUPERSEDED, 0),
        RecordState.DISCARDED.value: closed.get(RecordState.DISCARDED, 0),
    }


def batch_counts(using: str) -> dict[str, int]:
    """How many batches are in each state; every state is named."""
    counts = dict(_counts(OutboxBatch.objects.using(using), "state"))
    return {state.value: counts.get(state.value, 0) for state in BatchState}


def oldest_unsent(using: str) -> float | None:
    """Age in seconds of the oldest record that Evermuse has not accepted; None where there is none."""
    rows = OutboxRecord.rows.using(using)
    unsent = OutboxBatch.objects.using(using).open().exclude(state=BatchState.ACCEPTED)
    oldest = [
        rows.pending().aggregate(at=Min("enqueued_at"))["at"],
        rows.filter(closed_as__isnull=True, batch_id__in=unsent.values("pk")).aggregate(
            at=Min("enqueued_at")
        )["at"],
    ]
    found = [at for at in oldest if at]
    return max((timezone.now() - min(found)).total_seconds(), 0.0) if found else None


def workspaces(using: str) -> dict[str, dict[str, Any]]:
    """Each workspace of the settings: its state, and until when and why it is held."""
    rows = OutboxWorkspace.objects.using(using).in_bulk(list(get_settings().workspaces))
    return {name: _workspace(rows.get(name)) for name in get_settings().workspaces}


def paused_groups(using: str) -> list[dict[str, Any]]:
    """The groups in which everything is refused alike: since when, why, and how to go on."""
    rows = OutboxGroup.objects.using(using).filter(state=GroupState.PAUSED).order_by("since", "pk")
    contracts = {name: workspace.contract for name, workspace in get_settings().workspaces.items()}
    return [
        {
            "workspace": row.workspace,
            "type": row.type,
            "product_id": row.product_id,
            "since": row.since.isoformat(),
            "blocked_until": row.blocked_until.isoformat() if row.blocked_until else None,
            "reason": row.reason,
            "advice": row.advice,
        }
        for row in rows
        if row.contract == contracts.get(row.workspace)  # another one ends the pause
    ]


def unfinished(using: str) -> dict[str, int]:
    """What is left to send and to follow, in records and batches; all zero when the outbox is drained."""
    batches = OutboxBatch.objects.using(using)
    accepted = batches.filter(state=BatchState.ACCEPTED)
    unsent = batches.open().exclude(state__in=(BatchState.ACCEPTED, BatchState.ISOLATING))
    # Records leave a batch that is divided for its parts: those that are left are counted one by one.
    left = OutboxRecord.rows.using(using).filter(closed_as__isnull=True, batch__state=BatchState.ISOLATING)
    return {
        "pending": OutboxRecord.rows.using(using).pending().count(),
        "unsent": sum(unsent.values_list("record_count", flat=True)) + left.count(),
        "accepted": sum(accepted.values_list("record_count", flat=True)),
        "followed": batches.filter(next_poll_at__isnull=False).count(),
    }


def _workspace(row: OutboxWorkspace | None) -> dict[str, Any]:
    if row is None or row.state == WorkspaceState.ACTIVE:
        return {"state": WorkspaceState.ACTIVE.value}
    until = row.blocked_until.isoformat() if row.blocked_until else None
    return {"state": row.state, "blocked_until": until, "reason": row.reason}


def _counts(rows: Any, by: str) -> Any:
    return rows.order_by().values_list(by).annotate(n=Count("pk"))

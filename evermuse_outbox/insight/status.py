"""The outbox in figures: how many records and batches are in each state, and which workspaces do not send."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import Count, Min, Q

from ..conf import get_settings
from ..database_clock import database_now
from ..models import (
    BatchState,
    GroupState,
    KeyPool,
    OutboxBatch,
    OutboxGroup,
    OutboxRecord,
    OutboxWorkspace,
    RecordState,
    WorkspaceState,
)
from ..monitoring import measure_drift, missing_workspaces
from ..upkeep import read_table_statistics
from .explaining import explain_batch, explain_blocked_keys
from .overview import collect_overview

MAX_LISTED = 10
"""Maximum number of waiting batches that are listed."""


def collect_status(using: str) -> dict[str, Any]:
    """Return all figures of a database; :mod:`json` can serialize them.

    ``clocks`` has the seconds by which the clocks of this process and of Redis are ahead of the database's.
    ``tables`` has the sizes and dead rows of the tables on PostgreSQL; it is empty on other databases. ``overview`` has
    the figures of the overview page in the admin.
    """
    return {
        "records": count_records(using),
        "batches": count_batches(using),
        "oldest_unsent_seconds": oldest_unsent_seconds(using),
        "workspaces": workspace_states(using),
        "missing_workspaces": missing_workspaces(using),
        "waiting_batches": waiting_batches(using),
        "paused_groups": paused_groups(using),
        "clocks": measure_drift(using),
        "tables": read_table_statistics(using),
        "overview": collect_overview(using).to_json(),
    }


def count_records(using: str) -> dict[str, int]:
    """Return the exact number of records in each state. This reads all records, so it is slow on a large table."""
    rows = OutboxRecord.rows.using(using)
    closed = dict(_counts(rows.filter(closed_as__isnull=False), "closed_as"))
    in_batches = dict(_counts(rows.filter(closed_as__isnull=True, batch__isnull=False), "batch__state"))
    return {
        RecordState.PENDING.value: rows.pending().count(),
        RecordState.DELIVERED.value: in_batches.pop(BatchState.COMPLETE, 0),
        RecordState.IN_FLIGHT.value: sum(in_batches.values()),
        RecordState.REJECTED.value: closed.get(RecordState.REJECTED, 0),
        RecordState.SUPERSEDED.value: closed.get(RecordState.SUPERSEDED, 0),
        RecordState.DISCARDED.value: closed.get(RecordState.DISCARDED, 0),
        RecordState.SCHEDULED.value: closed.get(RecordState.SCHEDULED, 0),
        RecordState.HELD.value: closed.get(RecordState.HELD, 0),
        RecordState.EXPIRED.value: closed.get(RecordState.EXPIRED, 0),
    }


def count_batches(using: str) -> dict[str, int]:
    """Return the number of batches in each state, with 0 for states without a batch."""
    counts = dict(_counts(OutboxBatch.objects.using(using), "state"))
    return {state.value: counts.get(state.value, 0) for state in BatchState}


def oldest_unsent_seconds(using: str) -> float | None:
    """Return the age in seconds of the oldest open record that Evermuse has not accepted; None if there is none."""
    rows = OutboxRecord.rows.using(using)
    unsent = OutboxBatch.objects.using(using).open().exclude(state=BatchState.ACCEPTED)
    oldest = [
        rows.pending().aggregate(at=Min("enqueued_at"))["at"],
        rows.filter(closed_as__isnull=True, batch_id__in=unsent.values("pk")).aggregate(
            at=Min("enqueued_at")
        )["at"],
    ]
    times = [at for at in oldest if at]
    return max((database_now(using) - min(times)).total_seconds(), 0.0) if times else None


def workspace_states(using: str) -> dict[str, dict[str, Any]]:
    """Return the state of each workspace in the settings; if it is not active, also until when and why."""
    rows = OutboxWorkspace.objects.using(using).in_bulk(list(get_settings().workspaces))
    return {name: _workspace(rows.get(name)) for name in get_settings().workspaces}


def waiting_batches(using: str) -> list[dict[str, Any]]:
    """Return up to ``MAX_LISTED`` batches that failed before or wait for long, the longest waiting first.

    Each has its number, its state, why it waits and what ends it. Accepted batches are listed after a day.
    """
    now = database_now(using)
    open_batches = OutboxBatch.objects.using(using).open()
    is_unsent = Q(state__in=(BatchState.SEALED, BatchState.IN_DOUBT), failures__gt=0)
    is_old = Q(state__in=(BatchState.ACCEPTED, BatchState.ISOLATING), sealed_at__lt=now - timedelta(days=1))
    rows = open_batches.filter(is_unsent | Q(state=BatchState.IN_DOUBT) | is_old).order_by("sealed_at", "pk")
    return [
        {"id": row.pk, "state": row.state, "records": row.record_count, "explanation": explain_batch(row)}
        for row in rows[:MAX_LISTED]
    ]


def paused_groups(using: str) -> list[dict[str, Any]]:
    """Return the groups that are paused or held: since when, until when, why, and what an operator can do."""
    rows = (
        OutboxGroup.objects.using(using)
        .filter(state__in=(GroupState.PAUSED, GroupState.HELD))
        .order_by("since", "pk")
    )
    contracts = {name: workspace.contract for name, workspace in get_settings().workspaces.items()}
    return [
        {
            "workspace": row.workspace,
            "type": row.type,
            "product_id": row.product_id,
            "state": row.state,
            "since": row.since.isoformat(),
            "blocked_until": row.blocked_until.isoformat() if row.blocked_until else None,
            "reason": row.reason,
            "advice": row.advice,
        }
        for row in rows
        if row.state == GroupState.HELD
        or row.contract == contracts.get(row.workspace)  # the pause ends if the contract changes
    ]


def count_unfinished(using: str) -> dict[str, int]:
    """Return what is left to send and to poll; all numbers are 0 if the outbox is drained.

    ``pending``, ``unsent`` (in a sealed batch) and ``accepted`` are numbers of records, ``to_poll`` of batches.
    """
    batches = OutboxBatch.objects.using(using)
    accepted = batches.filter(state=BatchState.ACCEPTED)
    unsent = batches.open().exclude(state__in=(BatchState.ACCEPTED, BatchState.ISOLATING))
    # While a batch is isolated, its records move to smaller batches, so its record_count is too high.
    left = OutboxRecord.rows.using(using).filter(closed_as__isnull=True, batch__state=BatchState.ISOLATING)
    return {
        "pending": OutboxRecord.rows.using(using).pending().count(),
        "unsent": sum(unsent.values_list("record_count", flat=True)) + left.count(),
        "accepted": sum(accepted.values_list("record_count", flat=True)),
        "to_poll": batches.filter(next_poll_at__isnull=False).count(),
    }


def _workspace(row: OutboxWorkspace | None) -> dict[str, Any]:
    keys = {"blocked_keys": list(explain_blocked_keys(row))} if row and KeyPool.of(row).blocks else {}
    if row is None or row.state == WorkspaceState.ACTIVE:
        return {"state": WorkspaceState.ACTIVE.value, **keys}
    until = row.blocked_until.isoformat() if row.blocked_until else None
    return {"state": row.state, "blocked_until": until, "reason": row.reason, **keys}


def _counts(rows: Any, by: str) -> Any:
    return rows.order_by().values_list(by).annotate(n=Count("pk"))

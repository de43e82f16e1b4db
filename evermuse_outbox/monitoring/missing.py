"""Workspaces that have records or batches which wait, but that the settings do not have any more."""

from __future__ import annotations

from ..conf import get_settings
from ..delivery.scanning import find_waiting_work
from ..models import BatchState, OutboxBatch, OutboxRecord

MAX_COUNTED_OF_MISSING = 100_000
"""Maximum number of records of a missing workspace that are counted."""

NOT_WAITING = (BatchState.SENDING, BatchState.ISOLATING)
"""States of open batches that wait neither to be sent nor to be polled. There are few of them."""


def missing_workspaces(using: str) -> dict[str, dict[str, int]]:
    """Return the workspaces that have unsent rows but are not in the settings: pending records and open batches.

    Numbers of records above 100,000 are not counted further. A workspace whose settings cannot be read is not missing.
    The cost does not grow with the workspaces that were removed after all of their records had been delivered.

    Args:
        using: Database alias.
    """
    settings = get_settings()
    if not settings.has_read_workspaces:
        return {}
    batches = OutboxBatch.objects.using(using)
    names = set[str]().union(*find_waiting_work(using))
    names.update(batches.filter(state__in=NOT_WAITING).values_list("workspace", flat=True))
    missing = {}
    for name in sorted(names - {*settings.workspaces, *settings.workspace_problems}):
        pending = (
            OutboxRecord.rows.using(using).pending().filter(workspace=name)[:MAX_COUNTED_OF_MISSING].count()
        )
        unfinished = batches.open().filter(workspace=name).count()
        if pending or unfinished:
            missing[name] = {"pending": pending, "open_batches": unfinished}
    return missing

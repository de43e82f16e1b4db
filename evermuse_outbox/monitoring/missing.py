"""Workspaces that have records or batches which wait, but that the settings do not have any more."""

from __future__ import annotations

from ..conf import get_settings
from ..models import OutboxBatch, OutboxRecord, OutboxWorkspace

MAX_COUNTED_OF_MISSING = 100_000
"""Maximum number of records of a missing workspace that are counted."""


def missing_workspaces(using: str, *, is_scanned: bool = True) -> dict[str, dict[str, int]]:
    """Return the workspaces that have unsent rows but are not in the settings: pending records and open batches.

    Numbers of records above 100,000 are not counted further. A workspace whose settings cannot be read is not missing.

    Args:
        using: Database alias.
        is_scanned: Whether to find workspaces, too, that no worker has ever seen. This costs a look-up for each
            workspace with pending records.
    """
    settings = get_settings()
    if not settings.has_read_workspaces:
        return {}
    known = {*settings.workspaces, *settings.workspace_problems}
    names = {*OutboxWorkspace.objects.using(using).values_list("pk", flat=True)}
    names |= set(_names_of_pending(using)) if is_scanned else set()
    missing = {}
    for name in sorted(names - known):
        pending = (
            OutboxRecord.rows.using(using).pending().filter(workspace=name)[:MAX_COUNTED_OF_MISSING].count()
        )
        batches = OutboxBatch.objects.using(using).open().filter(workspace=name).count()
        if pending or batches:
            missing[name] = {"pending": pending, "open_batches": batches}
    return missing


def _names_of_pending(using: str) -> list[str]:
    """Return the workspaces that have pending records, each by one look-up in the index."""
    names: list[str] = []
    rows = OutboxRecord.rows.using(using).pending().order_by("workspace")
    while (
        name := rows.filter(workspace__gt=names[-1] if names else "")
        .values_list("workspace", flat=True)
        .first()
    ):
        names.append(name)
    return names

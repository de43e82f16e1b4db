"""The oldest pending record of each group, found by one step through an index for each group."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from ..delivery.scanning import read_oldest_of_groups

MAX_GROUPS = 1_000
"""Groups of a workspace that are read at most."""


class OldestOfGroup(NamedTuple):
    """A group of a workspace, and when its oldest pending record was enqueued."""

    type: str
    product_id: str
    enqueued_at: datetime


def oldest_of_groups(using: str, workspace: str, limit: int = MAX_GROUPS) -> list[OldestOfGroup]:
    """Return the groups with pending records, the longest waiting first. At most ``limit`` groups are read."""
    rows = [
        OldestOfGroup(*row.group, row.at.enqueued_at)
        for row in read_oldest_of_groups(using, workspace, limit)
    ]
    return sorted(rows, key=lambda row: row.enqueued_at)

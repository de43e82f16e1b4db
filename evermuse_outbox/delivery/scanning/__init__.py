"""Scanning finds the groups with pending records, how long they wait, and which of them fill a request.

This package must not decide which group is next; it changes nothing but the memory of the run queue.
Its public interface is ``scan_groups``. Pages that show the backlog use the three other functions. All its SQL is
raw, in one module for each database.
"""

from .group_scan import (
    OldestRecord,
    count_pending_of_groups,
    read_enqueued_at,
    read_oldest_of_groups,
    scan_groups,
)

__all__ = [
    "OldestRecord",
    "count_pending_of_groups",
    "read_enqueued_at",
    "read_oldest_of_groups",
    "scan_groups",
]

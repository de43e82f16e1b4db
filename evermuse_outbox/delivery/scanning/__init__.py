"""Scanning finds the workspaces that have work, and in one of them the groups with pending records.

This package must not decide which group is next; it changes nothing but the memory of the run queue.
Its public interface is ``find_work`` with its steps, and ``scan_groups``. Pages that show the backlog use the three
other functions. Its SQL of skip scans is raw, because the ORM has none.
"""

from .group_scan import (
    OldestRecord,
    PendingCount,
    count_pending_of_groups,
    read_enqueued_at,
    read_oldest_of_groups,
    scan_groups,
)
from .workspaces import DueWork, WaitingWork, find_due_work, find_waiting_work, find_work, is_any_pending

__all__ = [
    "DueWork",
    "OldestRecord",
    "PendingCount",
    "WaitingWork",
    "count_pending_of_groups",
    "find_due_work",
    "find_waiting_work",
    "find_work",
    "is_any_pending",
    "read_enqueued_at",
    "read_oldest_of_groups",
    "scan_groups",
]

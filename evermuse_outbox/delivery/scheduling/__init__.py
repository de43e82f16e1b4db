"""Scheduling chooses the groups that are sealed next: it scans the pending records and keeps the run queue.

This package must not lock or change records; it changes only the run queue on the workspace's row.
Its public interface is ``has_work`` and ``pending_records``, and the steps ``load_run_queue``, ``scan_for_groups``,
``choose_groups``, ``spare_groups`` and ``save_run_queue``.
"""

from .choose import choose_groups, load_run_queue, save_run_queue, scan_for_groups, spare_groups
from .pending import has_work, pending_records
from .run_queue import ResumePoint, RunQueue
from .scheduler import Entry, Group

__all__ = [
    "Entry",
    "Group",
    "ResumePoint",
    "RunQueue",
    "choose_groups",
    "has_work",
    "load_run_queue",
    "pending_records",
    "save_run_queue",
    "scan_for_groups",
    "spare_groups",
]

"""Scheduling chooses the groups that are sealed next, and keeps the run queue on the workspace's row.

This package must not lock or change records, and it does not look for groups itself: it is given a ``GroupScan``.
Its public interface is ``load_run_queue``, ``choose_groups``, ``spare_groups`` and ``save_run_queue``, the types that
they use, ``lingers_until`` with ``seconds_to_linger``, and ``has_work`` with ``pending_records``.
"""

from .choose import (
    choose_groups,
    lingers_until,
    load_run_queue,
    max_queue_length,
    save_run_queue,
    spare_groups,
)
from .pending import has_work, pending_records
from .run_queue import GroupScan, ResumePoint, RunQueue
from .scheduler import Entry, Group, WaitingGroup, groups_to_count, seconds_to_linger

__all__ = [
    "Entry",
    "Group",
    "GroupScan",
    "ResumePoint",
    "RunQueue",
    "WaitingGroup",
    "choose_groups",
    "groups_to_count",
    "has_work",
    "lingers_until",
    "load_run_queue",
    "max_queue_length",
    "pending_records",
    "save_run_queue",
    "seconds_to_linger",
    "spare_groups",
]

"""Upkeep runs once a second beside delivery: it takes over expired leases and deletes old rows, in bounded steps.

This package must not send or poll. Delivery works without it, but batches of workers that died would stay leased and
the tables would grow forever. Its public interface is :func:`maintain_all` with its parts :func:`rescue_batches`,
:func:`purge_old_rows` and :func:`forget_groups`, and the functions that read PostgreSQL's facts about the tables.
"""

from .future_times import correct_future_times, longest_wait
from .maintenance import ACTIONS_KEPT, forget_actions, forget_groups, maintain_all
from .operations import forget_operations
from .payloads import drop_old_payloads, drop_payloads_one_run
from .postgresql import (
    STORAGE,
    TableOptions,
    alter_table,
    analyze_unknown_tables,
    is_autovacuum_off,
    read_table_options,
    read_table_statistics,
)
from .purge import purge_old_rows, purge_one_run
from .purge_progress import PurgeProgress
from .rejections import CorrectionCursor, complete_signatures, correct_rejected
from .rescue import rescue_batches

__all__ = [
    "ACTIONS_KEPT",
    "STORAGE",
    "CorrectionCursor",
    "PurgeProgress",
    "TableOptions",
    "alter_table",
    "analyze_unknown_tables",
    "complete_signatures",
    "correct_future_times",
    "correct_rejected",
    "drop_old_payloads",
    "drop_payloads_one_run",
    "forget_actions",
    "forget_groups",
    "forget_operations",
    "is_autovacuum_off",
    "longest_wait",
    "maintain_all",
    "purge_old_rows",
    "purge_one_run",
    "read_table_options",
    "read_table_statistics",
    "rescue_batches",
]

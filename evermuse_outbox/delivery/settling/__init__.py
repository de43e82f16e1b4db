"""Settling writes answers of Evermuse into the rows: the answer to a POST, and the status that a read brings.

This package must make no HTTP request; it changes batches only while they are leased or in the state that was read.
Its public interface is ``settle``, ``settle_batch`` and ``split_changed_batch`` for a leased batch, and
``apply_status``, ``apply_statuses`` and ``fail_accepted_batch`` for an accepted one.
"""

from .apply_status import apply_status, apply_statuses, fail_accepted_batch
from .changed_members import split_changed_batch
from .settle import settle, settle_batch

__all__ = [
    "apply_status",
    "apply_statuses",
    "fail_accepted_batch",
    "settle",
    "settle_batch",
    "split_changed_batch",
]

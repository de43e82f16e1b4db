"""Settling writes answers of Evermuse into the rows: the answer to a POST, and the status that a read brings.

This package must make no HTTP request; it changes batches only while they are leased or in the state that was read.
Its public interface is ``settle``, ``settle_batch`` and ``give_up`` for a leased batch, and ``apply_status``,
``apply_statuses`` and ``fail_accepted_batch`` for an accepted one.
"""

from .apply_status import apply_status, apply_statuses, fail_accepted_batch
from .settle import give_up, settle, settle_batch

__all__ = [
    "apply_status",
    "apply_statuses",
    "fail_accepted_batch",
    "give_up",
    "settle",
    "settle_batch",
]

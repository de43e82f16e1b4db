"""Polling asks Evermuse about accepted batches until their status is final, within a budget of reads.

This package must not send batches, and it leaves it to ``settling`` to write what Evermuse reports of a batch.
Its public interface is ``poll_due_batch`` and ``has_due_poll`` for accepted batches, and ``needs_reconciliation``,
``reconcile`` and ``ReconciliationDelayed`` for batches in doubt.
"""

from .poll import has_due_poll, poll_due_batch
from .reconciliation import ReconciliationDelayed, needs_reconciliation, reconcile

__all__ = [
    "ReconciliationDelayed",
    "has_due_poll",
    "needs_reconciliation",
    "poll_due_batch",
    "reconcile",
]

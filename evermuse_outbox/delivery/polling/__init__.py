"""Polling follows accepted batches until Evermuse has processed them, within a budget of reads.

This package must not send batches; what Evermuse says of a batch is written by ``settling``.
Its public interface is ``poll_due_batch`` and ``has_due_poll``, and for a batch in doubt ``needs_reconciliation`` and
``reconcile``, which raises ``ReconciliationDelayed``.
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

"""Polling asks Evermuse about accepted batches until their status is final, within a budget of reads.

This package must not send batches, and it leaves it to ``settling`` to write what Evermuse reports of a batch.
Its public interface is ``poll_due_batch`` and ``has_due_poll`` for accepted batches, and ``needs_reconciliation``,
``reconcile`` and ``ReconciliationDelayed`` for batches in doubt. ``is_database_known``, ``walk_listings`` and
``find_unknown`` compare a restored database with the listing.
"""

from .history import ListingUnreadable, UnknownBatches, find_unknown, is_database_known, walk_listings
from .poll import has_due_poll, poll_due_batch
from .reconciliation import ReconciliationDelayed, needs_reconciliation, reconcile

__all__ = [
    "ListingUnreadable",
    "ReconciliationDelayed",
    "UnknownBatches",
    "find_unknown",
    "has_due_poll",
    "is_database_known",
    "needs_reconciliation",
    "poll_due_batch",
    "reconcile",
    "walk_listings",
]

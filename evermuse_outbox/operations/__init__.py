"""Operations are what an operator may do by hand: retry records, and decide about a restored database.

This package must not make any request to Evermuse. What it makes pending, the workers send.
Its public interface is ``retry_records`` with its result ``Retried``, and the functions of
``outbox_reconcile``.
"""

from .reconcile import (
    Counts,
    Reconciliation,
    compare,
    discard_at_risk,
    hold,
    last_sign_of_life,
    note_decision,
    release,
)
from .retry import Retried, retry_records

__all__ = [
    "Counts",
    "Reconciliation",
    "Retried",
    "compare",
    "discard_at_risk",
    "hold",
    "last_sign_of_life",
    "note_decision",
    "release",
    "retry_records",
]

"""Operations are what an operator may do to records by hand.

This package must not send anything and must not ask Evermuse anything. What it makes pending, the next tick sends.
Its public interface is ``retry_records`` with its result ``Retried``.
"""

from .retry import Retried, retry_records

__all__ = ["Retried", "retry_records"]

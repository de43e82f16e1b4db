"""Operations are what an operator may do to records by hand.

This package must not make any request to Evermuse. What it makes pending, the workers send.
Its public interface is ``retry_records`` with its result ``Retried``.
"""

from .retry import Retried, retry_records

__all__ = ["Retried", "retry_records"]

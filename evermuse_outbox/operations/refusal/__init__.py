"""The error of an operation that is not possible.

It has a package of its own, so that the packages of operations can raise it. It must not import them. Its interface is
:class:`NotPossible`.
"""

from __future__ import annotations


class NotPossible(Exception):
    """The row is not in a state in which the operation is possible.

    ``message`` says why, and what to do instead.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


__all__ = ["NotPossible"]

"""The error of an operation that is not possible."""

from __future__ import annotations


class NotPossible(Exception):
    """The row is not in a state in which the operation is possible. The message says why and what to do instead."""

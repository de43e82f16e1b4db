"""Sending leases a sealed batch and POSTs it.

This package must not decide what an answer changes; it returns the outcome and the attempt.
Its public interface is ``lease_due``, ``give_back``, ``has_time_to_send`` and ``post``.
"""

from .lease import give_back, has_time_to_send, lease_due
from .post import post

__all__ = ["give_back", "has_time_to_send", "lease_due", "post"]

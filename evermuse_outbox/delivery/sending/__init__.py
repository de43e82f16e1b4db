"""Sending leases a sealed batch and POSTs it.

This package must not decide what an answer changes; it returns the outcome and the attempt.
Its public interface is ``lease_due``, ``lease_first`` with what a probe is chosen from, ``bind_key``, ``give_back``,
``has_time_to_send`` and ``post``.
"""

from .lease import (
    bind_key,
    give_back,
    has_time_to_send,
    lease_due,
    lease_first,
    read_probe_candidates,
    waiting_groups,
)
from .post import post
from .renewal import load_renew_url, renew_urls

__all__ = [
    "bind_key",
    "give_back",
    "has_time_to_send",
    "lease_due",
    "lease_first",
    "load_renew_url",
    "post",
    "read_probe_candidates",
    "renew_urls",
    "waiting_groups",
]

"""Bound the memory of this process for answers, whatever the number of its senders.

An answer of up to ``SMALL_ANSWER`` bytes needs no place, so the usual answers never wait. A larger one needs one of
``LARGE_ANSWERS`` places until nothing uses it any more. A thread holds at most one place while it reads, and it waits
only until the deadline of its call. So no thread can wait for ever.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from .. import Unanswered

SMALL_ANSWER = 65_536
"""Bytes of an answer that needs no place. An answer about a batch with 20 errors has about 41,000 in ASCII."""

LARGE_ANSWERS = 4
"""Number of larger answers that a process keeps at a time. Only hostile and faulty servers send more."""

_places = threading.BoundedSemaphore(LARGE_ANSWERS)


def take_place(seconds: float) -> Callable[[], None]:
    """Wait for a place for a large answer, for at most ``seconds``. Return a function that gives it back.

    Raises:
        Unanswered: No place was free in time.
    """
    places = _places
    if not places.acquire(timeout=seconds):
        raise Unanswered(f"{LARGE_ANSWERS} other answers of more than {SMALL_ANSWER:,} bytes were being read")
    return places.release


def _reset() -> None:
    """Free all places in a new process: those that hold them run only in its parent."""
    global _places
    _places = threading.BoundedSemaphore(LARGE_ANSWERS)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset)

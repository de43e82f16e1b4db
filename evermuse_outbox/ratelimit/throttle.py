"""The interface of a throttle, and what its backends have in common."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from typing import Protocol

from ..evermuse import EvermuseError
from .algorithm import ARRIVAL_UNCERTAINTY, Admission, Reservation

SLOW_BACKEND = ARRIVAL_UNCERTAINTY / 2
"""Seconds. If the backend needs longer to give a permit, the request arrives later than the permit assumes."""


class ThrottleUnavailable(EvermuseError):
    """The throttle backend (Redis or the database) does not answer. No request may be sent without it."""


class Throttle(Protocol):
    """A backend that admits the requests of one API key. All times are in seconds.

    Call :meth:`reserve`, sleep until the slot, call :meth:`acquire`, send the request, and call :meth:`release`.
    Every method raises :class:`ThrottleUnavailable` if the backend does not answer.
    """

    def wait(self) -> float:
        """Return the seconds until the next slot, without reserving it."""

    def reserve(self, patience: float) -> Reservation:
        """Reserve the next slot if it is at most ``patience`` seconds away."""

    def acquire(self) -> Admission:
        """Acquire a permit to send a request now, or return the seconds to wait before a new attempt."""

    def release(self, permit: str, *, is_comparable: bool) -> None:
        """Record that the request of ``permit`` was answered or failed.

        ``is_comparable`` is True if its latency can be compared with others: a POST on a connection that was open.
        """

    def block(self, seconds: float) -> None:
        """Give no slot and no permit for ``seconds``, after Evermuse answered 429. A longer block remains in force."""

    def unblock(self) -> None:
        """End a block before its time, because a person decides it. Slots and permits stay as they are."""


def acquire_again_if_slow(acquire: Callable[[], tuple[Admission, float]]) -> Admission:
    """Acquire a permit; if the backend took longer than :data:`SLOW_BACKEND`, acquire a second one.

    The request of a late permit would arrive later than the permit assumes, so that permit stays unused until it
    expires. There is no third attempt: if the backend is always slow, all requests are late by the same time.

    Args:
        acquire: Function that returns an admission and the seconds from the time of the permit until now.
    """
    admission, seconds = acquire()
    return acquire()[0] if admission.permit and seconds > SLOW_BACKEND else admission


def new_permit_id() -> str:
    """Return a random id for a permit."""
    return uuid.uuid4().hex[:16]


def key_fingerprint(api_url: str, api_key: str) -> str:
    """Return a one-way fingerprint of an API key and its address, in hexadecimal.

    All processes with the same key share one state under it, and the key cannot be read from it.
    """
    digest = hashlib.blake2b(
        api_url.encode() + b"\0" + api_key.encode(), digest_size=12, person=b"evermuse-outbox"
    )
    return digest.hexdigest()

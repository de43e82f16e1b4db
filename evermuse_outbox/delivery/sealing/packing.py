"""Pack: select the pending records that go into one request. Pure: no database, no clock.

The rate limit is on requests, so each one takes as many records as fit.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol, TypeVar

from ...evermuse import BodyFormat


class Limits(NamedTuple):
    """The maximum of records, body bytes and attachments of one request."""

    records: int
    bytes: int
    attachments: int


class Sized(Protocol):
    """A record with its size in bytes and its number of attachments."""

    @property
    def size(self) -> int:
        """Return the bytes of the line in UTF-8."""
        ...

    @property
    def attachments(self) -> int:
        """Return the number of attachments."""
        ...


S = TypeVar("S", bound=Sized)


def pack(waiting: Iterable[S], limits: Limits, body: BodyFormat) -> list[S]:
    """Return the first of ``waiting`` and all others that still fit, in their order.

    The first record is always taken, even if it alone exceeds ``limits``, which may have been lowered since it was
    enqueued. So the longest waiting record is never skipped forever. Another record that does not fit is skipped, and
    smaller ones after it may still be taken.
    """
    waiting = list(waiting)
    if _fit_together(waiting, limits, body):
        return waiting
    taken: list[S] = []
    size, attachments = body.overhead, 0
    for record in waiting:
        grown = size + record.size + (len(body.between) if taken else 0)
        fits = grown <= limits.bytes and attachments + record.attachments <= limits.attachments
        if taken and not fits:
            continue
        taken.append(record)
        size, attachments = grown, attachments + record.attachments
        if len(taken) >= limits.records:
            break
    return taken


def _fit_together(waiting: list[S], limits: Limits, body: BodyFormat) -> bool:
    return (
        len(waiting) <= limits.records
        and body.size([record.size for record in waiting]) <= limits.bytes
        and sum([record.attachments for record in waiting]) <= limits.attachments
    )

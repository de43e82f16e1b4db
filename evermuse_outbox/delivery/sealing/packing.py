"""Which of the waiting records go into the next request. Pure: no database, no clock."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol, TypeVar

from ...evermuse.body import BodyFormat


class Limits(NamedTuple):
    """What one request may hold at most."""

    records: int
    bytes: int
    attachments: int


class Sized(Protocol):
    """What packing needs to know of a record."""

    @property
    def size(self) -> int: ...

    @property
    def attachments(self) -> int: ...


S = TypeVar("S", bound=Sized)


def pack(waiting: Iterable[S], limits: Limits, body: BodyFormat) -> list[S]:
    """The first of ``waiting`` and all that still fit beside it, in their order.

    The first always goes, even where it alone passes ``limits`` (they may have been lowered after it
    was enqueued); so the longest waiting record is never passed over for ever. A record that does not
    fit is skipped, and smaller ones behind it may still go.
    """
    waiting = list(waiting)
    if _fit_together(waiting, limits, body):
        return waiting
    taken: list[S] = []
    size, attachments = body.fixed, 0
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

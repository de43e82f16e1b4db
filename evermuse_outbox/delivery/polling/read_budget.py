"""How often following may read: a small share of the sends while there is something to send.

Reads count against the same limit as sends. One reader at a time in a workspace, over all processes: the row of the
workspace keeps when the next read may be.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from ...models import (
    MAX_READ_INTERVAL,
    OutboxBatch,
    OutboxWorkspace,
)
from ..context import DeliveryContext
from ..scheduling import has_work

SENDS_A_READ = 25
"""While there is something to send, one read for so many slots: at most 1.04 requests a batch at the ceiling."""

SENDS_A_LEAN_READ = 40
"""The same after a read that has brought fewer batches to their end than :data:`SENDS_A_READ`."""

SHORTEST_REST, LONGEST_REST = 1.0, 60.0
"""Seconds between two reads while there is something to send, whatever the rate limit."""

IN_VAIN = 1.0
"""Seconds until the next read where one has told nothing."""

A_FEW = 25
"""So many open batches mean that it is worth waiting, even where a slot is free at this moment."""


@dataclass(slots=True)
class Reading:
    """One read of one process, seldom two. ``usual`` is how long Evermuse takes for a batch in seconds, 0 where nothing
    is known of it.

    ``reads`` are the requests that it has made, ``told`` the batches that they told of, ``ended`` those among them that
    came to their end.
    """

    usual: float
    is_busy: bool = False
    reads: int = 0
    told: int = 0
    ended: int = 0


def may_read(context: DeliveryContext) -> bool:
    """Whether it is time for a read, and nobody reads."""
    rows = OutboxWorkspace.objects.using(context.using)
    return context.run_with_retries(rows.can_read, context.workspace_name, context.clock.now())


def is_busy(context: DeliveryContext) -> bool:
    """Whether reads would take slots from sends."""
    if not has_work(context):
        return False
    return context.throttle.wait() > 0 or len(open_batches(context, A_FEW)) == A_FEW


def open_batches(context: DeliveryContext, most: int) -> list[int]:
    """Up to so many of the followed batches."""
    followed = OutboxBatch.objects.using(context.using).polled(context.workspace_name)
    return context.run_with_retries(list, followed.values_list("pk", flat=True)[:most])


@contextmanager
def reading(context: DeliveryContext) -> Iterator[Reading | None]:
    """The right to read until the block ends; None where somebody else has it. A reader that never comes back
    holds it as long as a lease lasts, an hour at the most."""
    rows = OutboxWorkspace.objects.using(context.using)
    began = context.clock.now()
    until = min(context.clock.after(context.settings.lease), began + MAX_READ_INTERVAL)
    if not context.run_with_retries(rows.claim_read, context.workspace_name, began, until):
        yield None
        return
    mine = Reading(
        context.run_with_retries(rows.ensure_row, context.workspace_name).typical_completion_seconds
    )
    try:
        mine.is_busy = is_busy(context)
        yield mine
    finally:
        then = began + timedelta(seconds=_rest(context, mine))
        context.run_with_retries(rows.end_read, context.workspace_name, until, then, mine.usual)


def _rest(context: DeliveryContext, mine: Reading) -> float:
    """Seconds from the beginning of that reading to the next one."""
    if not mine.is_busy:
        return IN_VAIN if mine.reads and not mine.told else 0.0
    sends = SENDS_A_READ if mine.ended >= SENDS_A_READ else SENDS_A_LEAN_READ
    share = sends / context.workspace.rate_limit
    return mine.reads * min(max(share, SHORTEST_REST), LONGEST_REST)

"""The budget of reads: when a workspace may ask about accepted batches again.

The guarantee "close to the limit" needs it, because reads and sends share one rate limit. With it, a delivered batch
costs at most 1.05 requests, however long Evermuse takes (``tests/delivery/polling/test_read_budget.py``).

Reads have no budget while nothing waits to be sent. One process at a time reads for a workspace: ``next_read_at`` on
the workspace's row is both its claim and the time of the next read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from ...models import MAX_READ_INTERVAL, KeyBlock, KeyPool, OutboxBatch, OutboxWorkspace
from ..context import DeliveryContext
from ..gates import seconds_to_next_permit, usable_rate
from ..scheduling import has_work

SENDS_PER_READ = 32
"""Sends between two reads while records wait to be sent: 1.03 requests per batch at the rate limit."""

MIN_BUSY_INTERVAL, MAX_BUSY_INTERVAL = 1.0, 60.0
"""Seconds between two reads while records wait to be sent: bounds for very high and very low rate limits."""

FRUITLESS_INTERVAL = 1.0
"""Seconds until the next read after a read that reported no batch, while nothing waits to be sent."""

FEW_POLLED_BATCHES = 25
"""With fewer polled batches than this, reads are rare. They need no budget if a permit is free at once."""


@dataclass(slots=True)
class ReadRun:
    """The counters of one claimed read.

    Attributes:
        typical_seconds: how long Evermuse takes for a batch, 0 if unknown.
        is_busy: whether the read takes a permit from a send.
        requests: requests made; two if a failed listing is followed by a read of one batch.
        reported: batches in the answers.
        blocks: the keys that cannot be used now. Nothing is sent with them, so they earn no reads.
    """

    typical_seconds: float
    is_busy: bool = False
    requests: int = 0
    reported: int = 0
    blocks: Mapping[str, KeyBlock] = field(default_factory=dict)


def is_read_due(context: DeliveryContext) -> bool:
    """Return whether the next read is due and no other process reads."""
    rows = OutboxWorkspace.objects.using(context.using)
    return context.run_with_retries(rows.can_read, context.workspace_name, context.clock.now())


@contextmanager
def claim_read(context: DeliveryContext) -> Iterator[ReadRun | None]:
    """Claim the right to read for the block, then plan the next read. Yield None if another process has the right.

    If the process dies inside of the block, the claim ends after ``LEASE`` seconds, and after an hour at most.
    """
    rows = OutboxWorkspace.objects.using(context.using)
    started_at = context.clock.now()
    claimed_until = min(context.clock.after(context.settings.lease), started_at + MAX_READ_INTERVAL)
    if not context.run_with_retries(rows.claim_read, context.workspace_name, started_at, claimed_until):
        yield None
        return
    workspace = context.run_with_retries(rows.ensure_row, context.workspace_name)
    blocks = KeyPool.of(workspace).blocks if context.pool else {}
    run = ReadRun(workspace.typical_completion_seconds, blocks=blocks)
    try:
        run.is_busy = _is_busy(context, run)
        yield run
    finally:
        next_read_at = started_at + timedelta(seconds=_seconds_to_next_read(context, run))
        context.run_with_retries(
            rows.end_read, context.workspace_name, claimed_until, next_read_at, run.typical_seconds
        )


def has_polled_batches(context: DeliveryContext, minimum: int) -> bool:
    """Return whether at least ``minimum`` batches are polled."""
    polled = OutboxBatch.objects.using(context.using).polled(context.workspace_name)
    return len(context.run_with_retries(list, polled.values_list("pk", flat=True)[:minimum])) == minimum


def _is_busy(context: DeliveryContext, run: ReadRun) -> bool:
    """Return whether a read now would take a permit that a send could use."""
    if not has_work(context):
        return False
    return seconds_to_next_permit(context, run.blocks) > 0 or has_polled_batches(context, FEW_POLLED_BATCHES)


def _seconds_to_next_read(context: DeliveryContext, run: ReadRun) -> float:
    """Return the seconds from the start of this read to the next one."""
    if not run.is_busy:
        return FRUITLESS_INTERVAL if run.requests and not run.reported else 0.0
    interval = SENDS_PER_READ / usable_rate(context, run.blocks)
    return run.requests * min(max(interval, MIN_BUSY_INTERVAL), MAX_BUSY_INTERVAL)

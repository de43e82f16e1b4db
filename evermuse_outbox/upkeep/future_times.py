"""Correct times that are further in the future than any wait can be.

A clock that was set back, or a defect, can leave such a time. Without the correction, the row would wait for it.
"""

from __future__ import annotations

import time
from datetime import timedelta

from ..conf import get_settings
from ..delivery.context import Clock
from ..delivery.scanning import find_waiting_work
from ..foreign_text import get_logger, log_ids
from ..models import GroupState, OutboxBatch, OutboxGroup, OutboxWorkspace
from ..ratelimit import MAX_BLOCK

logger = get_logger(__name__)

MARGIN = timedelta(seconds=60)
"""How much longer than the longest wait a time may be in the future, because waits vary at random."""

CHECK_INTERVAL = 30.0
"""Seconds between two searches of a process. It costs two look-ups for each workspace with batches."""

ROWS_PER_SEARCH = 500
"""Rows that one search corrects for each workspace and kind."""

_searched_at: dict[str, float] = {}
"""Database alias → time of the last search of this process, on the monotonic clock."""


def longest_wait() -> timedelta:
    """Return the longest time for which a batch, a workspace or a group waits for its next attempt."""
    settings = get_settings()
    return timedelta(seconds=MAX_BLOCK + max(settings.backoff_cap, settings.lease)) + MARGIN


def correct_future_times_sometimes(using: str, clock: Clock) -> int:
    """Correct future times, unless this process has done it a short time ago. Return how many rows were corrected."""
    now = time.monotonic()
    if now - _searched_at.get(using, float("-inf")) < CHECK_INTERVAL:
        return 0
    _searched_at[using] = now
    return correct_future_times(using, clock)


def correct_future_times(using: str, clock: Clock) -> int:
    """Set times that are further away than the longest wait to now. Return how many rows were corrected."""
    now = clock.now()
    latest = now + longest_wait()
    batches, workspaces = OutboxBatch.objects.using(using), OutboxWorkspace.objects.using(using)
    count = sum(
        workspaces.shorten_block(name, latest, now)
        for name in list(workspaces.filter(blocked_until__gt=latest).values_list("pk", flat=True))
    )
    waiting = find_waiting_work(using)
    for name in sorted(waiting.unsent | waiting.polled):
        # Rows are found first, because an UPDATE without a match may lock the end of the index on MariaDB.
        unsent = batches.sendable(name).filter(due_at__gt=latest)
        polled = batches.polled(name).filter(next_poll_at__gt=latest)
        if pks := list(unsent.values_list("pk", flat=True)[:ROWS_PER_SEARCH]):
            count += batches.filter(pk__in=pks, due_at__gt=latest).send_now(now)
        if pks := list(polled.values_list("pk", flat=True)[:ROWS_PER_SEARCH]):
            count += batches.filter(pk__in=pks, next_poll_at__gt=latest).poll_now(now)
    groups = OutboxGroup.objects.using(using)
    for row in groups.filter(state=GroupState.PAUSED, blocked_until__gt=latest):
        count += groups.delay_probe(row, now)
    if count:
        logger.warning(
            "%d rows of the database %s waited for a time that no wait leads to; they are due now. "
            "A clock was set back, or this is a defect",
            count,
            using,
            extra=log_ids(database=using),
        )
    return count

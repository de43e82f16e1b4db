"""Choose groups: load a workspace's run queue, refill it from a group scan, and save it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta

from ...models import OutboxWorkspace
from ..context import DeliveryContext
from .run_queue import GroupScan, RunQueue
from .scheduler import Entry, Group, Terms, order_groups, seconds_to_linger

MIN_LIFETIME = 1.0
"""Seconds for which a run queue is used at least, unless its entries are used up earlier."""

SCAN_SHARE = 10
"""A run queue is used for at least this many times the duration of its scan. So scans take at most a tenth of the time,
unless the entries are used up earlier."""

MIN_ENTRIES, MAX_ENTRIES = 8, 64
"""Minimum and maximum length of a run queue. In between, it is the rate limit × the lifetime of the queue."""

MAX_SPARE_GROUPS = 200
"""Groups outside of the run queue that one transaction tries if nothing of the run queue can be sealed."""


def load_run_queue(context: DeliveryContext, workspace: OutboxWorkspace) -> RunQueue:
    """Read the run queue from the workspace's row, which the caller has locked."""
    queue = RunQueue.from_json(workspace.run_queue)
    # If the project has changed USE_TZ, the database refuses the datetimes that were stored before.
    is_naive = context.clock.now().tzinfo is None
    queue.resume_points = {
        group: point
        for group, point in queue.resume_points.items()
        if (point.enqueued_at.tzinfo is None) is is_naive
    }
    if not queue.is_current(context.clock.now().timestamp()):
        queue.entries = []
    return queue


def save_run_queue(context: DeliveryContext, workspace: OutboxWorkspace, queue: RunQueue) -> None:
    """Write the run queue to the workspace's row by one UPDATE, at the end of the transaction."""
    workspace.seal_count += 1
    queue.forget_seals_before(context.clock.now().timestamp() - context.settings.linger)
    workspace.run_queue = queue.to_json()
    changed = ["run_queue", "seal_count", "batch_count"]
    if queue.arrival_rates:
        workspace.remember_arrival_rates(queue.arrival_rates)
        changed.append("arrival_rates")
    workspace.save(using=context.using, update_fields=changed)


def choose_groups(context: DeliveryContext, queue: RunQueue, scan: GroupScan) -> None:
    """Refill the run queue with the groups to seal next, without the resting ones (see ``REST_SECONDS``)."""
    now = context.clock.now().timestamp()
    groups = [waiting for waiting in scan.groups if not queue.is_resting(waiting.group, now)]
    entries = order_groups(groups, _terms(context, queue), last_was_due=queue.last_was_due)
    queue.refill(entries, scan.oldest, now=now, lifetime=max(MIN_LIFETIME, SCAN_SHARE * scan.seconds))


def spare_groups(context: DeliveryContext, queue: RunQueue, scan: GroupScan) -> list[Entry]:
    """Return further groups to try if nothing of the run queue could be sealed, resting ones included."""
    return queue.spare_groups(scan.groups, _terms(context, queue), MAX_SPARE_GROUPS)


def lingers_until(
    using: str, workspace: str, enqueued_at: Mapping[Group, datetime], now: datetime, linger: float
) -> dict[Group, datetime]:
    """Return until when each group lingers, by one query. It is the time of its oldest record if it does not.

    Args:
        using: the database alias.
        workspace: the name of the workspace.
        enqueued_at: when the oldest pending record of each group was enqueued.
        now: the time of the database.
        linger: the setting ``LINGER`` in seconds.
    """
    rows = OutboxWorkspace.objects.using(using).filter(name=workspace)
    queue = RunQueue.from_json(rows.values_list("run_queue", flat=True).first())
    ends = {}
    for group, oldest in enqueued_at.items():
        age = (now - oldest) / timedelta(seconds=1)
        seconds = seconds_to_linger(linger, age=age, sealed_ago=queue.sealed_ago(group, now.timestamp()))
        ends[group] = now + timedelta(seconds=max(seconds, -max(age, 0)))
    return ends


def max_queue_length(context: DeliveryContext, queue: RunQueue) -> int:
    """Return how many entries the next run queue may have."""
    return _terms(context, queue).max_entries


def _terms(context: DeliveryContext, queue: RunQueue) -> Terms:
    """Return what the order of groups depends on, from the settings and the last run queue."""
    settings, rate = context.settings, context.request_rate
    lifetime = max(MIN_LIFETIME, queue.lifetime)  # the next scan is expected to be as slow as the last one
    max_entries = max(MIN_ENTRIES, min(MAX_ENTRIES, math.ceil(rate * lifetime)))
    return Terms(rate, settings.linger, settings.max_wait, max_entries, lifetime)

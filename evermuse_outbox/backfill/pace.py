"""The low-priority lane: when the backfill may insert its next records, and how many.

A second queue is not needed. The backfill has only as many requests under way as leave within ``UNDER_WAY`` seconds,
and it inserts no more as soon as a live record is due. A live record that comes meanwhile waits for these requests at
most. No new state, index or rule of the scheduler is needed. Each query is a look-up in an index with a fixed limit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from ..delivery.context import Clock, DeliveryContext
from ..delivery.gates import seconds_to_next_permit
from ..delivery.scanning import read_oldest_of_groups
from ..delivery.scheduling import lingers_until
from ..models import OutboxGroup, OutboxRecord
from ..ratelimit import ThrottleUnavailable
from .rows import Chunk, Group

UNDER_WAY = 0.2
"""Seconds that the requests under way take at the rate limit. With fewer of them, a slot stays unused whenever an
INSERT takes longer than usual. With more, a live record waits for longer: ``python -m benchmarks backfill``."""

PATIENCE = 5.0
"""Seconds. If a live record waits for longer although the rate limit is free, it waits for something else, for instance
for an earlier version. Then the backfill goes on."""

MAX_GROUPS = 200
"""Groups with pending records that one look reads."""

LOOK_SHARE = 10
"""A look at live traffic is used for this many times its duration. So looks take at most a tenth of the time, also if
an old snapshot on PostgreSQL makes them slow."""

SMOOTHING = 4
"""Number of chunks over which the time of an INSERT is averaged."""

NOTHING = ""

FULL = "its earlier records wait to be sent"


class Inserted(NamedTuple):
    """A group's part of a chunk that was inserted: the id of its last record, and what it has."""

    group: Group
    last_pk: int
    records: int
    requests: int


class Live(NamedTuple):
    """The live record that is due next: its group, and the seconds until it may be sealed, negative if it waits."""

    group: Group
    seconds: float


@dataclass(slots=True)
class Pace:
    """Decides when the next chunk is inserted, from what is pending and what live traffic needs."""

    context: DeliveryContext
    clock: Clock
    reason: str = ""
    """Why nothing may be inserted now; empty if something may."""
    _inserted: list[Inserted] = field(default_factory=list)
    _live: Live | None = None
    _live_until: float = 0.0
    _idle_since: float | None = None
    _insert_seconds: float = 0.0

    def add(self, parts: Iterable[Inserted], seconds: float) -> None:
        """Note what was inserted, and how long that took."""
        self._inserted += parts
        self._insert_seconds += (seconds - self._insert_seconds) / SMOOTHING
        self._live_until = 0.0

    def free_requests(self) -> int:
        """Return how many requests the records may fill that are inserted now; 0 if the backfill must wait."""
        self._forget_sealed()
        pending = sum(part.requests for part in self._inserted)
        spacing = 1 / self.context.request_rate
        # The next chunk is seen only after its INSERT. Meanwhile, a request leaves.
        limit = max(UNDER_WAY, spacing) + min(self._insert_seconds, spacing)
        if pending * spacing > limit:  # first, because this needs no other look-up
            return self._wait(FULL)
        try:
            wait = seconds_to_next_permit(self.context)
        except ThrottleUnavailable as error:
            return self._wait(str(error))
        live = self._next_live()
        seconds = limit
        if live is not None and not self._is_live_stuck(live, wait):
            seconds = min(live.seconds, limit)
        free = math.floor((seconds + spacing - wait) / spacing + ROUNDING) - pending
        if free > 0:
            self.reason = NOTHING
            return free
        if live is not None and seconds < limit:
            return self._wait(f"live records of {', '.join(live.group)} are due")
        return self._wait(FULL if pending else "other requests use the rate limit")

    def _wait(self, reason: str) -> int:
        self.reason = reason
        return 0

    def _is_live_stuck(self, live: Live, wait: float) -> bool:
        """Return whether a live record waits although the rate limit has been free for long."""
        now = self.clock.monotonic()
        if wait > 0 or live.seconds > 0 or self._idle_since is None:
            self._idle_since = now
        return now - self._idle_since > PATIENCE

    def _forget_sealed(self) -> None:
        if not self._inserted:
            return
        rows = OutboxRecord.rows.using(self.context.using).pending()
        pks = [part.last_pk for part in self._inserted]
        pending = set(rows.filter(pk__in=pks).values_list("pk", flat=True))
        self._inserted = [part for part in self._inserted if part.last_pk in pending]

    def _next_live(self) -> Live | None:
        """Return the live record that is due next, from a look that is not too old."""
        started = self.clock.monotonic()
        if started >= self._live_until:
            self._live = self._look()
            ended = self.clock.monotonic()
            self._live_until = ended + LOOK_SHARE * (ended - started)
        return self._live

    def _look(self) -> Live | None:
        """Read the live record that is due next. Paused groups do not count: nothing of them is sent."""
        using, workspace = self.context.using, self.context.workspace_name
        paused = set(OutboxGroup.objects.using(using).paused(workspace).values_list("type", "product_id"))
        pending = {part.group for part in self._inserted}
        oldest = {
            group: at.enqueued_at
            for group, at in read_oldest_of_groups(using, workspace, MAX_GROUPS)
            if group not in paused and group not in pending
        }
        oldest |= {group: at for group in pending - paused if (at := self._live_beside(group)) is not None}
        if not oldest:
            return None
        due = lingers_until(using, workspace, oldest, self.clock.now(), self.context.settings.linger)
        group = min(due, key=due.__getitem__)
        return Live(group, (due[group] - self.clock.now()) / timedelta(seconds=1))

    def _live_beside(self, group: Group) -> datetime | None:
        """Return when a live record was enqueued in a group with pending records of the backfill; None if none was.

        It is behind the first of those of the backfill, so the newest record of the group shows it.
        """
        rows = (
            OutboxRecord.rows.using(self.context.using).pending().group(self.context.workspace_name, *group)
        )
        newest = rows.order_by("-enqueued_at", "-pk").values_list("pk", "enqueued_at").first()
        if newest is None or newest[0] in {part.last_pk for part in self._inserted}:
            return None
        return newest[1]


ROUNDING = 1e-6
"""Requests. A result such as 0.9999999 is one request."""


def parts_of(context: DeliveryContext, chunk: Chunk) -> list[Inserted]:
    """Return what a chunk has inserted, by group. Call it in the transaction that has inserted it."""
    last = {(envelope.type, envelope.product_id): envelope for envelope in chunk.envelopes}
    rows = OutboxRecord.rows.using(context.using)
    parts = []
    for group, tally in chunk.tallies.items():
        # Not every database returns the ids of an INSERT of many rows. The index of identities finds the last one.
        newest = rows.filter(identity=last[group].identity).order_by("-pk").values_list("pk", flat=True)[0]
        parts.append(Inserted(group, newest, tally.records, tally.requests(context.settings)))
    return parts

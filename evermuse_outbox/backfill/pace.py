"""The low-priority lane: when the backfill may insert its next records, and how many.

A second queue is not needed. The backfill keeps at most :data:`WINDOW` requests of its records pending, and inserts no
more while live traffic needs the rate limit. So a live record waits behind that many requests at most. No new state,
index or rule of the scheduler is needed. Each query is a look-up in an index with a fixed limit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from ..delivery.context import Clock, DeliveryContext
from ..delivery.scanning import count_pending_of_groups, read_oldest_of_groups
from ..models import OutboxGroup, OutboxRecord
from ..ratelimit import ThrottleUnavailable
from .rows import Chunk, Group

WINDOW = 2
"""Requests of the backfill that are pending at most. With one, the senders would be idle while the next is inserted."""

BUSY_SLOTS = 1.5
"""Slots of the rate limit. If the next free slot is further away, other requests wait already."""

GRACE = 1.0
"""Seconds after ``LINGER`` for which a live record may wait before the backfill makes way for it."""

PATIENCE = 5.0
"""Seconds. If live records wait for longer although the rate limit is free, they wait for something else, for instance
for an earlier version. Then the backfill goes on."""

MAX_GROUPS = 200
"""Groups with pending records that one look reads."""

LOOK_SHARE = 10
"""A look at live traffic is used for this many times its duration. So looks take at most a tenth of the time, also if
an old snapshot on PostgreSQL makes them slow."""


class Inserted(NamedTuple):
    """A group's part of a chunk that was inserted: the id of its last record, and what it has."""

    group: Group
    last_pk: int
    records: int
    requests: int


@dataclass(slots=True)
class Pace:
    """Decides when the next chunk is inserted, from what is pending and what live traffic needs."""

    context: DeliveryContext
    clock: Clock
    _inserted: list[Inserted] = field(default_factory=list)
    _live: str = ""
    _live_until: float = 0.0
    _live_since: float | None = None

    def add(self, parts: Iterable[Inserted]) -> None:
        """Note what was inserted."""
        self._inserted += parts

    def free_requests(self) -> int:
        """Return how many requests of the backfill may be added to those that are pending."""
        self._forget_sealed()
        return max(WINDOW - sum(part.requests for part in self._inserted), 0)

    def reason_to_wait(self) -> str:
        """Return why live traffic comes first now; empty if it leaves room."""
        try:
            wait = self.context.throttle.wait()
        except ThrottleUnavailable as error:
            return str(error)
        if wait > BUSY_SLOTS / self.context.workspace.rate_limit:
            return "other requests use the rate limit"
        live = self._live_reason()
        if not live:
            self._live_since = None
            return ""
        now = self.clock.monotonic()
        if self._live_since is None or wait > 0:
            self._live_since = now
        return live if now - self._live_since < PATIENCE else ""

    def _forget_sealed(self) -> None:
        if not self._inserted:
            return
        rows = OutboxRecord.rows.using(self.context.using).pending()
        pks = [part.last_pk for part in self._inserted]
        pending = set(rows.filter(pk__in=pks).values_list("pk", flat=True))
        self._inserted = [part for part in self._inserted if part.last_pk in pending]

    def _live_reason(self) -> str:
        started = self.clock.monotonic()
        if started >= self._live_until:
            self._live = self._look()
            ended = self.clock.monotonic()
            self._live_until = ended + LOOK_SHARE * (ended - started)
        return self._live

    def _look(self) -> str:
        """Return which live records wait, in words; empty if none waits for longer than usual."""
        using, workspace = self.context.using, self.context.workspace_name
        pending = self._pending_records()
        paused = set(OutboxGroup.objects.using(using).paused(workspace).values_list("type", "product_id"))
        latest = self.clock.now() - timedelta(seconds=self.context.settings.linger + GRACE)
        for group, at in read_oldest_of_groups(using, workspace, MAX_GROUPS):
            if group not in pending and group not in paused and at.enqueued_at < latest:
                return f"live records of {group[0]}, {group[1]} wait"
        full = self.context.settings.max_batch_records
        counts = count_pending_of_groups(
            using, workspace, {group: count + full for group, count in pending.items()}, {}
        )
        for group, count in counts.items():
            if group not in paused and count.records >= pending[group] + full:
                return f"live records of {group[0]}, {group[1]} wait"
        return ""

    def _pending_records(self) -> dict[Group, int]:
        records: dict[Group, int] = {}
        for part in self._inserted:
            records[part.group] = records.get(part.group, 0) + part.records
        return records


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

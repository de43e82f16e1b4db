"""The low-priority lane: when the backfill may insert its next records, and how many.

A second queue is not needed. The measure is the pressure: how long a new record of the workspace would wait. The
backfill inserts only while that is less than a slot of the rate limit and the time of an INSERT. A live record that
comes meanwhile waits for these requests at most. No new state, index or rule of the scheduler is needed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..delivery.context import Clock, DeliveryContext
from ..delivery.gates import seconds_to_next_permit
from ..models import OutboxGroup
from ..pressure import Pressure, measure_now
from ..ratelimit import ThrottleUnavailable
from .rows import Group

MAX_INSERT = 0.2
"""Seconds of an INSERT that count at most. A chunk is seen only after its INSERT, and meanwhile requests leave. With
more of them, a live record waits for longer: ``tests/backfill/test_live_wait.py`` simulates it."""

LOOK_SHARE = 10
"""A measurement is used for this many times its duration. So measurements take at most a tenth of the time, also if a
long backlog, or an old snapshot on PostgreSQL, makes them slow."""

SMOOTHING = 4
"""Number of chunks over which the time of an INSERT is averaged."""

ROUNDING = 1e-6
"""Requests. A result such as 0.9999999 is one request."""

NOTHING = ""


@dataclass(slots=True)
class Pace:
    """Decides when the next chunk is inserted, from how long a new record would wait."""

    context: DeliveryContext
    clock: Clock
    reason: str = ""
    """Why nothing may be inserted now; empty if something may."""
    _pressure: Pressure | None = None
    _known_until: float = 0.0
    _insert_seconds: float = 0.0
    _groups: set[Group] = field(default_factory=set)

    def note_inserted(self, groups: Iterable[Group], seconds: float) -> None:
        """Note that a chunk with records of these groups was inserted, and how long that took."""
        self._groups = set(groups) or self._groups
        self._insert_seconds += (seconds - self._insert_seconds) / SMOOTHING
        self._pressure = None

    def free_requests(self) -> int:
        """Return how many requests the records may fill that are inserted now; 0 if the backfill must wait."""
        try:
            to_permit = seconds_to_next_permit(self.context)
        except ThrottleUnavailable as error:
            return self._wait(str(error))
        pressure = self._measure()
        if paused := self._find_paused():
            return self._wait(f"The group {', '.join(paused)} is paused.")
        if pressure.seconds is None:
            return self._wait(str(pressure))
        spacing = 1 / self.context.request_rate
        limit = spacing + min(self._insert_seconds, MAX_INSERT)
        free = math.floor((limit + spacing - to_permit - pressure.seconds) / spacing + ROUNDING)
        if free > 0:
            self.reason = NOTHING
            return free
        return self._wait(str(pressure) if pressure.seconds else "Other requests use the rate limit.")

    def _wait(self, reason: str) -> int:
        self.reason = reason
        return 0

    def _find_paused(self) -> Group | None:
        """Return a group of the last chunk that is paused now. The pressure does not count its records."""
        if not self._groups:
            return None
        groups = OutboxGroup.objects.using(self.context.using).paused(self.context.workspace_name)
        return next(
            (group for group in groups.values_list("type", "product_id") if group in self._groups), None
        )

    def _measure(self) -> Pressure:
        """Return the pressure, from a measurement that is not too old."""
        started = self.clock.monotonic()
        if self._pressure is None or started >= self._known_until:
            self._pressure = measure_now(self.context.using, self.context.workspace, self.clock.now())
            ended = self.clock.monotonic()
            self._known_until = ended + LOOK_SHARE * (ended - started)
        return self._pressure

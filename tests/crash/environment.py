"""The environment of a scenario: one database, one worker, one sandbox, and one clock that all of them share."""

from __future__ import annotations

import dataclasses
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from django.test.utils import override_settings

from evermuse_outbox.delivery.context import Clock, DeliveryContext, open_context
from evermuse_outbox.delivery.loop import poll, relay, send_next
from evermuse_outbox.jobs import run_operations
from evermuse_outbox.models import OutboxRecord
from evermuse_outbox.testing import Unpaced
from evermuse_outbox.upkeep import maintain_all, rescue_batches
from tests.records import enqueue


class SharedClock:
    """A clock that stands still until it is moved. It is kept in a file, so all processes read the same time."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT)

    def seconds(self) -> float:
        """Return the time in seconds since the epoch."""
        seconds: float = struct.unpack("d", os.pread(self._file, 8, 0))[0]
        return seconds

    def set(self, seconds: float) -> None:
        """Set the time, in seconds since the epoch, for all processes."""
        os.pwrite(self._file, struct.pack("d", seconds), 0)

    def move(self, seconds: float) -> None:
        """Move the time on for all processes."""
        self.set(self.seconds() + seconds)

    def now(self) -> datetime:
        """Return the time as the delivery reads it."""
        return datetime.fromtimestamp(self.seconds(), UTC)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class Environment:
    """The objects that a scenario works with, in the test process and in the process that dies.

    Only the test process has a ``sandbox``; the other one reaches it by HTTP.
    """

    def __init__(self, scenario: Any, alias: str, url: str, clock: str) -> None:
        self.scenario = scenario
        self.alias = alias
        self.url = url
        self.clock = SharedClock(clock)
        self.sandbox: Any = None
        self._settings: dict[str, Any] = {
            "API_URL": url,
            "API_KEY": "em_sk_sandbox",
            "DATABASES": [alias],
            "LINGER": 0,
            "WAKE_ON_COMMIT": False,
            **scenario.settings,
        }

    # --- the worker -------------------------------------------------------------------------------

    @contextmanager
    def with_settings(self, **changes: Any) -> Iterator[None]:
        """Use the settings of the scenario with these changes."""
        before, self._settings = self._settings, self._settings | changes
        with override_settings(EVERMUSE_OUTBOX=self._settings):
            yield
        self._settings = before

    @property
    def context(self) -> DeliveryContext:
        """A delivery context of the default workspace.

        If the scenario ``is_paced``, it has the throttle of the settings and real time passes; else it never waits.
        """
        opened = open_context(self.alias, "default")
        if self.scenario.is_paced:
            clock = Clock(now=self.clock.now, sleep=time.sleep, monotonic=time.monotonic)
            return dataclasses.replace(opened, clock=clock)
        clock = Clock(now=self.clock.now, sleep=self.clock.move, monotonic=self.clock.seconds)
        return dataclasses.replace(opened, clock=clock, throttle=Unpaced())

    def send(self, *, prefer_new: bool = False) -> object:
        """Send one batch, sealed now or before."""
        return send_next(self.context, prefer_new=prefer_new)

    def relay(self) -> int:
        """Seal and send until nothing is due."""
        return relay(self.context, 60)

    def poll(self) -> int:
        """Poll all batches that are due."""
        return poll(self.context, 60)

    def operate(self) -> int:
        """Execute the confirmed jobs."""
        return run_operations(self.alias, 60, clock=self.context.clock)

    def rescue(self) -> None:
        """Put batches with an expired lease in doubt."""
        rescue_batches(self.alias, self.context.clock)

    def maintain(self) -> None:
        """Rescue and purge."""
        maintain_all(lambda using: self.context.clock)

    # --- the host ---------------------------------------------------------------------------------

    def enqueue(self, *numbers: int, invalid: tuple[int, ...] = (), **changes: Any) -> list[OutboxRecord]:
        """Enqueue records with these numbers; Evermuse rejects the ``invalid`` ones."""
        return enqueue(self.alias, *numbers, invalid=invalid, **changes)

    def rewrite(self, row: OutboxRecord, old: str, new: str) -> None:
        """Change a stored line without validation."""
        row.payload = row.payload.replace(old, new)
        row.size = len(row.payload.encode())
        row.save(using=self.alias, update_fields=["payload", "size"])

    @property
    def records(self) -> Any:
        """All records in the order of enqueueing."""
        return OutboxRecord.objects.using(self.alias).order_by("pk")

    # --- Evermuse ---------------------------------------------------------------------------------

    def reject_accepted(self, *positions: int, named: bool) -> None:
        """Let Evermuse reject records of the batch that it accepted last; ``named``: its status names them."""
        space = self.sandbox._api.workspaces["default"]
        batch = space.batches[-1]
        errors = [{"index": position, "code": "LATE", "message": "found late"} for position in positions]
        changed = dataclasses.replace(
            batch,
            accepted=batch.accepted - len(positions),
            rejected=len(positions),
            total_errors=len(positions),
            errors=tuple(errors) if named else (),
        )
        space.batches[-1] = space.by_id[batch.id] = changed
        for identity in [list(space.records)[position] for position in positions]:
            del space.records[identity]


Action = Callable[[Environment], object]

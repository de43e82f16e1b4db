"""The life that a scenario plays: one database, one worker, one local Evermuse, one clock for them all."""

from __future__ import annotations

import dataclasses
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from django.db import transaction
from django.test.utils import override_settings

from evermuse_outbox import outbox
from evermuse_outbox.delivery.context import Clock, DeliveryContext, open_context
from evermuse_outbox.delivery.loop import poll, relay, send_next
from evermuse_outbox.models import OutboxRecord
from evermuse_outbox.testing import Unpaced
from evermuse_outbox.upkeep import maintain_all, rescue_batches
from tests.records import record


class SharedClock:
    """A clock in a file: it stands still, and who moves it moves it for all processes."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT)

    def seconds(self) -> float:
        """Since the epoch."""
        found: float = struct.unpack("d", os.pread(self._file, 8, 0))[0]
        return found

    def set(self, seconds: float) -> None:
        """For all."""
        os.pwrite(self._file, struct.pack("d", seconds), 0)

    def move(self, seconds: float) -> None:
        """On, for all."""
        self.set(self.seconds() + seconds)

    def now(self) -> datetime:
        """As the pipeline reads it."""
        return datetime.fromtimestamp(self.seconds(), UTC)

    def close(self) -> None:
        """Nobody reads it any more."""
        os.close(self._file)


class Life:
    """What a scenario has to play with, in the process that prepares it and in the one that dies.

    Only the first has a ``sandbox``.
    """

    def __init__(self, scenario: Any, alias: str, url: str, clock: str) -> None:
        self.scenario = scenario
        self.alias = alias
        self.url = url
        self.clock = SharedClock(clock)
        self.sandbox: Any = None
        self._keys: dict[str, Any] = {
            "API_URL": url,
            "API_KEY": "em_sk_sandbox",
            "DATABASES": [alias],
            "LINGER": 0,
            "WAKE_ON_COMMIT": False,
            **scenario.settings,
        }

    # --- the worker -------------------------------------------------------------------------------

    @contextmanager
    def under(self, **keys: Any) -> Iterator[None]:
        """The settings of the scenario, with these changed."""
        before, self._keys = self._keys, self._keys | keys
        with override_settings(EVERMUSE_OUTBOX=self._keys):
            yield
        self._keys = before

    @property
    def context(self) -> DeliveryContext:
        """The default workspace. Where the scenario is ``paced``, the keeper of the pace is real, and its time."""
        opened = open_context(self.alias, "default")
        if self.scenario.paced:
            clock = Clock(now=self.clock.now, sleep=time.sleep, monotonic=time.monotonic)
            return dataclasses.replace(opened, clock=clock)
        clock = Clock(now=self.clock.now, sleep=self.clock.move, monotonic=self.clock.seconds)
        return dataclasses.replace(opened, clock=clock, throttle=Unpaced())

    def send(self, *, prefer_new: bool = False) -> object:
        """One batch, sealed now or before."""
        return send_next(self.context, prefer_new=prefer_new)

    def relay(self) -> int:
        """Seals and sends until nothing is due."""
        return relay(self.context, 60)

    def track(self) -> int:
        """Asks about all batches that are due."""
        return poll(self.context, 60)

    def rescue(self) -> None:
        """Takes from dead workers what they held."""
        rescue_batches(self.alias, self.context.clock)

    def maintain(self) -> None:
        """Rescue and purge."""
        maintain_all(self.context.clock)

    # --- the host ---------------------------------------------------------------------------------

    def enqueue(self, *numbers: int, bad: tuple[int, ...] = (), **changes: Any) -> list[OutboxRecord]:
        """Records of those numbers; the ``bad`` ones are such as Evermuse will reject."""
        with transaction.atomic(using=self.alias):
            rows = [outbox.enqueue(record(number, **changes), using=self.alias) for number in numbers]
            for number, row in zip(numbers, rows, strict=True):
                if number in bad:
                    self.rewrite(row, '"_nature":"evidence"', '"_nature":"nonsense"')
        return rows

    def rewrite(self, row: OutboxRecord, old: str, new: str) -> None:
        """Changes a stored line as no validation would allow, or back."""
        row.payload = row.payload.replace(old, new)
        row.size = len(row.payload.encode())
        row.save(using=self.alias, update_fields=["payload", "size"])

    @property
    def records(self) -> Any:
        """All rows, in the order of enqueueing."""
        return OutboxRecord.objects.using(self.alias).order_by("pk")

    # --- Evermuse ---------------------------------------------------------------------------------

    def change_its_mind(self, *positions: int, named: bool) -> None:
        """Evermuse finds fault with records of the last batch that it took only after its 202."""
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


Play = Callable[[Life], object]

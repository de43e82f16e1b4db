"""Where scenarios are played: prepared, played by a process that dies, taken up again, and judged."""

from __future__ import annotations

import gc
import socket
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.apps import apps
from django.contrib.auth.models import Group
from django.db import transaction

from evermuse_outbox.models import BatchState, OutboxBatch, OutboxRecord, OutboxRejection
from evermuse_outbox.sandbox import Sandbox

from .environment import Life
from .process_supervisor import End, Nursery
from .scenario import Scenario
from .steps import Step

START = 1_772_366_400.0  # 2026-03-01T12:00:00Z

ROUNDS = 30
"""Looks at the outbox, 15 minutes apart, within which everything must be over."""

DECIDED = (BatchState.SPLIT, BatchState.REFUSED, BatchState.FAILED, BatchState.WITHDRAWN)
"""A batch at one of these ends leaves its records to others."""


class Stage:
    """One scenario on one database, with an Evermuse of its own."""

    def __init__(self, scenario: Scenario, alias: str, nursery: Nursery, clock: str) -> None:
        self.scenario = scenario
        self.alias = alias
        self._nursery = nursery
        self.sandbox = Sandbox(
            rate_limit=100_000, clock=lambda: self.life.clock.seconds(), **scenario.sandbox
        )
        self.sandbox.start()
        self.life = Life(scenario, alias, self.sandbox.url, clock)
        self.life.sandbox = self.sandbox

    @contextmanager
    def open(self) -> Iterator[Stage]:
        """With the settings of the scenario, until everything is put away."""
        with self.life.under():
            try:
                yield self
            finally:
                self.life.context.client.close()
                self.sandbox.stop()
                self._wipe()
                self.life.clock.close()

    # --- the play ---------------------------------------------------------------------------------

    def play(self) -> list[Step]:
        """The whole of it; its steps."""
        self._prepare()
        end = self._nursery.play(self._order)
        assert not end.error, end.error
        assert end.steps, "nothing outside was changed: there is nowhere to die"
        self._quiet()
        return end.steps

    def kill(self, after: int) -> None:
        """The same, by a process that is killed after that step."""
        self._prepare()
        end = self._nursery.kill(self._order, after)
        assert end.status == -9, f"it took another way than when nobody died: {end}"
        self._quiet()

    def stop(self, after: int) -> int:
        """The same, by a process that is stopped after that step; its id."""
        self._prepare()
        pid = self._nursery.stop(self._order, after)
        assert pid, "it took another way than when nobody stopped it"
        return pid

    def wake(self, pid: int) -> End:
        """It goes on to its end."""
        end = self._nursery.wake(pid)
        assert (end.status, end.error) == (0, "")
        self._quiet()
        return end

    def restart(self) -> None:
        """Workers look again and again, as they do, until there is nothing left to do."""
        self.scenario.mend(self.life)
        if self.scenario.purges:
            self.life.maintain()
        for _ in range(ROUNDS):
            self.life.clock.move(900)
            self.life.rescue()
            self.life.relay()
            self.life.clock.move(10)
            self.life.track()
            if self._is_over():
                return
        raise AssertionError(f"it never ends: {self.snapshot()}")

    @property
    def _order(self) -> dict[str, Any]:
        clock = self.life.clock.path
        return {"scenario": self.scenario.name, "alias": self.alias, "url": self.sandbox.url, "clock": clock}

    def _prepare(self) -> None:
        self._wipe()
        self.sandbox.reset()
        self.life.clock.set(START)
        self.scenario.before(self.life)
        for fault in self.scenario.faults:
            self.sandbox.fail_next(fault)
        self.life.context.client.close()

    def _wipe(self) -> None:
        with transaction.atomic(using=self.alias):
            for table in (*apps.get_app_config("evermuse_outbox").get_models(), Group):
                rows: Any = table._base_manager.using(self.alias).all()
                rows._raw_delete(self.alias)

    def _quiet(self) -> None:
        """Until the sandbox is done with what the dead have sent."""
        self.life.context.client.close()
        with socket.create_connection((self.sandbox.host, self.sandbox.port)) as knock:
            knock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            while knock.recv(4096):
                pass  # connections are taken in order: those of the dead are all taken now
        for thread in threading.enumerate():
            if "process_request_thread" in thread.name:
                thread.join(0.1)
                if thread.is_alive():
                    gc.collect()  # a client that met trouble lets go of its connection only when it is collected
                thread.join(20)
                assert not thread.is_alive(), "the sandbox still serves somebody"

    def _is_over(self) -> bool:
        batches = OutboxBatch.objects.using(self.alias)
        followed = batches.filter(next_poll_at__isnull=False)
        pending = OutboxRecord.rows.using(self.alias).pending()
        return not (batches.open().exists() or followed.exists() or pending.exists())

    # --- the judgement ----------------------------------------------------------------------------

    @contextmanager
    def telling(self, how: str, number: int, step: Step) -> Iterator[None]:
        """Whatever goes wrong within says where the process was."""
        try:
            yield
        except BaseException as error:
            error.add_note(f"{self.scenario.name} on {self.alias}: {how} after step {number}, {step}")
            raise

    def check(self) -> None:
        """Everything ended where it should."""
        states = [row.state for row in self.life.records]
        if callable(self.scenario.ends):
            self.scenario.ends(self.life, states)
        else:
            assert states == self.scenario.ends.split()
        assert [arrival for arrival in self.sandbox.violations if arrival.key] == []
        if not self.scenario.purges:
            self._evermuse_has_the_last_versions()
            self._every_member_is_accounted_for()
            self._nobody_went_under_a_second_key_while_the_first_was_undecided()

    def snapshot(self) -> list[list[Any]]:
        """All batches, records and rejections, as they are."""
        tables: tuple[Any, ...] = (OutboxBatch, OutboxRecord, OutboxRejection)
        return [list(table._base_manager.using(self.alias).order_by("pk").values()) for table in tables]

    def sends(self) -> list[str]:
        """The keys of the POSTs, in the order of their arrival."""
        return [arrival.idempotency_key for arrival in self.sandbox.arrivals if arrival.method == "POST"]

    def stored(self) -> list[str]:
        """The lines that Evermuse has."""
        return sorted(stored.line.decode() for stored in self.sandbox.records() if stored.line)

    def _evermuse_has_the_last_versions(self) -> None:
        delivered = {row.identity: row.payload for row in self.life.records if row.state == "delivered"}
        assert self.stored() == sorted(delivered.values())
        if not self.scenario.again:
            assert {stored.times for stored in self.sandbox.records()} <= {1}

    def _every_member_is_accounted_for(self) -> None:
        """Who was sealed in a batch is in it, was rejected in it, or went on once its fate was decided."""
        members = defaultdict(set)
        for row in OutboxRecord.rows.using(self.alias).filter(batch__isnull=False):
            members[row.batch_id].add(row.pk)
        for rejection in OutboxRejection.objects.using(self.alias).filter(batch__isnull=False):
            members[rejection.batch_id].add(rejection.record_id)
        batches = OutboxBatch.objects.using(self.alias)
        for batch in batches.order_by("-pk"):  # parts are younger than what they come from
            is_decided = batch.state in DECIDED and not batch.in_doubt
            assert is_decided or len(members[batch.pk]) == batch.record_count, f"{batch} has lost its members"
            if batch.parent_id:
                members[batch.parent_id] |= members[batch.pk]

    def _nobody_went_under_a_second_key_while_the_first_was_undecided(self) -> None:
        sends = self.sends()
        batches = {batch.pk: batch for batch in OutboxBatch.objects.using(self.alias)}
        assert set(sends) <= {batch.key for batch in batches.values()}, "sent before it was sealed"
        for batch in batches.values():
            parent = batches.get(batch.parent_id)
            if parent is None or batch.key not in sends:
                continue
            assert parent.state in DECIDED
            assert not parent.in_doubt
            last = len(sends) - sends[::-1].index(parent.key)
            assert last <= sends.index(batch.key), f"{parent} was asked about after its part {batch} was sent"

"""Run a scenario: prepare it, let a process die in it, start workers again, and check the result."""

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

from .environment import Environment
from .process_supervisor import Ended, ProcessSupervisor
from .scenario import Scenario
from .steps import Step

START = 1_772_366_400.0  # 2026-03-01T12:00:00Z

ROUNDS = 30
"""Number of rounds of the workers, 15 minutes apart, within which everything must be finished."""

DECIDED = (BatchState.SPLIT, BatchState.REFUSED, BatchState.FAILED, BatchState.WITHDRAWN)
"""Final states of a batch that does not decide what becomes of its records."""


class ScenarioRun:
    """One scenario on one database, with a sandbox of its own."""

    def __init__(self, scenario: Scenario, alias: str, supervisor: ProcessSupervisor, clock: str) -> None:
        self.scenario = scenario
        self.alias = alias
        self._supervisor = supervisor
        self.sandbox = Sandbox(rate_limit=100_000, clock=lambda: self.env.clock.seconds(), **scenario.sandbox)
        self.sandbox.start()
        self.env = Environment(scenario, alias, self.sandbox.url, clock)
        self.env.sandbox = self.sandbox

    @contextmanager
    def open(self) -> Iterator[ScenarioRun]:
        """Use the settings of the scenario; clean up at the end."""
        with self.env.with_settings():
            try:
                yield self
            finally:
                self.env.context.client.close()
                self.sandbox.stop()
                self._delete_rows()
                self.env.clock.close()

    # --- processes --------------------------------------------------------------------------------

    def record_steps(self) -> list[Step]:
        """Run the scenario to its end and return its steps."""
        self._prepare()
        ended = self._supervisor.run(self._order)
        assert not ended.error, ended.error
        assert ended.steps, "nothing outside was changed: there is no step to die after"
        self._wait_for_sandbox()
        return ended.steps

    def kill(self, after: int) -> None:
        """Run the scenario in a process that is killed after step number ``after``."""
        self._prepare()
        ended = self._supervisor.kill(self._order, after)
        assert ended.status == -9, f"it took other steps than the run to the end: {ended}"
        self._wait_for_sandbox()

    def stop(self, after: int) -> int:
        """Run the scenario in a process that stops after step number ``after``; return its process id."""
        self._prepare()
        pid = self._supervisor.stop(self._order, after)
        assert pid, "it took other steps than the run to the end"
        return pid

    def resume(self, pid: int) -> Ended:
        """Let a stopped process go on to its end."""
        ended = self._supervisor.resume(pid)
        assert (ended.status, ended.error) == (0, "")
        self._wait_for_sandbox()
        return ended

    def restart_workers(self) -> None:
        """Let workers run in rounds until nothing is left to do."""
        self.scenario.repair(self.env)
        if self.scenario.is_purging:
            self.env.maintain()
        for _ in range(ROUNDS):
            self.env.clock.move(900)
            self.env.rescue()
            self.env.operate()
            self.env.relay()
            self.env.clock.move(10)
            self.env.poll()
            if self._is_finished():
                return
        raise AssertionError(f"it never ends: {self.snapshot()}")

    @property
    def _order(self) -> dict[str, Any]:
        clock = self.env.clock.path
        return {"scenario": self.scenario.name, "alias": self.alias, "url": self.sandbox.url, "clock": clock}

    def _prepare(self) -> None:
        self._delete_rows()
        self.sandbox.reset()
        self.env.clock.set(START)
        self.scenario.prepare(self.env)
        for fault in self.scenario.faults:
            self.sandbox.fail_next(fault)
        self.env.context.client.close()

    def _delete_rows(self) -> None:
        with transaction.atomic(using=self.alias):
            for table in (*apps.get_app_config("evermuse_outbox").get_models(), Group):
                rows: Any = table._base_manager.using(self.alias).all()
                rows._raw_delete(self.alias)

    def _wait_for_sandbox(self) -> None:
        """Wait until the sandbox has handled everything that a dead process sent."""
        self.env.context.client.close()
        # The sandbox takes connections in order: after this one, it has taken all of the dead process.
        with socket.create_connection((self.sandbox.host, self.sandbox.port)) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            while connection.recv(4096):
                pass
        for thread in threading.enumerate():
            if "process_request_thread" in thread.name:
                thread.join(0.1)
                if thread.is_alive():
                    gc.collect()  # after an error, a client releases its connection only when it is collected
                thread.join(20)
                assert not thread.is_alive(), "the sandbox still serves a connection"

    def _is_finished(self) -> bool:
        batches = OutboxBatch.objects.using(self.alias)
        polled = batches.filter(next_poll_at__isnull=False)
        pending = OutboxRecord.rows.using(self.alias).pending()
        return not (batches.open().exists() or polled.exists() or pending.exists())

    # --- checks -----------------------------------------------------------------------------------

    @contextmanager
    def noting(self, action: str, number: int, step: Step) -> Iterator[None]:
        """Add to an exception where the process was killed or stopped."""
        try:
            yield
        except BaseException as error:
            error.add_note(f"{self.scenario.name} on {self.alias}: {action} after step {number}, {step}")
            raise

    def check(self) -> None:
        """Check the final states, and that no guarantee was broken on the way."""
        states = [row.state for row in self.env.records]
        if callable(self.scenario.expected):
            self.scenario.expected(self.env, states)
        else:
            assert states == self.scenario.expected.split()
        assert [arrival for arrival in self.sandbox.violations if arrival.key] == []
        if not self.scenario.is_purging:
            self._check_last_versions_at_evermuse()
            self._check_batches_kept_their_members()
            self._check_no_second_key_before_decision()

    def snapshot(self) -> list[list[Any]]:
        """Return all batches, records and rejections."""
        tables: tuple[Any, ...] = (OutboxBatch, OutboxRecord, OutboxRejection)
        return [list(table._base_manager.using(self.alias).order_by("pk").values()) for table in tables]

    def sent_keys(self) -> list[str]:
        """Return the idempotency keys of the POSTs in the order of their arrival."""
        return [arrival.idempotency_key for arrival in self.sandbox.arrivals if arrival.method == "POST"]

    def stored_lines(self) -> list[str]:
        """Return the lines that Evermuse has stored."""
        return sorted(stored.line.decode() for stored in self.sandbox.records() if stored.line)

    def _check_last_versions_at_evermuse(self) -> None:
        delivered = {row.identity: row.payload for row in self.env.records if row.state == "delivered"}
        assert self.stored_lines() == sorted(delivered.values())
        if not self.scenario.may_repeat:
            assert {stored.times for stored in self.sandbox.records()} <= {1}

    def _check_batches_kept_their_members(self) -> None:
        """Check that each member of a batch is in it, was rejected in it, or left after the batch was decided."""
        members = defaultdict(set)
        for row in OutboxRecord.rows.using(self.alias).filter(batch__isnull=False):
            members[row.batch_id].add(row.pk)
        for rejection in OutboxRejection.objects.using(self.alias).filter(batch__isnull=False):
            members[rejection.batch_id].add(rejection.record_id)
        batches = OutboxBatch.objects.using(self.alias)
        for batch in batches.order_by("-pk"):  # parts are newer than their parent
            is_decided = batch.state in DECIDED and not batch.in_doubt
            assert is_decided or len(members[batch.pk]) == batch.record_count, f"{batch} has lost its members"
            if batch.parent_id:
                members[batch.parent_id] |= members[batch.pk]

    def _check_no_second_key_before_decision(self) -> None:
        """Check that no record was sent under a second key while the batch of its first key was undecided."""
        sent_keys = self.sent_keys()
        batches = {batch.pk: batch for batch in OutboxBatch.objects.using(self.alias)}
        assert set(sent_keys) <= {batch.key for batch in batches.values()}, "sent before it was sealed"
        for batch in batches.values():
            parent = batches.get(batch.parent_id)
            if parent is None or batch.key not in sent_keys or parent.key not in sent_keys:
                continue
            assert parent.state in DECIDED
            assert not parent.in_doubt
            last = len(sent_keys) - sent_keys[::-1].index(parent.key)
            assert last <= sent_keys.index(batch.key), f"{parent} was sent again after its part {batch}"

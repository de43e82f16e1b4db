"""Where the CPU time of one batch goes: the host's enqueue, the worker and the database, statement by statement.

    python -m benchmarks batch                                  # 60 batches of 1,000 records on PostgreSQL.
    python -m benchmarks batch --batches 200 --batch 50         # small batches: the cost of a batch, not of records.

One process enqueues, seals, sends, settles and polls, without a rate limit. The CPU time of
PostgreSQL is that of the backend of this process, so the benchmark needs the server on this machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from tqdm import tqdm

from .common import sink, testbed
from .common.options import parser_of
from .common.query_plans import issuer, shape
from .common.records import records
from .common.report import Report
from .plans import NoThrottle

WARM_UP = 5
"""Batches before the measurement, which load modules and open connections."""

STAGES = {
    "seal": "evermuse_outbox.delivery.loop.relay.seal_next",
    "POST": "evermuse_outbox.delivery.loop.traces.post",
    "settle": "evermuse_outbox.delivery.loop.traces.settle",
}
"""Stages of a batch, and the functions that they are. The rest of a batch is the stage ``admit``."""


@dataclass
class Spent:
    """CPU seconds of this process and of the backend, and how often."""

    process: float = 0.0
    backend: float = 0.0
    times: int = 0


@dataclass
class Meter:
    """Sums CPU times by stage and by statement. ``stack`` has the stages that are open."""

    backend: int
    statements: dict[tuple[str, str, str], Spent] = field(default_factory=lambda: defaultdict(Spent))
    stages: dict[str, Spent] = field(default_factory=lambda: defaultdict(Spent))
    stack: list[str] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure a stage. Its time does not count for the stage around it."""
        outer = self.stack[-1] if self.stack else None
        process, backend = time.thread_time(), _spent(self.backend)
        self.stack.append(name)
        try:
            yield
        finally:
            self.stack.pop()
            process, backend = time.thread_time() - process, _spent(self.backend) - backend
            self._add(self.stages[name], process, backend)
            if outer:
                self._add(self.stages[outer], -process, -backend, times=0)

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function as a stage."""

        def measured(*args: Any, **kwargs: Any) -> Any:
            with self.stage(name):
                return function(*args, **kwargs)

        return measured

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        """Run a statement, and measure it. Django calls this for each statement."""
        process, backend = time.thread_time(), _spent(self.backend)
        try:
            return execute(sql, params, many, context)
        finally:
            process, backend = time.thread_time() - process, _spent(self.backend) - backend
            key = self.stack[-1] if self.stack else "", issuer(), shape(sql)
            self._add(self.statements[key], process, backend)

    @staticmethod
    def _add(spent: Spent, process: float, backend: float, times: int = 1) -> None:
        spent.process += process
        spent.backend += backend
        spent.times += times


def main(arguments: list[str]) -> None:
    """Run the benchmark."""
    options = _options(arguments)
    outbox = {"RATE_LIMIT": 100_000, "MAX_BATCH_RECORDS": options.batch, "SEARCH_INDEX": False}
    with (
        sink.running(delay=0, complete_after=0) as api,
        testbed.running(testbed.POSTGRES, api_url=api.url, **outbox) as bed,
    ):
        report = Report(options.name, vars(options))
        report.service("database", bed.version())
        _enqueue(options, WARM_UP, first=0)
        _deliver(Meter(os.getpid()), WARM_UP)
        bed.sql("ANALYZE")
        bed.sql("CHECKPOINT")
        meter = Meter(bed.sql("SELECT pg_backend_pid()")[0][0])
        with meter.stage("enqueue"):
            _enqueue(options, options.batches, first=WARM_UP * options.batch)
        _deliver(meter, options.batches)
        _add_tables(report, meter, options.batches)
        report.save()


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = parser_of("batch", __doc__, "--size")
    parser.add_argument(
        "--batches", type=int, metavar="N", default=60, help="batches to measure (default: 60)"
    )
    parser.add_argument(
        "--batch", type=int, metavar="N", default=1_000, help="records in a batch (default: 1000)"
    )
    return parser.parse_args(arguments)


def _enqueue(options: argparse.Namespace, batches: int, *, first: int) -> None:
    from evermuse_outbox import outbox

    for start in range(first, first + batches * options.batch, options.batch):
        outbox.enqueue_many(records(options.batch, options.size, first=start))


def _deliver(meter: Meter, batches: int) -> None:
    """Send that many batches, and poll them."""
    from django.db import connection

    from evermuse_outbox.delivery.context import open_context
    from evermuse_outbox.delivery.loop import Step, poll, send_next

    context = dataclasses.replace(open_context("default", "default"), throttle=NoThrottle())
    with ExitStack() as stack:
        stack.enter_context(connection.execute_wrapper(meter))
        for name, target in STAGES.items():
            original = _find(target)
            stack.enter_context(mock.patch(target, meter.wrap(name, original)))
        for number in tqdm(range(batches), unit=" batches", file=sys.stderr):
            with meter.stage("admit"):
                step = send_next(context, prefer_new=number % 2 == 1)
            if step is not Step.SENT:
                raise RuntimeError(f"No batch was sent: {step}")
        time.sleep(1.2 * context.settings.poll_interval)
        with meter.stage("poll"):
            poll(context, 5)


def _find(target: str) -> Any:
    from importlib import import_module

    module, name = target.rsplit(".", 1)
    return getattr(import_module(module), name)


def _spent(pid: int) -> float:
    """Return the CPU seconds of a process, as exact as the scheduler counts them."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def _add_tables(report: Report, meter: Meter, batches: int) -> None:
    count, cpu = "statements", "ms"
    stages = [*meter.stages]
    by_stage = {
        stage: sum(spent.times for key, spent in meter.statements.items() if key[0] == stage)
        for stage in stages
    }
    rows = [
        [stage, by_stage[stage] / batches, 1_000 * spent.process / batches, 1_000 * spent.backend / batches]
        for stage, spent in meter.stages.items()
    ]
    rows.append(["sum", *(sum(row[column] for row in rows) for column in (1, 2, 3))])
    title = "CPU milliseconds of a batch"
    report.table(title, ["stage", f"{count} per batch", f"process, {cpu}", f"PostgreSQL, {cpu}"], rows)
    rows = [
        [
            stage,
            by,
            sql[:60],
            spent.times / batches,
            1_000 * spent.process / batches,
            1_000 * spent.backend / batches,
        ]
        for (stage, by, sql), spent in meter.statements.items()
    ]
    title = "The statements: CPU milliseconds of a batch"
    report.table(
        title, ["stage", "issued by", "statement", "times", f"process, {cpu}", f"PostgreSQL, {cpu}"], rows
    )
    report.raw["statements"] = rows

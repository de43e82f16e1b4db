"""Every query of the pipeline on a table that grows: its plan, the rows it reads, and the cost of a batch.

    python -m benchmarks plans                                  # 10,000, 100,000 and 1,000,000 delivered rows
    python -m benchmarks plans --rows 10000 1000000 10000000    # needs about 5 GB a million rows
    python -m benchmarks plans --statistics none                # as on a database that nobody ever analyzed
    python -m benchmarks plans --statistics stale               # analyzed when the table was small, then never again

The queries are not listed anywhere: whatever the functions of the pipeline ask while one batch is sealed, leased, sent,
settled and followed, and while a chunk is purged, is caught on its way to PostgreSQL and explained there. The table
holds records that were delivered lately, some that are old enough to be purged, and some that wait. Then another
transaction holds an old snapshot while batches go on, so that nothing that they leave behind can be cleared away.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from statistics import median
from typing import Any

from tqdm import tqdm

from .common import bulk_rows, machine, sink, testbed
from .common.options import parser_of
from .common.query_plans import Statement, captured
from .common.report import Report

BATCHES = 20
"""Whose median is the cost of a batch."""


def main(arguments: list[str]) -> None:
    """Runs the benchmark."""
    options = _options(arguments)
    with (
        sink.running(delay=0, complete_after=0) as api,
        testbed.running(testbed.POSTGRES, api_url=api.url) as bed,
    ):
        report = Report(options.name, vars(options))
        report.service("database", bed.version())
        report.note(
            f"statistics: {options.statistics}; autovacuum of the server: {bed.sql('SHOW autovacuum')[0][0]}"
        )
        costs: dict[str, dict[str, float]] = {}
        for count in sorted(options.rows):
            _grow(bed, count, options)
            costs[f"{count:,}"] = _cost(bed, options)
            _tell_plans(report, f"{count:,} delivered rows", _explained())
        _add_old(options)
        with _old_snapshot(options.dead):
            costs["the same, old snapshot"] = _cost(bed, options)
            _tell_plans(report, f"the same under an old snapshot, after {options.dead} batches", _explained())
        _tell_costs(report, costs)
        report.raw["costs"] = costs
        report.save(lambda figure: _draw(figure, costs))


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = parser_of("plans", __doc__, "--size")
    sizes = [10_000, 100_000, 1_000_000]
    parser.add_argument(
        "--rows", type=int, nargs="+", default=sizes, help="delivered rows; default: 10000 100000 1000000"
    )
    parser.add_argument("--pending", type=int, default=60_000, help="records that wait; default: 60000")
    parser.add_argument(
        "--statistics",
        choices=("fresh", "stale", "none"),
        default="fresh",
        help="what the planner knows: all, the table as it was at first, or nothing; default: fresh",
    )
    parser.add_argument(
        "--dead",
        type=int,
        default=200,
        help="batches under the old snapshot before it is measured; default: 200",
    )
    return parser.parse_args(arguments)


# --- the table ----------------------------------------------------------------------------------------


def _grow(bed: testbed.Testbed, count: int, options: argparse.Namespace) -> None:
    """The table has ``count`` delivered rows then, and enough that wait or are old."""
    from evermuse_outbox.models import OutboxRecord

    rows = OutboxRecord.rows.filter(batch__isnull=False).count()
    with tqdm(total=count, initial=rows, unit=" rows", desc="grow", file=sys.stderr) as bar:
        while (missing := count - rows) > 0:
            bulk_rows.add_delivered(min(missing, bulk_rows.SLICE), days_ago=3, size=options.size)
            rows += min(missing, bulk_rows.SLICE)
            bar.update(min(missing, bulk_rows.SLICE))
    _add_old(options)
    waiting = OutboxRecord.rows.pending().count()
    bulk_rows.add_pending(max(0, options.pending - waiting), size=options.size)
    first = count == min(options.rows)
    if options.statistics == "fresh" or (options.statistics == "stale" and first):
        bed.sql("VACUUM (ANALYZE)")
    bed.sql("CHECKPOINT")  # what growing wrote is not to be written while batches are measured


def _add_old(options: argparse.Namespace) -> None:
    """More than the purge gets through while it is measured and explained."""
    bulk_rows.add_delivered(5 * BATCHES * bulk_rows.BATCH, days_ago=30, size=options.size)


@contextmanager
def _old_snapshot(batches: int) -> Iterator[None]:
    """Another transaction that has looked once and is not over; ``batches`` are sent meanwhile."""
    import os

    import psycopg

    bulk_rows.add_pending((batches + 2 * BATCHES) * bulk_rows.BATCH)
    with psycopg.connect(os.environ["DATABASE_URL"]) as other:
        other.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        other.execute("SELECT count(*) FROM evermuse_outbox_outboxworkspace")
        context = _channel()
        for _ in tqdm(range(batches), unit=" batches", desc="old snapshot", file=sys.stderr):
            _send(context)
        yield


# --- what the pipeline does ---------------------------------------------------------------------------


class Unpaced:
    """A throttle that lets everybody in."""

    def wait(self) -> float:
        return 0.0

    def reserve(self, patience: float) -> Any:
        from evermuse_outbox.ratelimit import Reservation

        return Reservation(0.0, taken=True)

    def acquire(self) -> Any:
        from evermuse_outbox.ratelimit import Admission

        return Admission(0.0, "permit")

    def release(self, permit: str, *, is_send: bool) -> None:
        pass

    def block(self, seconds: float) -> None:
        pass


def _channel(ahead: float = 0.0) -> Any:
    """The default workspace, unpaced, on a clock that is so many seconds ahead."""
    from django.utils import timezone

    from evermuse_outbox.delivery.context import Clock, open_context

    clock = Clock(now=lambda: timezone.now() + timedelta(seconds=ahead))
    return dataclasses.replace(open_context("default", "default"), throttle=Unpaced(), clock=clock)


def _send(context: Any) -> None:
    from evermuse_outbox.delivery.loop import Step, send_next

    if send_next(context) is not Step.SENT:
        raise RuntimeError("nothing was sent")


def _lease(context: Any) -> None:
    """A batch that waits, sealed before, is leased and sent."""
    from evermuse_outbox.delivery.loop import seal_next, send
    from evermuse_outbox.delivery.sending import give_back, lease_due

    sealed = lease_due(context)
    if sealed is None:
        give_back(context, seal_next(context))
        sealed = lease_due(context)
    send(context, sealed)


def _track(context: Any) -> None:
    from evermuse_outbox.delivery.polling import poll_due_batch

    while poll_due_batch(context):
        pass


def _purge(context: Any, seconds: float = 0.02) -> int:
    from evermuse_outbox.upkeep.purge import purge

    return purge(context.using, context.clock, 14, seconds)


STEPS: dict[str, Callable[[Any], Any]] = {"send": _send, "lease": _lease, "track": _track, "purge": _purge}


def _explained() -> dict[str, list[Statement]]:
    """The statements of each step, with their plans."""
    told = {}
    for name, step in STEPS.items():
        with captured(explain=True) as statements:
            step(_channel(60 if name == "track" else 0))
        told[name] = statements
    return told


def _cost(bed: testbed.Testbed, options: argparse.Namespace) -> dict[str, float]:
    """The median batch: milliseconds in all, in the database, of PostgreSQL's CPU, and how many statements."""
    context, times, inside, counts = _channel(), [], [], []
    _send(context)
    meter = machine.CpuMeter()
    for _ in range(BATCHES):
        started = time.perf_counter()
        with captured() as statements:
            _send(context)
        times.append(time.perf_counter() - started)
        inside.append(sum(statement.seconds for statement in statements))
        counts.append(len(statements))
    cpu = meter.read()["postgres"] / BATCHES
    tracked = _timed(lambda: _track(_channel(60))) / (BATCHES + 1)
    started = time.perf_counter()
    purged = _purge(context, 0.5)
    purging = time.perf_counter() - started
    figures = {
        "send": median(times),
        "… in the database": median(inside),
        "… CPU of PostgreSQL": cpu,
        "track": tracked,
        "purge 1,000": purging / max(purged, 1) * 1_000,
    }
    return {name: 1_000 * value for name, value in figures.items()} | {"statements": median(counts)}


def _timed(step: Callable[[], None]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


# --- what is told -------------------------------------------------------------------------------------


def _tell_plans(report: Report, title: str, told: dict[str, list[Statement]]) -> None:
    report.raw.setdefault("plans", {})[title] = {
        step: [dataclasses.asdict(statement) | {"plan": None} for statement in statements]
        for step, statements in told.items()
    }
    headers = ["step", "issued by", "statement", "times", "rows read", "blocks", "ms", "beware", "plan"]
    rows = [[step, *row] for step, statements in told.items() for row in _rows(statements)]
    report.table(title, headers, rows)


def _rows(statements: list[Statement]) -> Iterator[list[Any]]:
    """A row for all statements that are alike, which tells of the worst of them."""
    alike: dict[tuple[str, str], list[Statement]] = defaultdict(list)
    for statement in statements:
        alike[statement.issued_by, statement.sql].append(statement)
    for (issuer, sql), same in alike.items():
        worst = max(same, key=lambda statement: (len(statement.warnings), statement.rows_read))
        nodes = ", ".join(dict.fromkeys(worst.nodes))
        beware = "; ".join(worst.warnings) or "–"
        yield [issuer, sql.split()[0], len(same), worst.rows_read, worst.blocks, worst.ms, beware, nodes]


def _tell_costs(report: Report, costs: dict[str, dict[str, float]]) -> None:
    first = next(iter(costs.values()))
    title = "Cost of a batch of 1,000 in ms, and how many times that of the smallest table"
    told = [
        [rows, *(f"{cost[name]:.1f} ({cost[name] / first[name]:.2f} ×)" for name in first)]
        for rows, cost in costs.items()
    ]
    report.table(title, ["rows", *first], told)


def _draw(figure: Any, costs: dict[str, dict[str, float]]) -> None:
    axes = figure.subplots()
    for name in ("send", "… in the database", "… CPU of PostgreSQL", "purge 1,000"):
        axes.plot(list(costs), [cost[name] for cost in costs.values()], marker="o", label=name)
    axes.set(xlabel="delivered rows", ylabel="ms", title="Cost of a batch of 1,000 records", ylim=(0, None))
    axes.legend()

"""Query plans and cost per batch on a growing table, for every query of the delivery.

    python -m benchmarks plans                                  # 10,000, 100,000 and 1,000,000 delivered rows.
    python -m benchmarks plans --rows 10000 1000000 10000000    # needs about 5 GB per million rows.
    python -m benchmarks plans --statistics none                # a database without planner statistics.
    python -m benchmarks plans --statistics stale               # analyzed only when the table was small.

The benchmark seals, leases, sends, settles and polls a batch, and purges a chunk of records. It records every
statement on the way to PostgreSQL, and explains it. So there is no list of queries to maintain.

The table has recently delivered records, records that are old enough to be purged, and pending records. At the
end, another transaction holds an old snapshot while batches are sent, so that VACUUM cannot remove dead rows.
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
"""Number of batches for the median cost."""


def main(arguments: list[str]) -> None:
    """Run the benchmark."""
    options = _options(arguments)
    with (
        sink.running(delay=0, complete_after=0) as api,
        testbed.running(testbed.POSTGRES, api_url=api.url) as bed,
    ):
        report = Report(options.name, vars(options))
        report.service("database", bed.version())
        report.note(
            f"planner statistics: {options.statistics}; autovacuum on the server: {bed.sql('SHOW autovacuum')[0][0]}"
        )
        costs: dict[str, dict[str, float]] = {}
        for count in sorted(options.rows):
            _grow(bed, count, options)
            costs[f"{count:,}"] = _cost()
            _add_plan_table(report, f"{count:,} delivered rows", _explain_steps())
        _add_old(options)
        with _old_snapshot(options.dead):
            costs["same, old snapshot"] = _cost()
            _add_plan_table(
                report, f"same rows, after {options.dead} batches under an old snapshot", _explain_steps()
            )
        _add_cost_table(report, costs)
        report.raw["costs"] = costs
        report.save(lambda figure: _draw(figure, costs))


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = parser_of("plans", __doc__, "--size")
    sizes = [10_000, 100_000, 1_000_000]
    parser.add_argument(
        "--rows",
        type=int,
        metavar="N",
        nargs="+",
        default=sizes,
        help="delivered rows (default: 10000 100000 1000000)",
    )
    parser.add_argument(
        "--pending", type=int, metavar="N", default=60_000, help="pending records (default: 60000)"
    )
    parser.add_argument(
        "--statistics",
        choices=("fresh", "stale", "none"),
        default="fresh",
        help="planner statistics: up to date, of the smallest table, or none (default: fresh)",
    )
    parser.add_argument(
        "--dead",
        type=int,
        metavar="N",
        default=200,
        help="batches to send under the old snapshot before measuring (default: 200)",
    )
    return parser.parse_args(arguments)


# --- the table ----------------------------------------------------------------------------------------


def _grow(bed: testbed.Testbed, count: int, options: argparse.Namespace) -> None:
    """Add rows until ``count`` are delivered, and add pending and old rows for the measurement."""
    from evermuse_outbox.models import OutboxRecord

    rows = OutboxRecord.rows.filter(batch__isnull=False).count()
    with tqdm(total=count, initial=rows, unit=" rows", desc="grow", file=sys.stderr) as bar:
        while (missing := count - rows) > 0:
            bulk_rows.add_delivered(min(missing, bulk_rows.SLICE), days_ago=3, size=options.size)
            rows += min(missing, bulk_rows.SLICE)
            bar.update(min(missing, bulk_rows.SLICE))
    _add_old(options)
    pending = OutboxRecord.rows.pending().count()
    bulk_rows.add_pending(max(0, options.pending - pending), size=options.size)
    is_first = count == min(options.rows)
    if options.statistics == "fresh" or (options.statistics == "stale" and is_first):
        bed.sql("VACUUM (ANALYZE)")
    bed.sql("CHECKPOINT")  # write the new rows to disk now, and not during the measurement


def _add_old(options: argparse.Namespace) -> None:
    """Add more old rows than the purge deletes while it is measured and explained."""
    bulk_rows.add_delivered(5 * BATCHES * bulk_rows.BATCH, days_ago=30, size=options.size)


@contextmanager
def _old_snapshot(batches: int) -> Iterator[None]:
    """Hold an old snapshot in another transaction, and send ``batches`` meanwhile."""
    import os

    import psycopg

    bulk_rows.add_pending((batches + 2 * BATCHES) * bulk_rows.BATCH)
    with psycopg.connect(os.environ["DATABASE_URL"]) as other:
        other.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        other.execute("SELECT count(*) FROM evermuse_outbox_outboxworkspace")
        context = _open_context()
        for _ in tqdm(range(batches), unit=" batches", desc="old snapshot", file=sys.stderr):
            _send(context)
        yield


# --- the steps of the delivery ------------------------------------------------------------------------


class NoThrottle:
    """A throttle that grants every permit at once."""

    def wait(self) -> float:
        """Return 0: the next slot is free."""
        return 0.0

    def reserve(self, patience: float) -> Any:
        """Reserve a slot without a wait."""
        from evermuse_outbox.ratelimit import Reservation

        return Reservation(0.0, taken=True)

    def acquire(self) -> Any:
        """Grant a permit."""
        from evermuse_outbox.ratelimit import Admission

        return Admission(0.0, "permit")

    def release(self, permit: str, *, is_comparable: bool) -> None:
        """Do nothing."""

    def block(self, seconds: float) -> None:
        """Do nothing."""


def _open_context(ahead: float = 0.0) -> Any:
    """Open a delivery context without a rate limit. Its clock is ``ahead`` seconds ahead."""
    from django.utils import timezone

    from evermuse_outbox.delivery.context import Clock, open_context

    clock = Clock(now=lambda: timezone.now() + timedelta(seconds=ahead))
    return dataclasses.replace(open_context("default", "default"), throttle=NoThrottle(), clock=clock)


def _send(context: Any) -> None:
    """Seal and send a batch."""
    from evermuse_outbox.delivery.loop import Step, send_next

    if send_next(context) is not Step.SENT:
        raise RuntimeError("No batch was sent. A larger value of --pending may help.")


def _lease(context: Any) -> None:
    """Lease and send a batch that was sealed before."""
    from evermuse_outbox.delivery.loop import seal_next, send
    from evermuse_outbox.delivery.sending import give_back, lease_due

    sealed = lease_due(context)
    if sealed is None:
        give_back(context, seal_next(context))
        sealed = lease_due(context)
    send(context, sealed)


def _poll(context: Any) -> None:
    """Poll all accepted batches."""
    from evermuse_outbox.delivery.polling import poll_due_batch

    while poll_due_batch(context):
        pass


def _purge(context: Any, seconds: float = 0.02) -> int:
    """Purge old records for that many seconds, and return their number."""
    from evermuse_outbox.upkeep import purge_old_rows

    return purge_old_rows(context.using, context.clock, 14, seconds)


STEPS: dict[str, Callable[[Any], Any]] = {"send": _send, "lease": _lease, "poll": _poll, "purge": _purge}


def _explain_steps() -> dict[str, list[Statement]]:
    """Run each step once, and return its statements with their plans."""
    explained = {}
    for name, step in STEPS.items():
        with captured(explain=True) as statements:
            step(_open_context(60 if name == "poll" else 0))
        explained[name] = statements
    return explained


def _cost() -> dict[str, float]:
    """Return the median cost of a batch: milliseconds in all and in the database, CPU of PostgreSQL, statements."""
    context, times, database_times, counts = _open_context(), [], [], []
    _send(context)
    meter = machine.CpuMeter()
    for _ in range(BATCHES):
        started = time.perf_counter()
        with captured() as statements:
            _send(context)
        times.append(time.perf_counter() - started)
        database_times.append(sum(statement.seconds for statement in statements))
        counts.append(len(statements))
    cpu = meter.read()["postgres"] / BATCHES
    poll_seconds = _time(lambda: _poll(_open_context(60))) / (BATCHES + 1)
    started = time.perf_counter()
    purged = _purge(context, 0.5)
    purge_seconds = time.perf_counter() - started
    figures = {
        "send": median(times),
        "… in the database": median(database_times),
        "… CPU of PostgreSQL": cpu,
        "poll": poll_seconds,
        "purge 1,000": purge_seconds / max(purged, 1) * 1_000,
    }
    return {name: 1_000 * value for name, value in figures.items()} | {"statements": median(counts)}


def _time(step: Callable[[], None]) -> float:
    """Return the seconds that a step takes."""
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


# --- tables and plot ----------------------------------------------------------------------------------


def _add_plan_table(report: Report, title: str, explained: dict[str, list[Statement]]) -> None:
    report.raw.setdefault("plans", {})[title] = {
        step: [dataclasses.asdict(statement) | {"plan": None} for statement in statements]
        for step, statements in explained.items()
    }
    headers = ["step", "issued by", "statement", "times", "rows read", "blocks", "ms", "warnings", "plan"]
    rows = [[step, *row] for step, statements in explained.items() for row in _rows(statements)]
    report.table(title, headers, rows)


def _rows(statements: list[Statement]) -> Iterator[list[Any]]:
    """Yield a row for equal statements, with the figures of the most expensive one."""
    equal: dict[tuple[str, str], list[Statement]] = defaultdict(list)
    for statement in statements:
        equal[statement.issued_by, statement.sql].append(statement)
    for (issuer, sql), group in equal.items():
        worst = max(group, key=lambda statement: (len(statement.warnings), statement.rows_read))
        nodes = ", ".join(dict.fromkeys(worst.nodes))
        warnings = "; ".join(worst.warnings) or "–"
        yield [issuer, sql.split()[0], len(group), worst.rows_read, worst.blocks, worst.ms, warnings, nodes]


def _add_cost_table(report: Report, costs: dict[str, dict[str, float]]) -> None:
    first = next(iter(costs.values()))
    title = "Cost of a batch of 1,000 records in ms (× cost on the smallest table)"
    lines = [
        [rows, *(f"{cost[name]:.1f} ({cost[name] / first[name]:.2f} ×)" for name in first)]
        for rows, cost in costs.items()
    ]
    report.table(title, ["rows", *first], lines)


def _draw(figure: Any, costs: dict[str, dict[str, float]]) -> None:
    axes = figure.subplots()
    for name in ("send", "… in the database", "… CPU of PostgreSQL", "purge 1,000"):
        axes.plot(list(costs), [cost[name] for cost in costs.values()], marker="o", label=name)
    axes.set(xlabel="delivered rows", ylabel="ms", title="Cost of a batch of 1,000 records", ylim=(0, None))
    axes.legend()

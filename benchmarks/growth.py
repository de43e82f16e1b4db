"""Purge of a million old rows during delivery: its speed, its cost, and the bloat of the table.

    python -m benchmarks growth                                # purge 1,000,000 rows.
    python -m benchmarks growth --old 100000 --records 100000  # a short run.
    python -m benchmarks growth --workers 2 --delay 0.3        # two workers, a slow API.

Celery workers deliver the same backlog twice at the published rate limit. In the first drain, no delivered row is
old enough to be purged. Before the second drain, old rows are added, and the maintenance task of the workers purges
them during the drain. The size of the table and its dead rows are sampled every half second.

If autovacuum is off on the server, the benchmark runs VACUUM (ANALYZE) itself, at the thresholds that the migrations
set for autovacuum, and reports this.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from tqdm import tqdm

from .common import bulk_rows, machine, sink, testbed
from .common.options import parser_of
from .common.report import Report, percentile

RECORDS = "evermuse_outbox_outboxrecord"


def main(arguments: list[str]) -> None:
    """Run the benchmark."""
    options = _options(arguments)
    with (
        sink.running(delay=options.delay) as api,
        testbed.running(
            testbed.POSTGRES, api_url=api.url, RATE_LIMIT=options.rate, SENDERS=options.senders
        ) as bed,
    ):
        report = Report(options.name, vars(options))
        report.service("database", bed.version())
        is_off = bed.sql("SHOW autovacuum")[0][0] == "off"
        if is_off:
            report.note("Autovacuum is off on this server. The benchmark runs VACUUM (ANALYZE) instead.")
        monitor = TableMonitor(bed.database_url, vacuums=is_off and options.vacuum)
        runs = []
        with monitor.running():
            _fill(bulk_rows.add_delivered, options.young, "young rows", days_ago=3)
            runs.append(_run(bed, api, monitor, options, "without purge"))
            _fill(bulk_rows.add_delivered, options.old, "old rows", days_ago=30)
            runs.append(_run(bed, api, monitor, options, "with purge"))
            remaining = _purge_remaining()
        after = _vacuum_and_sample(bed)
        _add_tables(report, options, runs, remaining, after, monitor)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = parser_of("growth", __doc__, "--workers", "--rate", "--delay")
    parser.add_argument(
        "--old", type=int, metavar="N", default=1_000_000, help="old rows to purge (default: 1000000)"
    )
    parser.add_argument(
        "--young",
        type=int,
        metavar="N",
        default=100_000,
        help="delivered rows that are not purged (default: 100000)",
    )
    parser.add_argument(
        "--records",
        type=int,
        metavar="N",
        default=300_000,
        help="records to deliver in each drain (default: 300000)",
    )
    parser.add_argument(
        "--senders", type=int, metavar="N", default=10, help="the setting SENDERS (default: 10)"
    )
    parser.add_argument(
        "--no-vacuum", dest="vacuum", action="store_false", help="do not run VACUUM if autovacuum is off"
    )
    return parser.parse_args(arguments)


def _fill(add: Any, count: int, title: str, **options: Any) -> None:
    with tqdm(total=count, unit=" rows", desc=title, file=sys.stderr) as bar:
        for done in range(0, count, bulk_rows.SLICE):
            add(min(bulk_rows.SLICE, count - done), **options)
            bar.update(min(bulk_rows.SLICE, count - done))


# --- one drain ----------------------------------------------------------------------------------------


def _run(
    bed: testbed.Testbed, api: sink.Sink, monitor: TableMonitor, options: argparse.Namespace, name: str
) -> dict[str, Any]:
    """Deliver a backlog, and return the sends, the cost, and the speed of the purge."""
    _fill(bulk_rows.add_pending, options.records, f"{name}: backlog")
    bed.sql(f"VACUUM (ANALYZE) {RECORDS}")
    bed.sql("CHECKPOINT")
    previous_sends, wal = len(api.figures()["sends"]), bed.wal_position()
    meter = machine.CpuMeter(sink=[api.process.pid])
    bed.start_workers(options.workers)
    meter.add(workers=[worker.pid for worker in bed.workers])
    figures = api.wait_for(options.records, f"{name}: deliver", after=previous_sends)
    cpu = meter.read()
    bed.stop_workers()
    sends = sorted(send[0] for send in figures["sends"][previous_sends:])
    return {
        "name": name,
        "sends": sends,
        "cpu": cpu,
        "wal": bed.wal_position() - wal,
        "purged a second": monitor.purged_per_second(sends[0], sends[-1]),
        "began": sends[0],
        "ended": sends[-1],
    }


def _purge_remaining() -> dict[str, float]:
    """Purge the old rows that are left after the drain, without other load."""
    from evermuse_outbox.delivery.context import Clock
    from evermuse_outbox.upkeep import PurgeProgress, purge_old_rows

    started, count, progress = time.monotonic(), 0, PurgeProgress()
    meter = machine.CpuMeter()
    while deleted := purge_old_rows("default", Clock.of("default"), 14, 1.0, progress):
        count += deleted
    seconds = time.monotonic() - started
    return {"purged": count, "seconds": seconds, "postgres": meter.read()["postgres"]}


def _vacuum_and_sample(bed: testbed.Testbed) -> dict[str, Any]:
    """Return the figures of the table after a last VACUUM."""
    bed.sql(f"VACUUM (ANALYZE) {RECORDS}")
    time.sleep(1.5)  # PostgreSQL publishes its statistics with a delay
    return _sample_table(bed.sql)


# --- the monitor of the table --------------------------------------------------------------------------


class TableMonitor:
    """Samples the table every half second. With ``vacuums`` it also runs VACUUM at the migrations' thresholds."""

    def __init__(self, url: str, *, vacuums: bool) -> None:
        self._url, self._vacuums = url, vacuums
        self._stopped = threading.Event()
        self.samples: list[dict[str, Any]] = []
        self.vacuums: list[tuple[float, float]] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the monitor in threads, and stop it at the end."""
        steps = [self._sample, *([self._vacuum] if self._vacuums else [])]
        threads = [threading.Thread(target=self._repeat, args=(step,)) for step in steps]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            for thread in threads:
                thread.join()

    def purged_per_second(self, start: float, end: float) -> float:
        """Return the purged rows per second between these times, from the first purge to the last."""
        samples = [sample for sample in self.samples if start <= sample["at"] <= end]
        purging = [sample for sample, following in pairwise(samples) if following["old"] < sample["old"]]
        if len(purging) < 2:
            return 0.0
        return (purging[0]["old"] - purging[-1]["old"]) / (purging[-1]["at"] - purging[0]["at"])

    def _repeat(self, step: Any) -> None:
        import psycopg

        with psycopg.connect(self._url, autocommit=True) as connection:
            while not self._stopped.wait(0.5):
                step(lambda statement: connection.execute(statement))

    def _sample(self, execute: Any) -> None:
        self.samples.append(_sample_table(lambda statement: execute(statement).fetchall()))

    def _vacuum(self, execute: Any) -> None:
        is_due = f"SELECT n_dead_tup > 10000 + 0.02 * n_live_tup FROM pg_stat_user_tables WHERE relname = '{RECORDS}'"
        if execute(is_due).fetchone()[0]:
            # The same cost limit as the migrations set for autovacuum.
            execute("SET vacuum_cost_delay = 2")
            execute("SET vacuum_cost_limit = 2000")
            started = time.time()
            execute(f"VACUUM (ANALYZE) {RECORDS}")
            self.vacuums.append((started, time.time()))
            self._stopped.wait(10)


def _sample_table(rows: Any) -> dict[str, Any]:
    """Return the live and dead rows by PostgreSQL's statistics, the sizes in bytes, and the rows to purge."""
    live, dead, heap, indexes = rows(
        f"SELECT n_live_tup, n_dead_tup, pg_table_size(relid), pg_indexes_size(relid) "
        f"FROM pg_stat_user_tables WHERE relname = '{RECORDS}'"
    )[0]
    ((old,),) = rows(
        "SELECT coalesce(sum(record_count), 0) FROM evermuse_outbox_outboxbatch "
        "WHERE finished_at < now() - interval '14 days' AND next_poll_at IS NULL"
    )
    return {"at": time.time(), "live": live, "dead": dead, "heap": heap, "indexes": indexes, "old": int(old)}


# --- tables and plot ----------------------------------------------------------------------------------


def _add_tables(
    report: Report,
    options: argparse.Namespace,
    runs: list[dict[str, Any]],
    remaining: dict[str, float],
    after: dict[str, Any],
    monitor: TableMonitor,
) -> None:
    report.raw |= {
        "runs": runs,
        "rest": remaining,
        "after": after,
        "samples": monitor.samples,
        "vacuums": monitor.vacuums,
    }
    columns = [_figures(run, options) for run in runs]
    report.table(
        f"{options.records:,} records delivered, {options.old:,} old rows to purge, "
        f"worker processes: {options.workers}",
        ["figure", *(run["name"] for run in runs), "with / without purge"],
        [
            [figure, *(column[figure] for column in columns), _ratio(*(column[figure] for column in columns))]
            for figure in columns[0]
        ],
    )
    report.table(
        "The purge without other load, and the table",
        ["figure", "value"],
        [
            ["old rows left to purge after the drain", remaining["purged"]],
            [
                "rows purged per second, without other load",
                remaining["purged"] / remaining["seconds"] if remaining["purged"] else "-",
            ],
            [
                "… CPU of PostgreSQL per 1,000 rows, ms",
                1e6 * remaining["postgres"] / max(remaining["purged"], 1),
            ],
            ["maximum of dead rows", max(sample["dead"] for sample in monitor.samples)],
            [
                "maximum size of the table with TOAST, MB",
                max(sample["heap"] for sample in monitor.samples) / 1e6,
            ],
            ["vacuums by this benchmark", len(monitor.vacuums)],
            ["live rows after a last vacuum", after["live"]],
            ["… dead rows", after["dead"]],
            ["… size of the table, MB", after["heap"] / 1e6],
            ["… size of the indexes, MB", after["indexes"] / 1e6],
        ],
    )
    report.save(lambda figure: _draw(figure, runs, monitor), size=(9, 7))


def _figures(run: dict[str, Any], options: argparse.Namespace) -> dict[str, float]:
    times, thousands = run["sends"], options.records / 1_000
    gaps = [1_000 * (later - earlier) for earlier, later in pairwise(times)]
    return {
        "sends per second": (len(times) - 1) / (times[-1] - times[0]),
        "interval between sends, p50 in ms": percentile(gaps, 0.5),
        "… p99 in ms": percentile(gaps, 0.99),
        "CPU per 1,000 records, ms": 1_000 * run["cpu"]["all"] / thousands,
        "… PostgreSQL": 1_000 * run["cpu"]["postgres"] / thousands,
        "… workers": 1_000 * run["cpu"]["workers"] / thousands,
        "busy share of all cores, %": 100 * run["cpu"]["machine"],
        "WAL per record, bytes": run["wal"] / options.records,
        "rows purged per second": run["purged a second"],
        "maximum of sends in a sliding second": sink.max_per_sliding_second(times),
    }


def _ratio(without: float, with_purge: float) -> str:
    return f"{with_purge / without:.2f}" if without else "-"


def _draw(figure: Any, runs: list[dict[str, Any]], monitor: TableMonitor) -> None:
    above, below = figure.subplots(2, 1, sharex=True)
    start = monitor.samples[0]["at"]
    times = [sample["at"] - start for sample in monitor.samples]
    above.plot(times, [sample["heap"] / 1e6 for sample in monitor.samples], label="table in MB")
    above.plot(times, [sample["dead"] / 1e3 for sample in monitor.samples], label="dead rows in 1,000")
    above.plot(times, [sample["old"] / 1e3 for sample in monitor.samples], label="rows to purge in 1,000")
    for began, ended in monitor.vacuums:
        above.axvspan(began - start, ended - start, alpha=0.2, color="grey")
    above.set(title="The record table (grey: vacuum)", ylim=(0, None))
    above.legend()
    for run in runs:
        arrivals = [time_ - start for time_ in run["sends"]]
        below.hist(arrivals, bins=max(1, int(arrivals[-1] - arrivals[0])), label=run["name"])
    below.set(xlabel="seconds", ylabel="sends per second", title="Arrival of the sends")
    below.legend()

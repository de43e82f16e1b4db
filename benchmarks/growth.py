"""A table full of old rows: does the purge keep up, what does it cost the pipeline, and how much bloat is left.

    python -m benchmarks growth                                        # a million old rows, two drains of 300,000
    python -m benchmarks growth --old 100000 --records 100000          # short
    python -m benchmarks growth --workers 2 --delay 0.3

The same backlog is drained twice at the published pace by real Celery workers. In the first drain all delivered rows
are young: the purge looks and finds nothing. Before the second one, rows that ended long ago are added, and the
workers' own maintenance purges them meanwhile, as fast as it does. The table, its dead rows and its size are watched
all the time. Where autovacuum is off on the server, this benchmark runs VACUUM (ANALYZE) at the thresholds that the
migrations set, as autovacuum would, and says so.
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
    """Runs the benchmark."""
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
            report.note(
                "autovacuum is off on this server; this benchmark runs VACUUM (ANALYZE) in its place."
            )
        watch = Watch(bed.database_url, vacuums=is_off and options.vacuum)
        runs = []
        with watch.running():
            _fill(bulk_rows.add_delivered, options.young, "young rows", days_ago=3)
            runs.append(_run(bed, api, watch, options, "without"))
            _fill(bulk_rows.add_delivered, options.old, "old rows", days_ago=30)
            runs.append(_run(bed, api, watch, options, "purging"))
            rest = _purge_rest(bed, watch)
        after = _vacuumed(bed)
        _tell(report, options, runs, rest, after, watch)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = parser_of("growth", __doc__, "--workers", "--rate", "--delay")
    parser.add_argument("--old", type=int, default=1_000_000, help="rows to purge; default: 1000000")
    parser.add_argument(
        "--young", type=int, default=100_000, help="delivered rows that stay; default: 100000"
    )
    parser.add_argument(
        "--records", type=int, default=300_000, help="to deliver in each drain; default: 300000"
    )
    parser.add_argument("--senders", type=int, default=10, help="SENDERS; default: 10")
    parser.add_argument(
        "--no-vacuum", dest="vacuum", action="store_false", help="no VACUUM where autovacuum is off"
    )
    return parser.parse_args(arguments)


def _fill(add: Any, count: int, what: str, **told: Any) -> None:
    with tqdm(total=count, unit=" rows", desc=what, file=sys.stderr) as bar:
        for done in range(0, count, bulk_rows.SLICE):
            add(min(bulk_rows.SLICE, count - done), **told)
            bar.update(min(bulk_rows.SLICE, count - done))


# --- one drain ----------------------------------------------------------------------------------------


def _run(
    bed: testbed.Testbed, api: sink.Sink, watch: Watch, options: argparse.Namespace, name: str
) -> dict[str, Any]:
    """Drains a backlog, and tells what it cost and what was purged meanwhile."""
    _fill(bulk_rows.add_pending, options.records, f"{name}: backlog")
    bed.sql(f"VACUUM (ANALYZE) {RECORDS}")
    bed.sql("CHECKPOINT")
    seen, wal = len(api.figures()["sends"]), bed.wal_position()
    meter = machine.CpuMeter(sink=[api.process.pid])
    bed.start_workers(options.workers)
    meter.add(workers=[worker.pid for worker in bed.workers])
    figures = api.wait_for(options.records, f"{name}: deliver", after=seen)
    cpu = meter.read()
    bed.stop_workers()
    sends = sorted(send[0] for send in figures["sends"][seen:])
    return {
        "name": name,
        "sends": sends,
        "cpu": cpu,
        "wal": bed.wal_position() - wal,
        "purged a second": watch.purged_a_second(sends[0], sends[-1]),
        "began": sends[0],
        "ended": sends[-1],
    }


def _purge_rest(bed: testbed.Testbed, watch: Watch) -> dict[str, float]:
    """What the drain was too short for is purged with nothing beside it."""
    from evermuse_outbox.delivery.context import Clock
    from evermuse_outbox.upkeep.purge import Walks, purge

    started, count, walks = time.monotonic(), 0, Walks()
    meter = machine.CpuMeter()
    while gone := purge("default", Clock(), 14, 1.0, walks):
        count += gone
    seconds = time.monotonic() - started
    return {"purged": count, "seconds": seconds, "postgres": meter.read()["postgres"]}


def _vacuumed(bed: testbed.Testbed) -> dict[str, Any]:
    """The table after a vacuum at leisure."""
    bed.sql(f"VACUUM (ANALYZE) {RECORDS}")
    time.sleep(1.5)
    return _look(bed.sql)


# --- the table, watched -------------------------------------------------------------------------------


class Watch:
    """Looks at the table each half second, and vacuums it at the thresholds of the migrations where told to."""

    def __init__(self, url: str, *, vacuums: bool) -> None:
        self._url, self._vacuums = url, vacuums
        self._over = threading.Event()
        self.samples: list[dict[str, Any]] = []
        self.vacuums: list[tuple[float, float]] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """In threads of their own."""
        steps = [self._sample, *([self._vacuum] if self._vacuums else [])]
        threads = [threading.Thread(target=self._repeat, args=(step,)) for step in steps]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def purged_a_second(self, start: float, end: float) -> float:
        """How fast old rows went between these times, from the first that went on to the last."""
        seen = [sample for sample in self.samples if start <= sample["at"] <= end]
        going = [one for one, other in pairwise(seen) if other["old"] < one["old"]]
        if len(going) < 2:
            return 0.0
        return (going[0]["old"] - going[-1]["old"]) / (going[-1]["at"] - going[0]["at"])

    def _repeat(self, step: Any) -> None:
        import psycopg

        with psycopg.connect(self._url, autocommit=True) as connection:
            while not self._over.wait(0.5):
                step(lambda statement: connection.execute(statement))

    def _sample(self, execute: Any) -> None:
        self.samples.append(_look(lambda statement: execute(statement).fetchall()))

    def _vacuum(self, execute: Any) -> None:
        dead = f"SELECT n_dead_tup > 10000 + 0.02 * n_live_tup FROM pg_stat_user_tables WHERE relname = '{RECORDS}'"
        if execute(dead).fetchone()[0]:
            # As autovacuum would, with the cost limit that the migrations set.
            execute("SET vacuum_cost_delay = 2")
            execute("SET vacuum_cost_limit = 2000")
            started = time.time()
            execute(f"VACUUM (ANALYZE) {RECORDS}")
            self.vacuums.append((started, time.time()))
            self._over.wait(10)


def _look(rows: Any) -> dict[str, Any]:
    """The table in figures: live and dead rows as PostgreSQL counts them, bytes, and batches that could be purged."""
    live, dead, heap, indexes = rows(
        f"SELECT n_live_tup, n_dead_tup, pg_table_size(relid), pg_indexes_size(relid) "
        f"FROM pg_stat_user_tables WHERE relname = '{RECORDS}'"
    )[0]
    ((old,),) = rows(
        "SELECT coalesce(sum(record_count), 0) FROM evermuse_outbox_outboxbatch "
        "WHERE finished_at < now() - interval '14 days' AND next_poll_at IS NULL"
    )
    return {"at": time.time(), "live": live, "dead": dead, "heap": heap, "indexes": indexes, "old": int(old)}


# --- what is told -------------------------------------------------------------------------------------


def _tell(
    report: Report,
    options: argparse.Namespace,
    runs: list[dict[str, Any]],
    rest: dict[str, float],
    after: dict[str, Any],
    watch: Watch,
) -> None:
    report.raw |= {
        "runs": runs,
        "rest": rest,
        "after": after,
        "samples": watch.samples,
        "vacuums": watch.vacuums,
    }
    columns = [_figures(run, options) for run in runs]
    report.table(
        f"{options.records:,} records delivered with {options.workers} workers, {options.old:,} old rows to purge",
        ["what", *(run["name"] for run in runs), "purging / without"],
        [
            [what, *(column[what] for column in columns), _ratio(*(c[what] for c in columns))]
            for what in columns[0]
        ],
    )
    report.table(
        "The purge alone, and the table",
        ["what", "figure"],
        [
            ["old rows left to purge after the drain", rest["purged"]],
            [
                "rows a second with nothing beside",
                rest["purged"] / rest["seconds"] if rest["purged"] else "-",
            ],
            ["… CPU of PostgreSQL in ms a 1,000", 1e6 * rest["postgres"] / max(rest["purged"], 1)],
            ["most dead rows at any time", max(sample["dead"] for sample in watch.samples)],
            ["largest table in MB, with TOAST", max(sample["heap"] for sample in watch.samples) / 1e6],
            ["vacuums by this benchmark", len(watch.vacuums)],
            ["after a last vacuum: live rows", after["live"]],
            ["… dead rows", after["dead"]],
            ["… table in MB", after["heap"] / 1e6],
            ["… indexes in MB", after["indexes"] / 1e6],
        ],
    )
    report.save(lambda figure: _draw(figure, runs, watch), size=(9, 7))


def _figures(run: dict[str, Any], options: argparse.Namespace) -> dict[str, float]:
    times, thousands = run["sends"], options.records / 1_000
    gaps = [1_000 * (later - earlier) for earlier, later in pairwise(times)]
    return {
        "sends a second": (len(times) - 1) / (times[-1] - times[0]),
        "gap between sends in ms, p50": percentile(gaps, 0.5),
        "… p99": percentile(gaps, 0.99),
        "CPU in ms a 1,000 delivered, all": 1_000 * run["cpu"]["all"] / thousands,
        "… PostgreSQL": 1_000 * run["cpu"]["postgres"] / thousands,
        "… workers": 1_000 * run["cpu"]["workers"] / thousands,
        "busy share of all cores in %": 100 * run["cpu"]["machine"],
        "WAL a record delivered in bytes": run["wal"] / options.records,
        "rows purged a second": run["purged a second"],
        "most requests in a sliding second": sink.max_per_sliding_second(times),
    }


def _ratio(without: float, purging: float) -> str:
    return f"{purging / without:.2f}" if without else "-"


def _draw(figure: Any, runs: list[dict[str, Any]], watch: Watch) -> None:
    above, below = figure.subplots(2, 1, sharex=True)
    start = watch.samples[0]["at"]
    at = [sample["at"] - start for sample in watch.samples]
    above.plot(at, [sample["heap"] / 1e6 for sample in watch.samples], label="table in MB")
    above.plot(at, [sample["dead"] / 1e3 for sample in watch.samples], label="dead rows in 1,000")
    above.plot(at, [sample["old"] / 1e3 for sample in watch.samples], label="rows to purge in 1,000")
    for began, ended in watch.vacuums:
        above.axvspan(began - start, ended - start, alpha=0.2, color="grey")
    above.set(title="The record table (grey: vacuum)", ylim=(0, None))
    above.legend()
    for run in runs:
        moments = [moment - start for moment in run["sends"]]
        below.hist(moments, bins=max(1, int(moments[-1] - moments[0])), label=run["name"])
    below.set(xlabel="seconds", ylabel="sends in the second", title="Sends as they arrived")
    below.legend()

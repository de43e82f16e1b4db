"""WAL of a record over its life, by step, by table or index, and by cause: rows or full pages.

    python -m benchmarks wal                                       # 50,000 records in each scenario.
    python -m benchmarks wal --scenarios steady --records 600000   # a long run beside the server's own checkpoints.
    python -m benchmarks wal --wal-compression lz4                 # with compressed full-page images.
    python -m benchmarks wal --fillfactor 90                       # another storage parameter of the record table.

After a checkpoint, PostgreSQL writes a complete page at the first change of that page. So the cost of a record depends
on the checkpoints during its life. The scenarios are:

    none     no checkpoint from enqueueing to purge: the least possible WAL;
    fresh    a checkpoint before the purge: a record is sent within seconds, and purged days later;
    backlog  a checkpoint before the sealing and before the purge: a record waits before it is sent;
    steady   the server's own checkpoints, while records are enqueued, sent and purged in turn.

The benchmark runs the real delivery in one process, without a rate limit. It reads the WAL by pg_walinspect, so it
needs PostgreSQL 15 or later and a superuser (BENCHMARK_POSTGRES_URL). Other work on the server is counted as
"elsewhere".
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import psutil
from tqdm import tqdm

from . import plans
from .common import sink, testbed
from .common.options import parser_of
from .common.records import records
from .common.report import Report

RECORDS = "evermuse_outbox_outboxrecord"
SCENARIOS = ("none", "fresh", "backlog", "steady")
BATCH = 1_000
ROUND = 10_000
"""Records of a round of ``steady``: what one API key may send in a second."""

ROUNDS_KEPT = 20
"""Rounds after which a record is purged in ``steady``. They write more WAL than one checkpoint interval of 1 GB has."""

ROUNDS_PER_VACUUM = 2
"""Rounds between two vacuums in ``steady``: about the thresholds that the migrations set for autovacuum."""

AHEAD = 60
"""Seconds by which the clock of the polls is ahead, so that all batches are due."""

INDEXES = ("evermuse_record", f"{RECORDS}_pkey")
"""How the names of the indexes of the record table begin."""

WAL_BY_RELATION = r"""
    SELECT coalesce(c.relname, CASE WHEN w.database = current_database_oid THEN 'other' ELSE 'elsewhere' END),
           sum(w.bytes)::bigint, sum(w.pages)::bigint
    FROM (
        SELECT substring(block_ref FROM 'rel \d+/(\d+)/')::oid AS database,
               substring(block_ref FROM 'rel \d+/\d+/(\d+)')::oid AS filenode,
               record_length - fpi_length AS bytes, fpi_length AS pages
        FROM pg_get_wal_records_info(%s::pg_lsn, %s::pg_lsn)
    ) AS w
    CROSS JOIN (SELECT oid AS current_database_oid FROM pg_database WHERE datname = current_database()) AS d
    LEFT JOIN pg_class AS c ON w.database = current_database_oid AND pg_relation_filenode(c.oid) = w.filenode
    GROUP BY 1"""
"""Relation → bytes of row changes and of full-page images. A record of the WAL counts for its first block."""


@dataclass
class Step:
    """The WAL of a step: relation → bytes of row changes, and bytes of full-page images.

    ``process`` and ``backend`` are CPU seconds of this process and of its server process.
    """

    rows: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    pages: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    process: float = 0.0
    backend: float = 0.0

    @property
    def bytes(self) -> int:
        """All bytes of WAL."""
        return sum(self.rows.values()) + sum(self.pages.values())


def main(arguments: list[str]) -> None:
    """Run the benchmark."""
    options = _options(arguments)
    with (
        sink.running(delay=0, complete_after=0) as api,
        testbed.running(testbed.POSTGRES, api_url=api.url, SEARCH_INDEX=False) as bed,
    ):
        report = Report(options.name, vars(options))
        report.service("database", bed.version())
        _configure(bed, options)
        report.note(f"server: {', '.join(f'{name} = {value}' for name, value in _server(bed).items())}")
        _keep_wal(bed)
        results = {}
        for scenario in options.scenarios:
            results[scenario] = _run(bed, scenario, options)
            bed.empty()
            bed.sql("VACUUM")
        _add_tables(report, results, options)
        report.save(lambda figure: _draw(figure, results, options))


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = parser_of("wal", __doc__, "--size")
    parser.add_argument(
        "--records",
        type=int,
        metavar="N",
        default=50_000,
        help="records in each scenario (default: %(default)s)",
    )
    parser.add_argument(
        "--scenarios", nargs="+", choices=SCENARIOS, default=SCENARIOS[:3], help="default: none fresh backlog"
    )
    parser.add_argument(
        "--fillfactor", type=int, metavar="N", help="of the record table (default: as migrated)"
    )
    parser.add_argument(
        "--wal-compression",
        choices=("off", "pglz", "lz4", "zstd"),
        help="for this database (default: the server's)",
    )
    return parser.parse_args(arguments)


# --- the server ---------------------------------------------------------------------------------------


def _configure(bed: testbed.Testbed, options: argparse.Namespace) -> None:
    from django.db import connection

    bed.sql("CREATE EXTENSION IF NOT EXISTS pg_walinspect")
    if options.fillfactor:
        bed.sql(f"ALTER TABLE {RECORDS} SET (fillfactor = {options.fillfactor})")
    if options.wal_compression:
        name = connection.ops.quote_name(connection.settings_dict["NAME"])
        bed.sql(f"ALTER DATABASE {name} SET wal_compression = '{options.wal_compression}'")
        connection.close()


def _server(bed: testbed.Testbed) -> dict[str, str]:
    """Return the parameters of the server that decide how much WAL it writes."""
    names = ("max_wal_size", "checkpoint_timeout", "wal_compression", "data_checksums", "wal_log_hints")
    return {name: bed.sql(f"SHOW {name}")[0][0] for name in names}


def _keep_wal(bed: testbed.Testbed) -> None:
    """Keep the WAL until it is read, which a checkpoint would remove: until the connection ends, or an error comes."""
    bed.sql("SELECT pg_create_physical_replication_slot('evermuse_benchmark_wal', true, true)")


class Meter:
    """Adds the WAL and the CPU of steps. The CPU of PostgreSQL is that of this connection's server process."""

    def __init__(self, bed: testbed.Testbed) -> None:
        self._bed = bed
        self.steps: dict[str, Step] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Count what the block does for the step."""
        step = self.steps.setdefault(name, Step())
        start, backend, process = self._position(), self._backend_seconds(), time.process_time()
        yield
        step.process += time.process_time() - process
        step.backend += self._backend_seconds() - backend
        end = self._position()
        for relation, rows, pages in self._bed.sql(WAL_BY_RELATION, start, end) if start != end else ():
            step.rows[relation] += rows
            step.pages[relation] += pages

    def _position(self) -> str:
        return str(self._bed.sql("SELECT pg_current_wal_flush_lsn()")[0][0])

    def _backend_seconds(self) -> float:
        used = psutil.Process(self._bed.sql("SELECT pg_backend_pid()")[0][0]).cpu_times()
        return float(used.user + used.system)


# --- the life of the records ----------------------------------------------------------------------------


def _run(bed: testbed.Testbed, scenario: str, options: argparse.Namespace) -> dict[str, Step]:
    """Enqueue, send and purge the records of a scenario; return its steps."""
    meter = Meter(bed)
    bed.sql("CHECKPOINT")
    rounds = tqdm(range(0, options.records, ROUND), unit=" rounds", desc=scenario, file=sys.stderr)
    if scenario == "steady":
        for number, first in enumerate(rounds):
            _enqueue(meter, first, options)
            _send(meter)
            _purge(meter, kept=ROUNDS_KEPT * ROUND // BATCH)
            if number % ROUNDS_PER_VACUUM == 0:
                _vacuum(bed, meter)
        _purge(meter, kept=0)
        return meter.steps
    for first in rounds:
        _enqueue(meter, first, options)
    if scenario == "backlog":
        bed.sql("CHECKPOINT")
    _send(meter)
    _vacuum(bed, meter)
    if scenario != "none":
        bed.sql("CHECKPOINT")
    _purge(meter, kept=0)
    _vacuum(bed, meter)
    return meter.steps


def _enqueue(meter: Meter, first: int, options: argparse.Namespace) -> None:
    from evermuse_outbox import outbox

    made = list(records(min(ROUND, options.records - first), options.size, first=first))
    with meter.step("enqueue"):
        for start in range(0, len(made), BATCH):
            outbox.enqueue_many(made[start : start + BATCH])


def _send(meter: Meter) -> None:
    """Seal, send and settle all pending records, and poll until their batches are complete."""
    from evermuse_outbox.delivery.loop import Step as Result
    from evermuse_outbox.delivery.loop import send_next

    with meter.step("seal, send, settle"):
        context = plans._open_context()
        while send_next(context) is Result.SENT:
            pass
    with meter.step("complete"):
        plans._poll(plans._open_context(AHEAD))


def _purge(meter: Meter, kept: int) -> None:
    """Purge all records but those of the ``kept`` newest batches."""
    from evermuse_outbox.models import OutboxBatch
    from evermuse_outbox.upkeep import purge_old_rows

    clock = plans._open_context(2 * AHEAD).clock
    finished = OutboxBatch.objects.filter(finished_at__isnull=False).order_by("-finished_at", "-pk")
    newest = list(finished.values_list("finished_at", flat=True)[kept : kept + 1])
    with meter.step("purge"):
        days = (clock.now() - newest[0]) / timedelta(days=1) if newest else 0
        if newest:
            purge_old_rows("default", clock, days, seconds=3_600)


def _vacuum(bed: testbed.Testbed, meter: Meter) -> None:
    with meter.step("vacuum"):
        for table in ("record", "batch", "attempt", "workspace"):
            bed.sql(f"VACUUM evermuse_outbox_outbox{table}")


# --- tables and plot ------------------------------------------------------------------------------------


def _add_tables(report: Report, results: dict[str, dict[str, Step]], options: argparse.Namespace) -> None:
    report.raw["scenarios"] = {
        name: {step: vars(figures) for step, figures in steps.items()} for name, steps in results.items()
    }
    count = options.records
    for scenario, steps in results.items():
        total = sum(step.bytes for step in steps.values())
        rows = [[name, *_figures(step, count)] for name, step in steps.items()]
        rows.append(["all", *_figures(_sum(steps.values()), count)])
        title = f"{scenario}: {total / count:,.0f} bytes of WAL for each of {count:,} records"
        headers = ["step", "bytes", "rows", "full pages", "record table", "its indexes", "CPU per 1,000, ms"]
        report.table(title, headers, rows)


def _sum(steps: Iterable[Step]) -> Step:
    total = Step()
    for step in steps:
        for relation in step.rows:
            total.rows[relation] += step.rows[relation]
            total.pages[relation] += step.pages[relation]
        total.process += step.process
        total.backend += step.backend
    return total


def _figures(step: Step, count: int) -> list[Any]:
    """Return bytes for each record, by cause and by relation, and the CPU of process and server."""
    by_relation = {name: step.rows[name] + step.pages[name] for name in step.rows}
    table = by_relation.get(RECORDS, 0)
    indexes = sum(size for name, size in by_relation.items() if name.startswith(INDEXES))
    sizes = (step.bytes, sum(step.rows.values()), sum(step.pages.values()), table, indexes)
    cpu = f"{1e6 * step.process / count:.1f} + {1e6 * step.backend / count:.1f}"
    return [*(round(size / count) for size in sizes), cpu]


def _draw(figure: Any, results: dict[str, dict[str, Step]], options: argparse.Namespace) -> None:
    axes = figure.subplots()
    bottom = [0.0] * len(results)
    for name in ("enqueue", "seal, send, settle", "complete", "purge", "vacuum"):
        heights = [
            steps[name].bytes / options.records if name in steps else 0.0 for steps in results.values()
        ]
        axes.bar(list(results), heights, bottom=bottom, label=name)
        bottom = [below + height for below, height in zip(bottom, heights, strict=True)]
    axes.set(ylabel="bytes per record", title="WAL of a record over its life")
    axes.legend()

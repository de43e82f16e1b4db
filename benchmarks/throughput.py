"""Delivery of a backlog: requests per second, records per request, CPU and WAL per record, reads per batch.

    python -m benchmarks throughput                                  # published rate limit, one worker.
    python -m benchmarks throughput --records 1000000 --workers 2    # a large backlog, two workers.
    python -m benchmarks throughput --rate 100000 --workers 2        # practically no rate limit.
    python -m benchmarks throughput --delay 1                        # the API answers after a second.
    python -m benchmarks throughput --no-search-index                # without the search index.

The API only counts requests (benchmarks/common/sink.py). It runs in its own process on this machine.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from itertools import pairwise
from typing import Any

from tqdm import tqdm

from .common import machine, sink, testbed
from .common.options import parser_of
from .common.records import records
from .common.report import Report, percentile


def main(arguments: list[str]) -> None:
    """Run the benchmark."""
    options = _options(arguments)
    outbox = {"RATE_LIMIT": options.rate, "SENDERS": options.senders, "MAX_BATCH_RECORDS": options.batch}
    outbox["SEARCH_INDEX"] = options.search_index
    with (
        sink.running(delay=options.delay, complete_after=options.complete_after) as api,
        testbed.running(options.database, api_url=api.url, **outbox) as bed,
    ):
        report = Report(options.name, vars(options))
        report.service("database", bed.version())
        wal = bed.wal_position()
        meter = machine.CpuMeter(host=[os.getpid()], **bed.server_pids())
        enqueue_seconds = _fill(options)
        enqueue_cpu = meter.read()
        meter = machine.CpuMeter(sink=[api.process.pid], **bed.server_pids())
        bed.start_workers(options.workers)
        beat, *workers = bed.workers
        meter.add(workers=[worker.pid for worker in workers], beat=[beat.pid])
        figures = api.wait_for(options.records)
        cpu = meter.read()
        _wait_for_completion(bed)
        all_reads = api.figures()["reads"]
        purge_seconds = _purge(options) if options.purge else 0.0
        wal = bed.wal_position() - wal
        _add_cpu_table(report, options, enqueue_cpu, cpu)
        _add_table(report, options, figures, cpu, enqueue_seconds, wal, len(all_reads), purge_seconds)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = parser_of("throughput", __doc__, "--size", "--workers", "--rate", "--delay", "--database")
    parser.add_argument(
        "--records", type=int, metavar="N", default=100_000, help="records to deliver (default: 100000)"
    )
    parser.add_argument(
        "--senders", type=int, metavar="N", default=16, help="the setting SENDERS (default: 16)"
    )
    parser.add_argument(
        "--batch", type=int, metavar="N", default=1_000, help="the setting MAX_BATCH_RECORDS (default: 1000)"
    )
    parser.add_argument(
        "--complete-after",
        type=float,
        default=2.0,
        metavar="SECONDS",
        help="time until a batch is complete (default: 2)",
    )
    parser.add_argument(
        "--no-purge", dest="purge", action="store_false", help="do not purge the delivered rows at the end"
    )
    parser.add_argument(
        "--no-search-index", dest="search_index", action="store_false", help="do not fill the search index"
    )
    return parser.parse_args(arguments)


def _fill(options: argparse.Namespace) -> float:
    """Enqueue the backlog, and return the seconds that it took."""
    from evermuse_outbox import outbox

    started = time.monotonic()
    with tqdm(total=options.records, unit=" records", desc="enqueue", file=sys.stderr) as bar:
        for first in range(0, options.records, 10_000):
            count = min(10_000, options.records - first)
            outbox.enqueue_many(records(count, options.size, first=first))
            bar.update(count)
    return time.monotonic() - started


def _wait_for_completion(bed: testbed.Testbed) -> None:
    """Wait until all batches are known to be complete, then stop the workers."""
    from evermuse_outbox.models import OutboxBatch

    while OutboxBatch.objects.exclude(state="complete").exists():
        time.sleep(0.5)
    bed.stop_workers()


def _purge(options: argparse.Namespace) -> float:
    """Purge all records, and return the seconds that it took."""
    from evermuse_outbox.delivery.context import Clock
    from evermuse_outbox.upkeep import purge_old_rows

    started, remaining = time.monotonic(), options.records
    while remaining > 0 and (deleted := purge_old_rows("default", Clock.of("default"), 0.0)):
        remaining -= deleted
    return time.monotonic() - started


def _add_cpu_table(
    report: Report, options: argparse.Namespace, enqueue: dict[str, float], delivery: dict[str, float]
) -> None:
    """Add the CPU time of all parts of the outbox. The API that counts is none of them."""
    parts = ("host", "workers", "beat", "postgres", "redis")
    thousands = options.records / 1_000
    rows = [
        [part, *(1_000 * spent.get(part, 0.0) / thousands for spent in (enqueue, delivery))] for part in parts
    ]
    rows = [[*row, row[1] + row[2]] for row in rows]
    rows.append(["sum", *(sum(row[column] for row in rows) for column in (1, 2, 3))])
    title = "CPU milliseconds for 1,000 delivered records, all parts"
    report.table(title, ["part", "enqueue", "delivery", "both"], rows)
    report.raw["cpu_of_enqueue"] = enqueue


def _add_table(
    report: Report,
    options: argparse.Namespace,
    figures: dict[str, Any],
    cpu: dict[str, float],
    enqueue_seconds: float,
    wal: int,
    reads: int,
    purge_seconds: float,
) -> None:
    sends, thousands = figures["sends"], options.records / 1_000
    times = [send[0] for send in sends]
    duration = max(times) - min(times)
    largest = max(send[1] for send in sends)
    arrivals = times + [read[0] for read in figures["reads"]]
    report.raw |= {"figures": figures, "cpu": cpu, "wal_bytes": wal}
    report.table(
        f"{options.records:,} records of {options.size:,} bytes, worker processes: {options.workers}, "
        f"the API answers after {options.delay:g} s",
        ["figure", "value"],
        [
            ["records per second", (options.records - sends[0][1]) / duration],
            ["sends per second", (len(sends) - 1) / duration],
            ["requests per second, reads included", (len(arrivals) - 1) / duration],
            ["max. requests in a sliding second", sink.max_per_sliding_second(arrivals)],
            ["sends, % of the rate limit", f"{100 * (len(sends) - 1) / duration / options.rate:.1f} %"],
            [
                "mean size of a batch, % of the largest",
                f"{100 * options.records / len(sends) / largest:.1f} %",
            ],
            ["requests per delivered batch", (len(sends) + reads) / len(sends)],
            [
                "records that arrived twice",
                sum(send[1] for send in sends) - options.records + figures["repeated"],
            ],
            ["interval between sends, p50 / p99 in ms", _gaps(times)],
            ["CPU per 1,000 records, ms", 1_000 * cpu["all"] / thousands],
            *([f"… {role}", 1_000 * cpu[role] / thousands] for role in cpu if role not in ("all", "machine")),
            ["busy share of all cores", f"{100 * cpu['machine']:.0f} %"],
            ["WAL per record from enqueue to purge, bytes", wal / options.records],
            ["records enqueued per second", options.records / enqueue_seconds],
            ["records purged per second", options.records / purge_seconds if purge_seconds else "-"],
        ],
    )
    report.save(lambda figure: _draw(figure, times))


def _gaps(times: list[float]) -> str:
    ordered = sorted(times)
    gaps = [1_000 * (later - earlier) for earlier, later in pairwise(ordered)]
    return f"{percentile(gaps, 0.5):.1f} / {percentile(gaps, 0.99):.1f}" if gaps else "-"


def _draw(figure: Any, times: list[float]) -> None:
    axes = figure.subplots()
    start = min(times)
    axes.hist([at - start for at in times], bins=max(1, int(max(times) - start)))
    axes.set(xlabel="seconds", ylabel="sends per second", title="Arrival of the sends")

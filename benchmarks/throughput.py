"""A backlog is drained: requests a second, how full they are, CPU and WAL a record, reads a batch.

    python -m benchmarks throughput                                  # at the published pace, one worker
    python -m benchmarks throughput --records 1000000 --workers 2
    python -m benchmarks throughput --rate 100000 --workers 2        # the pace lifted
    python -m benchmarks throughput --delay 1                        # answers take a second

The API is one that only counts (benchmarks/common/sink.py), in a process of its own on this machine.
"""

from __future__ import annotations

import argparse
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
    """Runs the benchmark."""
    options = _options(arguments)
    outbox = {"RATE_LIMIT": options.rate, "SENDERS": options.senders, "MAX_BATCH_RECORDS": options.batch}
    with (
        sink.running(delay=options.delay, complete_after=options.complete_after) as api,
        testbed.running(options.database, api_url=api.url, **outbox) as bed,
    ):
        report = Report(options.name, vars(options))
        report.service("database", bed.version())
        wal = bed.wal_position()
        filled = _fill(options)
        meter = machine.CpuMeter(sink=[api.process.pid])
        bed.start_workers(options.workers)
        meter.add(workers=[worker.pid for worker in bed.workers])
        figures = api.wait_for(options.records)
        cpu = meter.read()
        _settle(bed)
        all_reads = api.figures()["reads"]
        purged = _purge(options) if options.purge else 0.0
        wal = bed.wal_position() - wal
        _tell(report, options, figures, cpu, filled, wal, len(all_reads), purged)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = parser_of("throughput", __doc__, "--size", "--workers", "--rate", "--delay", "--database")
    parser.add_argument("--records", type=int, default=100_000, help="default: 100000")
    parser.add_argument("--senders", type=int, default=16, help="SENDERS; default: 16")
    parser.add_argument("--batch", type=int, default=1_000, help="MAX_BATCH_RECORDS; default: 1000")
    parser.add_argument(
        "--complete-after", type=float, default=2.0, metavar="S", help="that a batch takes; default: 2"
    )
    parser.add_argument("--no-purge", dest="purge", action="store_false", help="leave the delivered rows")
    return parser.parse_args(arguments)


def _fill(options: argparse.Namespace) -> float:
    """Seconds that enqueueing took."""
    from evermuse_outbox import outbox

    started = time.monotonic()
    with tqdm(total=options.records, unit=" records", desc="enqueue", file=sys.stderr) as bar:
        for first in range(0, options.records, 10_000):
            count = min(10_000, options.records - first)
            outbox.enqueue_many(records(count, options.size, first=first))
            bar.update(count)
    return time.monotonic() - started


def _settle(bed: testbed.Testbed) -> None:
    """Waits until the last batch is known to be complete."""
    from evermuse_outbox.models import OutboxBatch

    while OutboxBatch.objects.exclude(state="complete").exists():
        time.sleep(0.5)
    bed.stop_workers()


def _purge(options: argparse.Namespace) -> float:
    """Seconds that the purge of all took."""
    from evermuse_outbox.delivery.context import Clock
    from evermuse_outbox.upkeep.purge import purge

    started, left = time.monotonic(), options.records
    while left > 0 and (gone := purge("default", Clock(), 0.0)):
        left -= gone
    return time.monotonic() - started


def _tell(
    report: Report,
    options: argparse.Namespace,
    figures: dict[str, Any],
    cpu: dict[str, float],
    filled: float,
    wal: int,
    reads: int,
    purged: float,
) -> None:
    sends, thousands = figures["sends"], options.records / 1_000
    times = [send[0] for send in sends]
    took = max(times) - min(times)
    full = max(send[1] for send in sends)
    arrivals = times + [read[0] for read in figures["reads"]]
    report.raw |= {"figures": figures, "cpu": cpu, "wal_bytes": wal}
    report.table(
        f"{options.records:,} records of {options.size:,} bytes, {options.workers} workers, "
        f"answers in {options.delay:g} s",
        ["what", "figure"],
        [
            ["records a second", (options.records - sends[0][1]) / took],
            ["sends a second", (len(sends) - 1) / took],
            ["requests a second, reads too", (len(arrivals) - 1) / took],
            ["most requests in a sliding second", sink.max_per_sliding_second(arrivals)],
            ["share of the pace", f"{100 * (len(sends) - 1) / took / options.rate:.1f} %"],
            ["mean fill of a batch, of the fullest", f"{100 * options.records / len(sends) / full:.1f} %"],
            ["requests a delivered batch", (len(sends) + reads) / len(sends)],
            [
                "records that came twice",
                sum(send[1] for send in sends) - options.records + figures["repeated"],
            ],
            ["gap between sends, p50 / p99 in ms", _gaps(times)],
            ["CPU a 1,000 records in ms", 1_000 * cpu["all"] / thousands],
            *([f"… {role}", 1_000 * cpu[role] / thousands] for role in cpu if role not in ("all", "machine")),
            ["busy share of all cores", f"{100 * cpu['machine']:.0f} %"],
            ["WAL a record over its life in bytes", wal / options.records],
            ["enqueued a second", options.records / filled],
            ["purged a second", options.records / purged if purged else "-"],
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
    axes.hist([moment - start for moment in times], bins=max(1, int(max(times) - start)))
    axes.set(xlabel="seconds", ylabel="sends in the second", title="Sends as they arrived")

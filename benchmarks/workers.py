"""Use of the rate limit by one to eight worker processes, with fast and slow responses of the API.

    python -m benchmarks workers                                          # 1, 2, 4, 8 processes; 5 ms, 0.3 s and 1 s.
    python -m benchmarks workers --workers 2 --delay 1                    # one run.
    python -m benchmarks workers --workers 2 --delay 0.005 --small 2000   # beside 2,000 small groups.

Celery workers send many small batches (MAX_BATCH_RECORDS is lowered), because the rate limit counts requests. The
API only counts requests (benchmarks/common/sink.py). All figures are of the requests that arrived there.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

from tqdm import tqdm

from .common import machine, sink, testbed
from .common.options import parser_of
from .common.records import records
from .common.report import Report, percentile

RATE = 10
"""Requests per second: the published limit."""

RECORDS = 50
"""Records of a full batch."""

HOT, SMALL = "hot", "small-"

HEADERS = [
    "API answers after, s",
    "processes",
    "sends",
    "sends, % of the limit",
    "requests, % of the limit",
    "… in the best half of the run",
    "max. requests in a sliding second",
    "interval between sends p50 / p99 / max, ms",
    "batches of the hot group, % full",
    "small groups sent",
    "idempotency keys sent twice",
    "CPU of the workers, cores",
]


@dataclass(frozen=True)
class Run:
    """The figures of one run. ``sends`` and ``reads`` have the format of ``sink.Sink.figures``."""

    delay: float
    workers: int
    sends: list[list[Any]]
    reads: list[list[Any]]
    twice: int
    cores: float

    def row(self) -> list[Any]:
        """Return the line of the run in the table."""
        times = sorted(send[0] for send in self.sends)
        gaps = [1_000 * (later - earlier) for earlier, later in pairwise(times)]
        arrivals = sorted([*times, *(at for at, _ in self.reads)])
        hot = [send[1] for send in self.sends if send[3] == HOT]
        return [
            f"{self.delay:g}",
            self.workers,
            len(times),
            f"{100 * (len(times) - 1) / (times[-1] - times[0]) / RATE:.1f} %",
            f"{100 * (len(arrivals) - 1) / (arrivals[-1] - arrivals[0]) / RATE:.1f} %",
            f"{100 * _best_rate(times, (times[-1] - times[0]) / 2) / RATE:.1f} %",
            sink.max_per_sliding_second(arrivals),
            " / ".join(f"{percentile(gaps, share):.0f}" for share in (0.5, 0.99, 1)),
            f"{100 * sum(hot) / len(hot) / RECORDS:.1f} %",
            len({send[3] for send in self.sends if send[3].startswith(SMALL)}),
            self.twice,
            f"{self.cores:.2f}",
        ]


def main(arguments: list[str]) -> None:
    """Run the benchmark."""
    options = _options(arguments)
    with testbed.running(options.database, RATE_LIMIT=RATE, MAX_BATCH_RECORDS=RECORDS) as bed:
        report = Report(options.name, vars(options))
        report.service("database", bed.version())
        runs = [_run(options, bed, *case) for case in product(options.delay, options.workers)]
        report.raw["runs"] = [vars(run) for run in runs]
        title = f"Runs of {options.seconds:g} s with a permanent backlog, beside {options.small} small groups"
        report.table(title, HEADERS, [run.row() for run in runs])
        report.save(lambda figure: _draw(figure, runs), size=(8, 2 + 1.2 * len(runs)))


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = parser_of("workers", __doc__, "--database")
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        nargs="+",
        default=[1, 2, 4, 8],
        help="worker processes, one run each (default: 1 2 4 8)",
    )
    parser.add_argument(
        "--delay",
        type=float,
        nargs="+",
        default=[0.005, 0.3, 1],
        metavar="SECONDS",
        help="response times of the API (default: 0.005 0.3 1)",
    )
    parser.add_argument(
        "--small", type=int, metavar="N", default=0, help="further groups of three records (default: 0)"
    )
    parser.add_argument(
        "--jitter",
        type=float,
        default=0,
        metavar="SECONDS",
        help="maximum of a random time by which the network delays each request (default: 0)",
    )
    parser.add_argument(
        "--seconds", type=float, metavar="SECONDS", default=45, help="duration of a run (default: 45)"
    )
    return parser.parse_args(arguments)


def _run(options: argparse.Namespace, bed: testbed.Testbed, delay: float, workers: int) -> Run:
    """Send from a backlog that cannot be drained in time, and measure from the first send on."""
    with sink.running(delay=delay, jitter=options.jitter) as api:
        bed.empty()
        _enqueue(int(RATE * RECORDS * (options.seconds + 5)), options.small)
        os.environ["EVERMUSE_API_URL"] = api.url  # read by the workers, which are started next
        bed.start_workers(workers)
        _watch(api, options.seconds, f"answers after {delay:g} s, {workers} processes")
        figures, meter = api.figures(), machine.CpuMeter()
        meter.add(workers=[worker.pid for worker in bed.workers])
        cores = meter.read()["workers"] / options.seconds
        bed.stop_workers()
        return Run(delay, workers, figures["sends"], figures["reads"], figures["repeated"], cores)


def _enqueue(count: int, small: int) -> None:
    from evermuse_outbox import outbox

    outbox.enqueue_many(records(count, 500, product=HOT))
    outbox.enqueue_many(
        record
        for number in range(small)
        for record in records(3, 500, first=10**6 + 3 * number, product=f"{SMALL}{number}")
    )


def _watch(api: sink.Sink, seconds: float, name: str) -> None:
    """Wait for the first send, then for that many seconds. Show a progress bar."""
    with tqdm(total=seconds, unit=" s", desc=name, file=sys.stderr) as bar:
        while not api.figures()["sends"]:
            time.sleep(0.2)
        started = time.monotonic()
        while (passed := time.monotonic() - started) < seconds:
            bar.n = round(passed)
            bar.refresh()
            time.sleep(1)


def _best_rate(times: list[float], seconds: float) -> float:
    """Return the highest rate of sends per second over any period of ``seconds``."""
    highest, first = 0, 0
    for last, at in enumerate(times):
        while at - times[first] > seconds:
            first += 1
        highest = max(highest, last - first)
    return highest / seconds


def _draw(figure: Any, runs: list[Run]) -> None:
    """Draw the sends in each second of each run."""
    for axes, run in zip(figure.subplots(len(runs), 1, squeeze=False, sharex=True)[:, 0], runs, strict=True):
        start = min(send[0] for send in run.sends)
        ends = int(max(send[0] for send in run.sends) - start) + 2
        axes.hist([send[0] - start for send in run.sends], bins=range(ends))
        axes.set(ylabel=f"{run.delay:g} s\n{run.workers} proc.", ylim=(0, RATE + 2))
    axes.set(xlabel="sends in each second since the first")

"""Polling of accepted batches while a backlog is sent: reads per batch, and delay until completion is known.

    python -m benchmarks following                                  # batches complete after 2, 30 and 120 s.
    python -m benchmarks following --complete-after 30 --workers 2  # one run.
    python -m benchmarks following --open 1000 --complete-after 60  # 1,000 batches are open at the start.

Celery workers send many small batches at the published rate limit (MAX_BATCH_RECORDS is lowered). They use
PostgreSQL and Redis. The API only counts requests (benchmarks/common/sink.py). "Under load" is the time from
the first send to the last one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from .common import sink, testbed
from .common.options import parser_of
from .common.records import records
from .common.report import Report, percentile

RATE = 10
"""Requests per second: the published limit."""

RECORD_SIZE = 500
"""Bytes. The figures do not depend on it."""


@dataclass(frozen=True)
class Run:
    """The figures of one run.

    ``sends`` are times, and ``reads`` are (time, kind). ``delays`` are the seconds from the completion of each batch at
    the API until the completion is stored in the database.
    """

    complete_after: float
    workers: int
    sends: list[float]
    reads: list[list[Any]]
    delays: list[float]

    @property
    def reads_under_load(self) -> int:
        """Return the number of reads between the first and the last send."""
        return sum(min(self.sends) <= at <= max(self.sends) for at, _ in self.reads)

    def row(self) -> list[Any]:
        """Return the line of the run in the table."""
        duration, count = max(self.sends) - min(self.sends), len(self.sends)
        kinds = Counter(kind for _, kind in self.reads)
        arrivals = [*self.sends, *(at for at, _ in self.reads)]
        return [
            f"{self.complete_after:g}",
            self.workers,
            count,
            f"{1 + self.reads_under_load / count:.3f}",
            f"{1 + len(self.reads) / count:.3f}",
            f"{kinds['listing']} / {kinds['status']}",
            f"{100 * (count - 1) / duration / RATE:.1f} %",
            sink.max_per_sliding_second(arrivals),
            " / ".join(f"{percentile(self.delays, share):.1f}" for share in (0.5, 0.99, 1)),
        ]


HEADERS = [
    "batch completes after, s",
    "workers",
    "batches sent",
    "requests per batch, under load",
    "… until all are complete",
    "reads: listing / single batch",
    "sends, % of the limit",
    "max. requests in a sliding second",
    "completion known after, p50 / p99 / max in s",
]


def main(arguments: list[str]) -> None:
    """Run the benchmark."""
    options = _options(arguments)
    outbox = {"RATE_LIMIT": RATE, "MAX_BATCH_RECORDS": options.batch_records}
    with testbed.running(options.database, **outbox) as bed:
        report = Report(options.name, vars(options))
        report.service("database", bed.version())
        cases = [(seconds, workers) for seconds in options.complete_after for workers in options.workers]
        runs = [_run(options, bed, *case) for case in cases]
        report.raw["runs"] = [vars(run) for run in runs]
        title = (
            f"{options.batches} batches sent at {RATE} requests per second, {options.open} open at the start"
        )
        report.table(title, HEADERS, [run.row() for run in runs])
        report.save(lambda figure: _draw(figure, runs), size=(8, 3 + 2 * len(runs)))


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = parser_of("following", __doc__, "--database")
    parser.add_argument(
        "--batches", type=int, metavar="N", default=600, help="batches to send (default: 600, one minute)"
    )
    parser.add_argument(
        "--open", type=int, metavar="N", default=0, help="accepted batches at the start (default: 0)"
    )
    parser.add_argument(
        "--batch-records", type=int, metavar="N", default=10, help="records per batch (default: 10)"
    )
    parser.add_argument(
        "--complete-after",
        type=float,
        nargs="+",
        default=[2, 30, 120],
        metavar="SECONDS",
        help="time until a batch is complete, one run each (default: 2 30 120)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        nargs="+",
        default=[1, 2],
        help="worker processes, one run each (default: 1 2)",
    )
    return parser.parse_args(arguments)


def _run(options: argparse.Namespace, bed: testbed.Testbed, complete_after: float, workers: int) -> Run:
    """Send a backlog, and wait until all batches are known to be complete."""
    with sink.running(complete_after=complete_after) as api:
        bed.empty()
        _open_batches(api, options.open)
        _enqueue(options.batches * options.batch_records)
        os.environ["EVERMUSE_API_URL"] = api.url  # read by the workers, which are started next
        bed.start_workers(workers)
        _wait(options.open + options.batches, f"{complete_after:g} s, {workers} workers")
        bed.stop_workers()
        figures = api.figures()
    sends = [send[0] for send in figures["sends"]]
    return Run(
        complete_after, workers, sends[options.open :], figures["reads"], _delays(sends, complete_after)
    )


def _open_batches(api: sink.Sink, count: int) -> None:
    """Add accepted batches, to the API and to the database."""
    from django.utils import timezone

    from evermuse_outbox.models import OutboxBatch

    rows = []
    for number in tqdm(range(count), unit=" batches", desc="accepted batches", file=sys.stderr):
        headers = {"Idempotency-Key": f"open-{number}", "Content-Length": "3"}
        request = urllib.request.Request(f"{api.url}/api/v1/ingest", b"{}\n", headers)
        with urllib.request.urlopen(request) as response:
            batch = json.load(response)
        now = timezone.now()
        times = {"sealed_at": now, "due_at": now, "accepted_at": now, "next_poll_at": now}
        counts = {
            "record_count": 1,
            "byte_count": 3,
            "accepted_count": 1,
            "rejected_count": 0,
            "total_error_count": 0,
        }
        columns = {
            "workspace": "default",
            "key": f"open-{number}",
            "state": "accepted",
            "remote_id": batch["batchId"],
        }
        rows.append(OutboxBatch(**columns, **counts, **times))
    OutboxBatch.objects.bulk_create(rows)


def _enqueue(count: int) -> None:
    from evermuse_outbox import outbox

    for first in range(0, count, 10_000):
        outbox.enqueue_many(records(min(10_000, count - first), RECORD_SIZE, first=first))


def _wait(batches: int, name: str) -> None:
    """Wait until that many batches are known to be complete."""
    from evermuse_outbox.models import OutboxBatch

    complete = OutboxBatch.objects.filter(state="complete")
    with tqdm(total=batches, unit=" batches", desc=name, file=sys.stderr) as bar:
        while bar.n < batches:
            time.sleep(0.5)
            bar.n = complete.count()
            bar.refresh()


def _delays(sends: list[float], complete_after: float) -> list[float]:
    """Return ``Run.delays``, in the order of sending."""
    from evermuse_outbox.models import OutboxBatch

    ends = dict(OutboxBatch.objects.values_list("remote_id", "finished_at"))
    return [ends[f"bat_{number}"].timestamp() - at - complete_after for number, at in enumerate(sends)]


def _draw(figure: Any, runs: list[Run]) -> None:
    """Draw the requests in each second, and the delay until the completion of each batch was known."""
    for axes, run in zip(figure.subplots(len(runs), 2, squeeze=False), runs, strict=True):
        start = min(run.sends)
        sends, reads = [at - start for at in run.sends], [at - start for at, _ in run.reads]
        seconds = range(int(max(sends + reads)) + 2)
        axes[0].hist([sends, reads], bins=seconds, stacked=True, label=["sends", "reads"])
        axes[0].set(ylabel=f"{run.complete_after:g} s, {run.workers} workers\nrequests per second")
        axes[0].legend()
        axes[1].plot(sends, run.delays[-len(sends) :], ".", markersize=2)
        axes[1].set(ylabel="completion known after, s", ylim=(0, None))
        for plot in axes:
            plot.set(xlabel="seconds since the first send")

"""Open batches are followed while a backlog is sent: reads a batch, and how soon their end is known.

    python -m benchmarks following                                # Evermuse takes 2, 30 and 120 s for a batch
    python -m benchmarks following --complete-after 30 --workers 1 2
    python -m benchmarks following --open 1000 --complete-after 60  # a thousand are open before the first send

Many small batches (MAX_BATCH_RECORDS is lowered) at the published pace, real Celery workers, PostgreSQL and Redis,
and an API that only counts (benchmarks/common/sink.py). "Under load" is the time from the first send to the last.
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
"""Requests in a second: the published limit."""

SMALL = 500
"""Bytes of a record: what is measured does not depend on it."""


@dataclass(frozen=True)
class Run:
    """One run's figures. ``delays`` are seconds from the end of a batch at the API until it stood in our database."""

    complete_after: float
    workers: int
    sends: list[float]
    reads: list[list[Any]]
    delays: list[float]

    @property
    def reads_under_load(self) -> int:
        """Reads between the first and the last send."""
        return sum(min(self.sends) <= at <= max(self.sends) for at, _ in self.reads)

    def row(self) -> list[Any]:
        """Its line in the table."""
        took, count = max(self.sends) - min(self.sends), len(self.sends)
        kinds = Counter(kind for _, kind in self.reads)
        arrivals = [*self.sends, *(at for at, _ in self.reads)]
        return [
            f"{self.complete_after:g}",
            self.workers,
            count,
            f"{1 + self.reads_under_load / count:.3f}",
            f"{1 + len(self.reads) / count:.3f}",
            f"{kinds['listing']} / {kinds['status']}",
            f"{100 * (count - 1) / took / RATE:.1f} %",
            sink.max_per_sliding_second(arrivals),
            " / ".join(f"{percentile(self.delays, share):.1f}" for share in (0.5, 0.99, 1)),
        ]


HEADERS = [
    "a batch takes, s",
    "workers",
    "batches sent",
    "requests a batch, under load",
    "… until all are complete",
    "listing / single reads",
    "sends, of the ceiling",
    "most in a sliding second",
    "end known after, p50 / p99 / max in s",
]


def main(arguments: list[str]) -> None:
    """Runs the benchmark."""
    options = _options(arguments)
    outbox = {"RATE_LIMIT": RATE, "MAX_BATCH_RECORDS": options.batch_records}
    with testbed.running(options.database, **outbox) as bed:
        report = Report(options.name, vars(options))
        report.service("database", bed.version())
        kinds = [(seconds, workers) for seconds in options.complete_after for workers in options.workers]
        runs = [_run(options, bed, *kind) for kind in kinds]
        report.raw["runs"] = [vars(run) for run in runs]
        title = f"{options.batches} batches sent at {RATE} requests a second, {options.open} open before"
        report.table(title, HEADERS, [run.row() for run in runs])
        report.save(lambda figure: _draw(figure, runs), size=(8, 3 + 2 * len(runs)))


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = parser_of("following", __doc__, "--database")
    parser.add_argument("--batches", type=int, default=600, help="of the backlog; default: 600, a minute")
    parser.add_argument("--open", type=int, default=0, help="batches that are open before; default: 0")
    parser.add_argument("--batch-records", type=int, default=10, help="records of a batch; default: 10")
    parser.add_argument(
        "--complete-after",
        type=float,
        nargs="+",
        default=[2, 30, 120],
        metavar="S",
        help="that a batch takes; default: 2 30 120",
    )
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="processes; default: 1 2")
    return parser.parse_args(arguments)


def _run(options: argparse.Namespace, bed: testbed.Testbed, complete_after: float, workers: int) -> Run:
    """A backlog is sent and followed to its end."""
    with sink.running(complete_after=complete_after) as api:
        bed.empty()
        _open_batches(api, options.open)
        _enqueue(options.batches * options.batch_records)
        os.environ["EVERMUSE_API_URL"] = api.url  # for the workers, which are started now
        bed.start_workers(workers)
        _wait(options.open + options.batches, f"{complete_after:g} s, {workers} workers")
        bed.stop_workers()
        figures = api.figures()
    made = [send[0] for send in figures["sends"]]
    return Run(complete_after, workers, made[options.open :], figures["reads"], _delays(made, complete_after))


def _open_batches(api: sink.Sink, count: int) -> None:
    """Batches that the API has taken, and that are followed here."""
    from django.utils import timezone

    from evermuse_outbox.models import OutboxBatch

    rows = []
    for number in tqdm(range(count), unit=" batches", desc="open before", file=sys.stderr):
        headers = {"Idempotency-Key": f"open-{number}", "Content-Length": "3"}
        request = urllib.request.Request(f"{api.url}/api/v1/ingest", b"{}\n", headers)
        with urllib.request.urlopen(request) as answer:
            told = json.load(answer)
        now = timezone.now()
        fields = {"sealed_at": now, "due_at": now, "accepted_at": now, "next_poll_at": now}
        counts = {
            "record_count": 1,
            "byte_count": 3,
            "accepted_count": 1,
            "rejected_count": 0,
            "total_error_count": 0,
        }
        names = {
            "workspace": "default",
            "key": f"open-{number}",
            "state": "accepted",
            "remote_id": told["batchId"],
        }
        rows.append(OutboxBatch(**names, **counts, **fields))
    OutboxBatch.objects.bulk_create(rows)


def _enqueue(count: int) -> None:
    from evermuse_outbox import outbox

    for first in range(0, count, 10_000):
        outbox.enqueue_many(records(min(10_000, count - first), SMALL, first=first))


def _wait(batches: int, name: str) -> None:
    """Until all of them are known to be complete."""
    from evermuse_outbox.models import OutboxBatch

    complete = OutboxBatch.objects.filter(state="complete")
    with tqdm(total=batches, unit=" batches", desc=name, file=sys.stderr) as bar:
        while bar.n < batches:
            time.sleep(0.5)
            bar.n = complete.count()
            bar.refresh()


def _delays(made: list[float], complete_after: float) -> list[float]:
    """Seconds from the end of each batch at the API until it stood in our database, in the order of sending."""
    from evermuse_outbox.models import OutboxBatch

    ends = dict(OutboxBatch.objects.values_list("remote_id", "finished_at"))
    return [ends[f"bat_{number}"].timestamp() - at - complete_after for number, at in enumerate(made)]


def _draw(figure: Any, runs: list[Run]) -> None:
    """What arrived in each second, and how soon the end of each batch was known."""
    for axes, run in zip(figure.subplots(len(runs), 2, squeeze=False), runs, strict=True):
        start = min(run.sends)
        sends, reads = [at - start for at in run.sends], [at - start for at, _ in run.reads]
        seconds = range(int(max(sends + reads)) + 2)
        axes[0].hist([sends, reads], bins=seconds, stacked=True, label=["sends", "reads"])
        axes[0].set(ylabel=f"{run.complete_after:g} s, {run.workers} workers\nrequests in the second")
        axes[0].legend()
        axes[1].plot(sends, run.delays[-len(sends) :], ".", markersize=2)
        axes[1].set(ylabel="end known after, s", ylim=(0, None))
        for each in axes:
            each.set(xlabel="seconds since the first send")

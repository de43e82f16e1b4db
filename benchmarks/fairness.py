"""Many busy workspaces share the worker processes: each one's share of the requests, and the wait of a lone record.

    python -m benchmarks fairness                               # 100 busy workspaces, one worker process.
    python -m benchmarks fairness --workers 4 --delay 0.3

Each busy workspace has more pending records than can be sent meanwhile. A further workspace gets a single record every
two seconds. The records of a workspace have its name as their product, so the sink sees whose request arrives.

Jain's index is (sum of x)² / (n × sum of x²): 1 if all shares are equal, 1/n if one workspace gets everything.
"""

from __future__ import annotations

import argparse
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

from tqdm import tqdm

from .common import machine, sink, testbed
from .common.options import parser_of
from .common.records import record
from .common.report import Report, percentile

LONE = "lone"
LONE_INTERVAL = 2.0
"""Seconds between two records of the lone workspace."""

WARM_UP = 10.0
"""Seconds after the first request that are not measured, because the workers start one after the other."""

CHUNK = 1_000


def main(arguments: list[str]) -> None:
    """Run the benchmark."""
    options = _options(arguments)
    names = [f"busy-{number:04d}" for number in range(options.workspaces)]
    keys = {name: {"API_KEY": f"em_sk_{uuid.uuid4().hex}"} for name in [*names, LONE]}
    outbox = {"WORKSPACES": keys, "MAX_BATCH_RECORDS": options.batch, "WAKE_ON_COMMIT": True}
    with (
        sink.running(delay=options.delay) as api,
        testbed.running(options.database, api_url=api.url, **outbox) as bed,
    ):
        report = Report(options.name, vars(options))
        report.service("database", bed.version())
        _fill(names, options.records)
        bed.start_workers(options.workers, *options.pool.split())
        _wait_for_first_request(api)
        time.sleep(WARM_UP)
        meter = machine.CpuMeter(sink=[api.process.pid], workers=[worker.pid for worker in bed.workers])
        begin, lone, overdue = time.time(), [], []
        _watch(bed, options.seconds, lone, overdue)
        end, cpu = time.time(), meter.read()
        figures = api.figures()
        left = _pending(bed)
        bed.stop_workers()
        _report(report, options, names, (begin, end), figures, lone, overdue, left, cpu)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = parser_of("fairness", __doc__, "--workers", "--delay", "--database")
    parser.add_argument(
        "--workspaces", type=int, metavar="N", default=100, help="busy workspaces (default: 100)"
    )
    parser.add_argument("--seconds", type=float, metavar="SECONDS", default=60, help="duration (default: 60)")
    parser.add_argument(
        "--records", type=int, metavar="N", default=2_000, help="records of each (default: 2000)"
    )
    parser.add_argument(
        "--batch", type=int, metavar="N", default=20, help="records of a request (default: 20)"
    )
    parser.add_argument(
        "--pool",
        metavar="ARGUMENTS",
        default="-P threads -c 3",
        help="of each worker (default: -P threads -c 3)",
    )
    return parser.parse_args(arguments)


def _fill(names: list[str], count: int) -> None:
    from evermuse_outbox import outbox

    for position, name in enumerate(tqdm(names, unit=" workspaces", desc="enqueue", file=sys.stderr)):
        records = (_record(position * count + number, name) for number in range(count))
        outbox.enqueue_many(records, workspace=name)


def _record(number: int, workspace: str) -> dict[str, Any]:
    return record(number, 300, product=workspace)


def _wait_for_first_request(api: sink.Sink) -> None:
    for _ in range(600):
        if api.figures()["sends"]:
            return
        time.sleep(0.1)
    raise SystemExit("no request has arrived within a minute")


def _watch(bed: testbed.Testbed, seconds: float, lone: list[float], overdue: list[float]) -> None:
    """Enqueue the lone records, and sample how long the oldest due poll has been due."""
    from evermuse_outbox import outbox

    stop = time.monotonic() + seconds
    with tqdm(total=round(seconds), unit=" s", desc="deliver", file=sys.stderr) as bar:
        while (left := stop - time.monotonic()) > 0:
            outbox.enqueue(_record(10_000_000 + len(lone), LONE), workspace=LONE)
            lone.append(time.time())
            overdue.append(_overdue(bed))
            time.sleep(min(LONE_INTERVAL, left))
            bar.n = round(seconds - max(stop - time.monotonic(), 0))
            bar.refresh()


def _overdue(bed: testbed.Testbed) -> float:
    from django.db.models import Min

    from evermuse_outbox.database_clock import database_now
    from evermuse_outbox.models import OutboxBatch

    first = OutboxBatch.objects.aggregate(first=Min("next_poll_at"))["first"]
    return max((database_now("default") - first).total_seconds(), 0.0) if first else 0.0


def _pending(bed: testbed.Testbed) -> Counter[str]:
    from django.db.models import Count

    from evermuse_outbox.models import OutboxRecord

    rows = OutboxRecord.rows.pending().order_by().values_list("workspace").annotate(n=Count("pk"))
    return Counter(dict(rows))


def jain(values: list[int]) -> float:
    """Return Jain's index of fairness: from 1/n to 1."""
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 0.0


def waits_of(enqueued: list[float], sends: list[list[Any]]) -> Iterator[float]:
    """Yield the seconds from each lone record until a request has taken it. A request takes all that wait."""
    arrivals = sorted(send[0] for send in sends if send[3] == LONE)
    for at in enqueued:
        if (arrived := next((arrival for arrival in arrivals if arrival >= at), None)) is not None:
            yield arrived - at


def _report(
    report: Report,
    options: argparse.Namespace,
    names: list[str],
    span: tuple[float, float],
    figures: dict[str, Any],
    lone: list[float],
    overdue: list[float],
    left: Counter[str],
    cpu: dict[str, float],
) -> None:
    sends = [send for send in figures["sends"] if span[0] <= send[0] < span[1]]
    shares = Counter(send[3] for send in sends)
    counts = [shares[name] for name in names]
    waits = [*waits_of(lone[:-1], figures["sends"])]
    seconds = span[1] - span[0]
    report.raw |= {"shares": counts, "waits": waits, "overdue": overdue, "cpu": cpu}
    report.table(
        f"{options.workspaces} busy workspaces for {seconds:.0f} s, worker processes: {options.workers}, "
        f"answers after {options.delay:g} s",
        ["figure", "value"],
        [
            ["requests per second, all workspaces", len(sends) / seconds],
            ["requests of a workspace, fewest", min(counts)],
            ["requests of a workspace, median", percentile(counts, 0.5)],
            ["requests of a workspace, most", max(counts)],
            ["fewest / most", min(counts) / max(max(counts), 1)],
            ["Jain's index", jain(counts)],
            ["workspaces that ran out of records", sum(not left[name] for name in names)],
            ["wait of a lone record, median, s", percentile(waits, 0.5) if waits else "none arrived"],
            ["wait of a lone record, longest, s", max(waits) if waits else "none arrived"],
            ["lone records that arrived", f"{len(waits)} of {len(lone) - 1}"],
            ["reads per second", sum(span[0] <= read[0] < span[1] for read in figures["reads"]) / seconds],
            ["time for which a poll was due, longest, s", max(overdue)],
            *([f"busy cores, {role}", cpu[role] / seconds] for role in ("workers", "sink")),
            ["busy share of all cores", f"{100 * cpu['machine']:.0f} %"],
        ],
    )
    report.save(lambda figure: _draw(figure, counts, waits))


def _draw(figure: Any, counts: list[int], waits: list[float]) -> None:
    left, right = figure.subplots(1, 2)
    left.bar(range(len(counts)), sorted(counts), width=1.0)
    left.set(
        xlabel="workspaces, sorted", ylabel="requests", title="Shares of busy workspaces", ylim=(0, None)
    )
    right.plot(sorted(waits), [(number + 1) / len(waits) for number in range(len(waits))])
    right.set(xlabel="seconds", ylabel="share of the records", title="Wait of a lone record", ylim=(0, 1))

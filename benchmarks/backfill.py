"""Live latency beside a backfill, and what the backfill uses of the rate limit.

    python -m benchmarks backfill                                   # 200,000 rows; answers after 50 and 300 ms.
    python -m benchmarks backfill --rows 1000000 --delay 0.05       # a million rows.
    python -m benchmarks backfill --backlog 50000 --delay 0.05      # beside a live backlog of 50,000 records.

Lone live records commit at random times, first alone, then while ``manage.py outbox_backfill`` sends the messages of
the example project. Half of them are in the group of the backfill, and half in another one. Their latency is the time
from COMMIT until the API has read the head of the request.

With a live backlog, both start at once. Then the time until the backlog has arrived is measured, beside the time that
it needs without a backfill.

There is one Celery worker process with beat, one process that enqueues, and the process of the backfill.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from random import Random
from typing import Any

from .common import sink, testbed
from .common.options import parser_of
from .common.records import records
from .common.report import Report, percentile

RATE = 10
STARTUP = 5.0
"""Seconds before the first record, so that the workers have started and are idle."""

SIZE = 1_500
"""Bytes of a live record, and about the bytes of a record of the backfill."""

SAME, OTHER = "prod-support", "prod-live"
"""Product of the backfill's group, and that of another group."""


def main(arguments: list[str]) -> None:
    """Run the benchmark."""
    options = _options(arguments)
    if options.child is not None:
        print(json.dumps(_measure(options.child, options)))
        return
    report = Report(options.name, vars(options))
    runs = [_run_in_process(delay, options) for delay in options.delay]
    report.raw["runs"] = runs
    report.service("database", runs[0]["database"])
    if options.backlog:
        _add_backlog_table(report, options, runs)
    else:
        _add_tables(report, options, runs)
    report.save()


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = parser_of("backfill", __doc__)
    parser.add_argument("--rows", type=int, metavar="N", default=200_000, help="rows (default: %(default)s)")
    parser.add_argument(
        "--delay",
        type=float,
        nargs="+",
        default=[0.05, 0.3],
        metavar="SECONDS",
        help="response times of the API (default: 0.05 0.3)",
    )
    parser.add_argument(
        "--lone", type=int, metavar="N", default=60, help="lone records before the backfill (default: 60)"
    )
    parser.add_argument(
        "--every",
        type=float,
        metavar="SECONDS",
        default=0.5,
        help="mean time between two lone records (default: %(default)s)",
    )
    parser.add_argument(
        "--backlog", type=int, metavar="N", default=0, help="live records that wait when the backfill begins"
    )
    parser.add_argument("--child", type=float, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _run_in_process(delay: float, options: argparse.Namespace) -> dict[str, Any]:
    """Measure in a new process, because Django can be set up only once per process."""
    command = [sys.executable, "-m", "benchmarks", "backfill", "--child", str(delay)]
    for name in ("rows", "lone", "every", "backlog"):
        command += [f"--{name}", f"{getattr(options, name)}"]
    process = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return {"delay": delay, **json.loads(process.stdout.splitlines()[-1])}


def _measure(delay: float, options: argparse.Namespace) -> dict[str, Any]:
    with (
        sink.running(delay=delay, identities=True) as api,
        testbed.running(api_url=api.url, RATE_LIMIT=RATE) as bed,
    ):
        _insert_rows(bed, options.rows)
        bed.start_workers(1)
        time.sleep(STARTUP)
        found = {"database": bed.version()}
        if options.backlog:
            return found | _measure_backlog(api, options)
        alone = _commit_lone(api, options, count=options.lone, first=0)
        started = time.time()
        backfill = _start_backfill()
        beside = _commit_lone(api, options, process=backfill, first=options.lone)
        duration = time.time() - started
        if backfill.returncode:
            raise SystemExit(f"the backfill ended with status {backfill.returncode}")
        figures = api.figures()
        sends = [send for send in figures["sends"] if send[0] >= started]
        requests = [send[0] for send in figures["sends"]] + [at for at, _ in figures["reads"]]
        return found | {
            "alone": alone,
            "beside": beside,
            "seconds": duration,
            "sends": len(sends),
            "records": sum(send[1] for send in sends),
            "full": sum(send[1] == 1_000 for send in sends),
            "sliding": sink.max_per_sliding_second(requests),
        }


def _measure_backlog(api: sink.Sink, options: argparse.Namespace) -> dict[str, Any]:
    """Return the seconds until a live backlog has arrived, without and with a backfill."""
    from evermuse_outbox import outbox

    found = {}
    for name, first in (("alone", 0), ("beside", 10**7)):
        started = time.time()
        backfill = _start_backfill() if name == "beside" else None
        sent = len(api.figures()["sends"])
        outbox.enqueue_many(records(options.backlog, SIZE, first=first, product=OTHER))
        enqueued = time.time()
        while sum(send[1] for send in api.figures()["sends"][sent:] if send[3] == OTHER) < options.backlog:
            time.sleep(0.05)
        found[name] = time.time() - enqueued
        sends = [send for send in api.figures()["sends"][sent:] if send[0] >= started]
        found[f"{name}_backfilled"] = sum(send[1] for send in sends if send[3] != OTHER)
        if backfill:
            backfill.terminate()
            backfill.wait()
        time.sleep(3)
    return found


def _insert_rows(bed: testbed.Testbed, count: int) -> None:
    """Insert messages of one conversation with SQL, so that they have no records."""
    bed.sql(
        "INSERT INTO support_conversation (subject, customer_name, customer_email, opened_at) "
        "VALUES ('History', 'Ann', 'ann@example.com', now())"
    )
    bed.sql(
        "INSERT INTO support_message (conversation_id, author_name, author_email, from_customer, body, sent_at) "
        "SELECT currval(pg_get_serial_sequence('support_conversation', 'id')), 'Ann', 'ann@example.com', true, "
        "repeat('The export stops halfway. ', 40) || n, now() - n * interval '1 second' FROM generate_series(1, %s) n",
        count,
    )


def _start_backfill() -> subprocess.Popen:
    command = [sys.executable, "manage.py", "outbox_backfill", "support.Message"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def _commit_lone(
    api: sink.Sink,
    options: argparse.Namespace,
    *,
    first: int,
    count: int = 0,
    process: subprocess.Popen | None = None,
) -> dict[str, list[float]]:
    """Commit lone records, ``count`` of them or until the process ends. Return the waits of each group, in seconds."""
    from django.db import transaction

    from evermuse_outbox import outbox

    rng = Random(7)
    groups: dict[str, list[str]] = {SAME: [], OTHER: []}
    committed: dict[str, float] = {}
    number = 10**8 + first
    while len(committed) < count or (process is not None and process.poll() is None):
        time.sleep(options.every * (0.5 + rng.random()))
        number += 1
        product, name = (SAME, OTHER)[number % 2], f"message-{number}"
        [record] = records(1, SIZE, first=number, product=product)
        with transaction.atomic():
            outbox.enqueue(record)
        committed[name] = time.time()
        groups[product].append(name)
    deadline = time.monotonic() + 60
    while not committed.keys() <= (arrivals := api.arrivals()).keys():
        if time.monotonic() > deadline:
            raise SystemExit("records did not arrive within a minute")
        time.sleep(0.2)
    return {group: [arrivals[name] - committed[name] for name in names] for group, names in groups.items()}


def _add_tables(report: Report, options: argparse.Namespace, runs: list[dict[str, Any]]) -> None:
    rows = [
        [
            f"{run['delay']:g}",
            "the backfill's" if group == SAME else "another",
            *(
                " / ".join(f"{1_000 * percentile(run[when][group], share):.0f}" for share in (0.5, 0.99, 1))
                for when in ("alone", "beside")
            ),
            len(run["beside"][group]),
        ]
        for run in runs
        for group in (OTHER, SAME)
    ]
    headers = ["API answers after, s", "group", "alone, p50 / p99 / max", "beside the backfill", "records"]
    report.table("Lone live records, from COMMIT to the arrival, in ms", headers, rows)
    rows = [
        [
            f"{run['delay']:g}",
            f"{run['seconds']:.0f}",
            f"{options.rows / run['seconds']:.0f}",
            f"{100 * run['sends'] / run['seconds'] / RATE:.0f} %",
            f"{run['full']} of {run['sends']}",
            run["sliding"],
        ]
        for run in runs
    ]
    report.table(
        f"A backfill of {options.rows:,} rows",
        [
            "API answers after, s",
            "seconds",
            "rows/s",
            "sends, % of the limit",
            "full requests",
            "max. per second",
        ],
        rows,
    )


def _add_backlog_table(report: Report, options: argparse.Namespace, runs: list[dict[str, Any]]) -> None:
    rows = [
        [f"{run['delay']:g}", f"{run['alone']:.1f}", f"{run['beside']:.1f}", run["beside_backfilled"]]
        for run in runs
    ]
    headers = [
        "API answers after, s",
        "alone, s",
        "beside the backfill, s",
        "records of the backfill meanwhile",
    ]
    report.table(f"Until a live backlog of {options.backlog:,} records has arrived", headers, rows)


if __name__ == "__main__":
    main(sys.argv[1:])

"""CPU time of processes that have nothing to do, with one workspace and with a thousand.

    python -m benchmarks idle                                # beat with a worker, and outbox_relay.
    python -m benchmarks idle --only outbox_relay --seconds 60
    python -m benchmarks idle --database sqlite://

The server of the database counts as well: give one that nothing else uses. Redis is the broker of the worker.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from .common import machine, testbed
from .common.options import parser_of
from .common.report import Report

STARTUP = 25.0
"""Seconds before the measurement, so that the processes have started and have done what they do once."""

WORKSPACES = (1, 1_000)


def main(arguments: list[str]) -> None:
    """Run the benchmark."""
    options = _options(arguments)
    if options.child:
        print(json.dumps(_measure(**json.loads(options.child), options=options)))
        return
    report = Report(options.name, vars(options))
    cases = [
        {"title": title, "count": count}
        for title in ("beat and a worker", "outbox_relay")
        if not options.only or options.only in title
        for count in WORKSPACES
    ]
    results = [case | _run_in_process(case, options) for case in cases]
    report.raw["results"] = results
    report.service("database", results[0]["version"])
    report.table(
        f"CPU time while idle, in percent of a core, over {options.seconds:g} s",
        ["processes", "workspaces", "processes' share", "database's share", "together"],
        [[case["title"], case["count"], *shares(case)] for case in results],
    )
    report.save()


def shares(result: dict[str, Any]) -> list[float]:
    """Return the percentages of a core: the processes, the database, and both."""
    parts = [100 * result[name] / result["lasted"] for name in ("processes", "database")]
    return [*parts, sum(parts)]


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = parser_of("idle", __doc__, "--database")
    parser.add_argument(
        "--seconds", type=float, metavar="SECONDS", default=30, help="duration of each case (default: 30)"
    )
    parser.add_argument("--only", default="", metavar="WORD", help="only cases whose name contains WORD")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _run_in_process(case: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Measure in a new process, because Django can be set up only once per process."""
    command = [sys.executable, "-m", "benchmarks", "idle", "--child", json.dumps(case)]
    command += ["--database", options.database, "--seconds", f"{options.seconds}"]
    process = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(process.stdout.splitlines()[-1])


def _measure(title: str, count: int, options: argparse.Namespace) -> dict[str, Any]:
    names = [f"customer-{number}" for number in range(count)]
    workspaces = {name: {"API_KEY": f"em_sk_sandbox-{name}"} for name in names}
    is_relay = title == "outbox_relay"
    with testbed.running(options.database, WORKSPACES=workspaces, WAKE_ON_COMMIT=not is_relay) as bed:
        from evermuse_outbox.models import OutboxWorkspace

        OutboxWorkspace.objects.bulk_create(OutboxWorkspace(pk=name) for name in names)
        bed.start_relays(1) if is_relay else bed.start_workers(1)
        time.sleep(STARTUP)
        meter = machine.CpuMeter(processes=[process.pid for process in bed.workers], database=_server_of(bed))
        started = time.monotonic()
        time.sleep(options.seconds)
        spent, lasted = meter.read(), time.monotonic() - started
        return {
            "processes": spent["processes"],
            "database": spent["database"],
            "lasted": lasted,
            "version": bed.version(),
        }


def _server_of(bed: testbed.Testbed) -> list[int]:
    """Return the process id of the database server; nothing for SQLite, which has none."""
    if bed.database_url.startswith("postgres"):
        backend = psutil.Process(bed.sql("SELECT pg_backend_pid()")[0][0])
        return [backend.ppid()]
    if bed.database_url.startswith("mysql"):
        return [int(Path(bed.sql("SELECT @@pid_file")[0][0]).read_text())]
    return []

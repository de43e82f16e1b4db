"""Delivery while another transaction holds a snapshot: dead rows, sizes and latency, beside the same run without it.

    python -m benchmarks snapshot                                         # each contender for five minutes.
    python -m benchmarks snapshot --only awa --only "1,000" --minutes 60  # a long run of two contenders.
    python -m benchmarks snapshot --only "1,000" --rate 9500 --chunk 950 --apart --name snapshot-full

A transaction with the isolation level REPEATABLE READ reads a table of the host, and stays open for the whole run. It
locks no table of the contender. VACUUM cannot remove any row version that was deleted or replaced after its snapshot.
A long report, a forgotten session and a lagging replica with hot_standby_feedback have the same effect.

Each contender runs twice at the same time, in two databases on one server: once with the held snapshot, and once
without. A snapshot affects only its own database, and both runs share the load of the machine. The rate is the same for
all contenders. One more contender, this package with one record per request, shows what many batches do.

The server needs autovacuum, as production servers have it. Without it, both runs keep their dead rows.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from typing import Any

import psutil
import psycopg
from tqdm import tqdm

from .common import processes, sink, testbed
from .common.options import parser_of
from .common.report import Report, percentile
from .contenders import CONTENDERS, Contender, environment
from .contenders.running import ContenderError, host_and_api, host_command, run_host, workers
from .peers import add_versions

MODES = ("held", "none")
"""The run with the held snapshot, and the run without it."""

WINDOWS = 5
"""The first and the last of so many parts of a run are compared."""

STARTUP = 60.0
"""Seconds until the first records must have arrived. A Celery worker needs about five."""

DRAIN = 30.0
"""Seconds after the last transaction until the records that have not arrived count as a backlog."""

TABLES_SQL = """
    SELECT s.relname, s.n_dead_tup + coalesce(toast.n_dead_tup, 0), pg_table_size(s.relid), pg_indexes_size(s.relid)
    FROM pg_stat_user_tables AS s
    JOIN pg_class AS c ON c.oid = s.relid
    LEFT JOIN pg_stat_all_tables AS toast ON toast.relid = c.reltoastrelid
    WHERE s.relname NOT LIKE 'auth_%' AND s.relname NOT LIKE 'django_%' AND s.relname <> 'bare'
"""

HEADERS = (
    "contender",
    "snapshot",
    "delivered per second",
    "COMMIT to arrival, p50 in ms",
    "p99",
    "transaction, p50 in ms",
    "PostgreSQL, CPU ms per 1,000 records",
    "dead rows",
    "tables, MB",
    "indexes, MB",
)


def main(arguments: list[str]) -> None:
    """Run the benchmark."""
    options = _options(arguments)
    chosen = [contender for contender in CONTENDERS if _is_selected(contender, options.only)]
    report = Report(options.name, vars(options))
    failed = environment.prepare(sorted({each.requires for each in CONTENDERS if each.requires}))
    add_versions(report)
    _note_autovacuum(report)
    results: dict[str, dict[str, Any]] = {}
    for contender in chosen:
        try:
            if failed.get(contender.requires):
                raise ContenderError(f"is not installed: {failed[contender.requires]}")
            results[contender.title] = _run(contender, options)
        except (ContenderError, psycopg.Error) as error:
            report.note(f"{contender.title} failed: {error}")
    _add_tables(report, options, results)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = parser_of("snapshot", __doc__, "--size", "--delay")
    parser.add_argument(
        "--minutes", type=float, default=5, metavar="N", help="duration of a run (default: 5)"
    )
    parser.add_argument(
        "--rate", type=float, default=100, metavar="N", help="records enqueued per second (default: 100)"
    )
    parser.add_argument(
        "--chunk",
        type=int,
        default=10,
        metavar="N",
        help="records per transaction; more than ten are enqueued in one call (default: 10)",
    )
    parser.add_argument(
        "--every", type=float, default=10, metavar="SECONDS", help="time between samples (default: 10)"
    )
    parser.add_argument("--apart", action="store_true", help="run one database after the other")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="WORD",
        help="only contenders whose name contains WORD; may be repeated",
    )
    return parser.parse_args(arguments)


def _is_selected(contender: Contender, words: list[str]) -> bool:
    """Return whether a contender stores its records in the database and has a rate limit that production would have."""
    if contender.at_commit or (contender.scale > 1 and "RATE_LIMIT" in contender.outbox):
        return False
    return not words or any(word in f"{contender.title} {contender.module}" for word in words)


def _note_autovacuum(report: Report) -> None:
    with psycopg.connect(testbed.POSTGRES) as connection:
        settings = {
            name: connection.execute(f"SHOW {name}").fetchone()[0]  # type: ignore[index]
            for name in ("autovacuum", "autovacuum_naptime", "shared_buffers")
        }
    report.raw["settings"] = settings
    report.note(", ".join(f"{name} = {value}" for name, value in settings.items()))
    if settings["autovacuum"] != "on":
        report.note("autovacuum is off: the run without the snapshot keeps its dead rows, too.")


def _run(contender: Contender, options: argparse.Namespace) -> dict[str, Any]:
    """Run a contender in both modes, and return {mode: figures}."""
    groups = [[mode] for mode in MODES] if options.apart else [list(MODES)]
    return {
        mode: figures for group in groups for mode, figures in _run_at_once(contender, group, options).items()
    }


def _run_at_once(contender: Contender, modes: list[str], options: argparse.Namespace) -> dict[str, Any]:
    seconds = 60 * options.minutes
    with ExitStack() as stack:
        runs = {mode: stack.enter_context(_started(contender, options, mode)) for mode in modes}
        for run in runs.values():
            run.produce(stack)
        started = time.monotonic()
        with tqdm(total=round(seconds), unit=" s", desc=contender.title, file=sys.stderr) as bar:
            while any(run.is_producing() for run in runs.values()):
                for run in runs.values():
                    run.take_sample(time.monotonic() - started)
                bar.n = min(round(time.monotonic() - started), round(seconds))
                bar.set_postfix(backlog=[run.backlog() for run in runs.values()])
                time.sleep(options.every)
        return {mode: run.finish() for mode, run in runs.items()}


@contextmanager
def _started(contender: Contender, options: argparse.Namespace, mode: str) -> Iterator[_Run]:
    """Start the workers of a contender, deliver a few records, and take the snapshot if the mode has one."""
    with (
        host_and_api(contender, options.delay) as (variables, api, home),
        workers(variables, contender, home),
    ):
        run_host(variables, contender, "enqueue", "--records", "10", "--size", f"{options.size}", "--no-bare")
        deadline = time.monotonic() + STARTUP
        while api.counts()["distinct"] < 10:
            if time.monotonic() > deadline:
                raise ContenderError(f"no record arrived within {STARTUP:g} seconds")
            time.sleep(0.2)
        url = variables["DATABASE_URL"]
        with psycopg.connect(url, autocommit=True) as reader, psycopg.connect(url) as other:
            if mode == "held":
                other.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                other.execute("SELECT count(*) FROM bare")
            yield _Run(contender, options, variables, api, reader)


class _Run:
    """One contender in one database: its producer, and the samples so far."""

    def __init__(
        self,
        contender: Contender,
        options: argparse.Namespace,
        variables: dict[str, str],
        api: sink.Sink,
        reader: psycopg.Connection,
    ) -> None:
        self._contender, self._options, self._variables = contender, options, variables
        self._api, self._reader = api, reader
        self._transactions: list[list[float]] = []
        self._cpu: dict[int, float] = {}
        self.samples: list[dict[str, Any]] = []

    def produce(self, stack: ExitStack) -> None:
        """Start the process that enqueues, and a thread that reads its lines."""
        options = self._options
        arguments = {
            "--first": 10,
            "--rate": options.rate,
            "--seconds": 60 * options.minutes,
            "--chunk": options.chunk,
            "--size": options.size,
        }
        command = host_command(
            self._contender, "produce", *(f"{part}" for pair in arguments.items() for part in pair)
        )
        self._producer = subprocess.Popen(
            command, env=self._variables, cwd=testbed.ROOT, stdout=subprocess.PIPE, text=True
        )
        stack.callback(processes.end, [self._producer])
        self._lines = threading.Thread(target=self._read_lines, daemon=True)
        self._lines.start()

    def _read_lines(self) -> None:
        for line in iter(self._producer.stdout.readline, ""):  # type: ignore[union-attr]
            self._transactions.append(json.loads(line))

    def is_producing(self) -> bool:
        """Return whether the process that enqueues is still running."""
        return self._producer.poll() is None

    def enqueued(self) -> int:
        """Return the number of records enqueued so far, those of the start included."""
        return 10 + sum(int(transaction[1]) for transaction in list(self._transactions))

    def backlog(self) -> int:
        """Return the number of records that were enqueued and have not arrived."""
        return self.enqueued() - self._api.counts()["distinct"]

    def take_sample(self, second: float) -> None:
        """Store the sizes of all tables, the records that have arrived, and the CPU time of the server's processes."""
        counts = self._api.counts()
        self.samples.append(
            {
                "second": second,
                "enqueued": self.enqueued(),
                "arrived": counts["distinct"],
                "requests": counts["sends"],
                "cpu": self._cpu_seconds(),
                "tables": tables(self._reader.execute(TABLES_SQL).fetchall()),
            }
        )

    def _cpu_seconds(self) -> float:
        """Return the CPU seconds of the server's processes for this database. The server must be on this machine."""
        rows = self._reader.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        for (pid,) in rows:
            with suppress(psutil.Error):
                used = psutil.Process(pid).cpu_times()
                self._cpu[pid] = used.user + used.system
        return sum(self._cpu.values())

    def finish(self) -> dict[str, Any]:
        """Wait for the last records, and return the figures."""
        self._lines.join()
        if self._producer.returncode:
            raise ContenderError(f"enqueueing ended with status {self._producer.returncode}")
        last = self.samples[-1]["second"]
        deadline = time.monotonic() + DRAIN
        while (missing := self.backlog()) and time.monotonic() < deadline:
            time.sleep(0.5)
        self.take_sample(last + self._options.every)
        return {
            "samples": self.samples,
            "windows": windows(self._transactions, self._api.arrivals()),
            "requests": self._api.counts()["sends"],
            "twice": self._api.counts()["again"],
            "not arrived": missing,
        }


def tables(rows: list[tuple[Any, ...]]) -> dict[str, list[int]]:
    """Return {table: [dead rows, bytes of the table, bytes of its indexes]}. The partitions of a table are added up."""
    merged: dict[str, list[int]] = {}
    for name, *figures in rows:
        table = merged.setdefault(re.sub(r"_\d+$", "", name), [0, 0, 0])
        for place, figure in enumerate(figures):
            table[place] += int(figure or 0)
    return merged


def windows(transactions: list[list[float]], arrivals: dict[str, float]) -> list[dict[str, float]]:
    """Return the latencies of each part of the run, in seconds: from COMMIT to the arrival, and of the transaction.

    A record that has not arrived has no latency, so it counts only in ``missing``.
    """
    parts = []
    size = -(-len(transactions) // WINDOWS)
    for start in range(0, len(transactions), size):
        part = transactions[start : start + size]
        waits, missing = [], 0
        for first, count, committed, _ in part:
            for number in range(int(first), int(first + count)):
                arrival = arrivals.get(f"message-{number}")
                missing += arrival is None
                waits += [] if arrival is None else [max(0.0, arrival - committed)]
        parts.append(
            {
                "p50": percentile(waits, 0.5) if waits else float("nan"),
                "p99": percentile(waits, 0.99) if waits else float("nan"),
                "transaction": percentile([seconds for *_, seconds in part], 0.5),
                "missing": missing,
            }
        )
    return parts


def cpu_per_thousand(samples: list[dict[str, Any]]) -> list[float]:
    """Return the CPU milliseconds of PostgreSQL for 1,000 delivered records, in the first and in the last part."""
    size = max(1, len(samples) // WINDOWS)
    pairs = ((samples[0], samples[min(size, len(samples) - 1)]), (samples[-2 - size], samples[-2]))
    return [
        1e6 * (end["cpu"] - start["cpu"]) / max(1, end["arrived"] - start["arrived"]) for start, end in pairs
    ]


def _add_tables(report: Report, options: argparse.Namespace, results: dict[str, dict[str, Any]]) -> None:
    report.raw["contenders"] = results
    rows = [row(title, mode, figures) for title, modes in results.items() for mode, figures in modes.items()]
    report.table(
        f"{options.rate:g} records per second for {options.minutes:g} minutes, {options.chunk} per transaction. "
        f"Figures with an arrow: first fifth of the run → last fifth",
        HEADERS,
        rows,
    )
    report.table(
        "The tables with the most dead rows at the end, with the held snapshot and without it",
        ("contender", "table", "dead rows, held / none", "table, MB", "indexes, MB"),
        [line for title, modes in results.items() for line in _table_rows(title, modes)],
    )
    report.save(lambda figure: _draw(figure, results), size=(11, 4.5))


def row(title: str, mode: str, figures: dict[str, Any]) -> list[Any]:
    """Return the line of a run in the table."""
    first, last = figures["windows"][0], figures["windows"][-1]
    start, end = figures["samples"][0], figures["samples"][-2]  # the last sample is after the end
    total = [sum(each) for each in zip(*figures["samples"][-1]["tables"].values(), strict=True)]
    cpu = cpu_per_thousand(figures["samples"])
    return [
        title,
        mode,
        (end["arrived"] - start["arrived"]) / (end["second"] - start["second"]),
        *(f"{1e3 * first[name]:,.0f} → {1e3 * last[name]:,.0f}" for name in ("p50", "p99")),
        f"{1e3 * first['transaction']:.1f} → {1e3 * last['transaction']:.1f}",
        f"{cpu[0]:,.0f} → {cpu[1]:,.0f}",
        total[0],
        total[1] / 1e6,
        total[2] / 1e6,
    ]


def _table_rows(title: str, modes: dict[str, Any], count: int = 5) -> Iterator[list[Any]]:
    """Yield a line for each of the tables with the most dead rows."""
    at_end = {mode: figures["samples"][-1]["tables"] for mode, figures in modes.items()}
    most = max(at_end.values(), key=lambda found: sum(figures[0] for figures in found.values()))
    for name in sorted(most, key=lambda name: -most[name][0])[:count]:
        found = [at_end[mode].get(name, [0, 0, 0]) for mode in at_end]
        yield [
            title,
            name,
            " / ".join(f"{figures[0]:,}" for figures in found),
            *(" / ".join(f"{figures[place] / 1e6:,.2f}" for figures in found) for place in (1, 2)),
        ]


def _draw(figure: Any, results: dict[str, dict[str, Any]]) -> None:
    dead, cpu = figure.subplots(1, 2)
    for number, (title, modes) in enumerate(results.items()):
        for mode, figures in modes.items():
            samples, style = (
                figures["samples"][:-1],
                {"color": f"C{number}", "ls": "-" if mode == "held" else ":"},
            )
            seconds = [sample["second"] for sample in samples]
            totals = [1 + sum(table[0] for table in sample["tables"].values()) for sample in samples]
            dead.plot(seconds, totals, label=title if mode == "held" else None, **style)
            cpu.plot(seconds[1:], _cpu_line(samples), **style)
    dead.set(xlabel="seconds", ylabel="dead rows (log)", yscale="log", title="Dead rows")
    cpu.set(xlabel="seconds", ylabel="ms (log)", yscale="log", title="CPU of PostgreSQL per 1,000 records")
    figure.legend(
        loc="outside lower center", ncols=3, title="solid: with the held snapshot, dotted: without it"
    )


def _cpu_line(samples: list[dict[str, Any]]) -> list[float]:
    return [
        1e6 * (end["cpu"] - start["cpu"]) / max(1, end["arrived"] - start["arrived"])
        for start, end in pairwise(samples)
    ]

"""Comparison with other packages: cost of enqueueing, records per second, SQL statements per record.

    python -m benchmarks peers                                   # all contenders.
    python -m benchmarks peers --records 2000 --rounds 1         # a short run.
    python -m benchmarks peers --only jaiminho --only evermuse   # two contenders.

The contenders are a Celery task per record, django-celery-outbox, awa, django-post_office, django-outbox-pattern,
django-jaiminho, and evermuse_outbox: with full batches, and for comparison with one record per request. Each
contender is set up as its README recommends. The other packages are installed in the virtual environment
.venv-peers, which is created at the first run.

All contenders send the same records on the same machine to the same API, which answers after 5 ms. Each one has
one worker process, or two if it needs two, and ten concurrent sends, if it supports that. Each run has a new
database. The contenders take turns in each round, so that changes in the load of the machine affect all of them.
The figures are medians of the rounds. SQL statements are counted in a separate run.

Contenders without concurrent sends are slow: 2,000 records take ten minutes, 5,000 about twenty.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from statistics import median
from typing import Any

import psycopg
from tqdm import tqdm

from .common import sink, testbed
from .common.options import parser_of
from .common.report import Report, percentile
from .contenders import CONTENDERS, Contender, environment
from .contenders.running import ContenderError, host_and_api, run_host, workers
from .contenders.statement_counter import counting, split

HEADERS = (
    "contender",
    "enqueue, p50 in µs",
    "10 enqueues and COMMIT, p50 in ms",
    "delivered per second",
    "SQL per record, enqueue + delivery",
    "BEGIN, COMMIT … per record",
    "LISTEN and NOTIFY",
    "concurrent sends",
    "records per request",
    "arrived twice",
    "durable with the host's transaction",
)


def main(arguments: list[str]) -> None:
    """Run the benchmark."""
    options = _options(arguments)
    chosen = [contender for contender in CONTENDERS if _is_selected(contender, options.only)]
    report = Report(options.name, vars(options))
    failed = environment.prepare(
        sorted({contender.requires for contender in CONTENDERS if contender.requires})
    )
    add_versions(report)
    results = {contender.title: _Result(failed.get(contender.requires, "")) for contender in chosen}
    rounds = [*range(options.rounds), None]  # None: the run that counts statements
    with tqdm(total=len(rounds) * len(chosen), desc="runs", file=sys.stderr) as bar:
        for number in rounds:
            for contender in _rotated(chosen, number or 0):
                bar.set_postfix_str(contender.title)
                results[contender.title].run(contender, options, counts_sql=number is None)
                bar.update()
    _add_table(report, options, chosen, results)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = parser_of("peers", __doc__, "--size", "--delay")
    parser.add_argument(
        "--records",
        type=int,
        metavar="N",
        default=5_000,
        help="records per contender, 20 times as many for full batches (default: 5000)",
    )
    parser.add_argument("--rounds", type=int, metavar="N", default=3, help="rounds (default: 3)")
    parser.add_argument(
        "--counted",
        type=int,
        metavar="N",
        default=1_000,
        help="records in the run that counts SQL statements (default: 1000)",
    )
    parser.add_argument(
        "--timeout", type=float, default=300, metavar="SECONDS", help="time limit of a run (default: 300)"
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="WORD",
        help="only contenders whose name contains WORD; may be repeated",
    )
    return parser.parse_args(arguments)


def _is_selected(contender: Contender, words: list[str]) -> bool:
    return not words or any(word in f"{contender.title} {contender.module}" for word in words)


def _rotated(chosen: list[Contender], number: int) -> list[Contender]:
    """Return the contenders in the order of a round. In each round another one is the first."""
    first = number % len(chosen) if chosen else 0
    return chosen[first:] + chosen[:first]


class _Result:
    """The figures of the runs of one contender. After an error there are no further runs."""

    def __init__(self, error: str = "") -> None:
        self.error = error
        self.rounds: list[dict[str, Any]] = []
        self.sql: dict[str, Any] = {}

    def run(self, contender: Contender, options: argparse.Namespace, *, counts_sql: bool) -> None:
        """Run the contender once, and store the figures or the error."""
        if self.error:
            return
        try:
            if counts_sql:
                self.sql = _count(contender, options)
            else:
                self.rounds.append(_time(contender, options))
        except (ContenderError, psycopg.Error) as error:
            self.error = str(error)


def _time(contender: Contender, options: argparse.Namespace) -> dict[str, Any]:
    """Run one round, and return the cost of enqueueing and the speed of delivery."""
    with host_and_api(contender, options.delay) as (variables, api, home):
        more = options.records * (contender.scale - 1)
        times = _enqueue(variables, contender, options.records, options.size, "--more", f"{more}")
        with workers(variables, contender, home):
            figures = _wait_for(
                api, contender, variables["DATABASE_URL"], options.records + more, options.timeout
            )
    return _figures(times, figures)


def _count(contender: Contender, options: argparse.Namespace) -> dict[str, Any]:
    """Return the SQL statements by name, from the first enqueue until all records are marked as delivered."""
    count = options.counted * contender.scale
    with (
        host_and_api(contender, options.delay) as (variables, api, home),
        counting(variables["DATABASE_URL"]) as counted,
    ):
        url, counts = counted
        _enqueue(variables | {"DATABASE_URL": url}, contender, count, options.size, "--no-bare")
        enqueued = Counter(counts)
        with workers(variables | {"DATABASE_URL": url}, contender, home):
            _wait_for(api, contender, variables["DATABASE_URL"], count, options.timeout)
            delivered = counts - enqueued
    return {"records": count, "enqueue": enqueued, "delivery": delivered}


def _enqueue(
    variables: dict[str, str], contender: Contender, count: int, size: int, *extra: str
) -> dict[str, list[float]]:
    """Enqueue records, and return the seconds of the calls and transactions."""
    arguments = ("--records", f"{count}", "--size", f"{size}", *extra)
    return json.loads(run_host(variables, contender, "enqueue", *arguments))


def _wait_for(api: sink.Sink, contender: Contender, url: str, count: int, timeout: float) -> dict[str, Any]:
    """Wait until all records have arrived and are marked as delivered, and return the figures of the API."""
    deadline = time.monotonic() + timeout
    with psycopg.connect(url, autocommit=True) as connection:
        while time.monotonic() < deadline:
            figures = api.figures()
            undelivered = connection.execute(contender.undelivered_sql).fetchone()[0]
            if figures["distinct"] >= count and not undelivered:
                return figures
            time.sleep(0.5)
    raise ContenderError(f"{figures['distinct']:,} of {count:,} records arrived within {timeout:g} seconds")


def _figures(times: dict[str, list[float]], figures: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of one round."""
    p50 = {name: percentile(values, 0.5) for name, values in times.items()}
    return {
        "call": p50["calls"],
        "call_ratio": p50["calls"] / p50["bare_calls"],
        "transaction": p50["transactions"],
        "transaction_ratio": p50["transactions"] / p50["bare_transactions"],
        "p99": {name: percentile(values, 0.99) for name, values in times.items()},
        "bare_call": p50["bare_calls"],
        "delivered": delivered_per_second(figures["sends"]),
        "requests": len(figures["sends"]) + figures["repeated"],
        "records": figures["distinct"],
        "twice": figures["again"],
    }


def delivered_per_second(sends: list[list[Any]]) -> float:
    """Return the records per second from the first arrival to the last.

    The records of the first request do not count, because they were sent before that period.
    """
    ordered = sorted(sends)
    duration = ordered[-1][0] - ordered[0][0]
    return sum(send[1] for send in ordered[1:]) / duration if duration else float("nan")


def add_versions(report: Report) -> None:
    """Print and store the versions of the servers and of the other packages."""
    with psycopg.connect(testbed.POSTGRES) as connection:
        report.service("database", connection.execute("SELECT version()").fetchone()[0])
    import redis

    report.service("broker", f"Redis {redis.Redis.from_url(testbed.REDIS).info('server')['redis_version']}")
    versions = environment.versions()
    report.raw["peers_packages"] = versions
    names = sorted(
        {contender.requires.split("[")[0] for contender in CONTENDERS} | {"Django", "requests", "redis"}
    )
    installed = ", ".join(f"{name} {versions[name]}" for name in names if name in versions)
    report.note(f"The other packages run with {installed}.")


def _add_table(
    report: Report, options: argparse.Namespace, chosen: list[Contender], results: dict[str, _Result]
) -> None:
    report.raw["contenders"] = {title: vars(result) for title, result in results.items()}
    rows = [row(contender, results[contender.title]) for contender in chosen]
    report.table(
        f"{options.records:,} records of {options.size:,} bytes (full batches: {20 * options.records:,}), the API "
        f"answers after {1_000 * options.delay:g} ms, medians of {options.rounds} rounds",
        HEADERS,
        rows,
    )
    for title, result in results.items():
        if result.error:
            report.note(f"{title} failed: {result.error}")
    bare = [figures["bare_call"] for result in results.values() for figures in result.rounds]
    if bare:
        report.note(
            f"× is the ratio to a bare INSERT of the same record in the same process, which took "
            f"{1e6 * median(bare):.0f} µs at p50. evermuse_outbox validates each record, the other packages do not. "
            "All SQL statements to PostgreSQL are counted, BEGIN and COMMIT of the host's transactions included."
        )
    report.save(lambda figure: _draw(figure, chosen, results), size=(11, 4))


def row(contender: Contender, result: Any) -> list[Any]:
    """Return the line of a contender in the table."""
    if result.error or not result.rounds:
        return [
            contender.title,
            "failed",
            *"----",
            contender.notify,
            contender.in_flight,
            "-",
            "-",
            contender.durable,
        ]
    medians = {name: median(figures[name] for figures in result.rounds) for name in NUMBERS}
    call = f"{1e6 * medians['call']:.0f} ({medians['call_ratio']:.1f} ×)"
    enqueue, delivery, transactional = statements(result.sql)
    return [
        contender.title,
        "at COMMIT" if contender.at_commit else call,
        f"{1e3 * medians['transaction']:.1f} ({medians['transaction_ratio']:.1f} ×)",
        medians["delivered"],
        f"{enqueue:.2g} + {delivery:.2g}",
        f"{transactional:.2g}",
        contender.notify,
        contender.in_flight,
        medians["records"] / medians["requests"],
        int(sum(figures["twice"] for figures in result.rounds)),
        contender.durable,
    ]


NUMBERS = ("call", "call_ratio", "transaction", "transaction_ratio", "delivered", "requests", "records")


def statements(sql: dict[str, Any]) -> list[float]:
    """Return SQL statements per record: for enqueueing, for delivery, and those that begin and end transactions."""
    enqueue, enqueue_transactional = split(Counter(sql["enqueue"]))
    delivery, delivery_transactional = split(Counter(sql["delivery"]))
    counts = (enqueue, delivery, enqueue_transactional + delivery_transactional)
    return [count / sql["records"] for count in counts]


def _draw(figure: Any, chosen: list[Contender], results: dict[str, _Result]) -> None:
    lines = [(contender.title, results[contender.title].rounds) for contender in reversed(chosen)]
    lines = [(title, rounds) for title, rounds in lines if rounds]
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    for axes, name, label in (
        (left, "delivered", "records delivered per second (log)"),
        (right, "transaction_ratio", "10 enqueues, × bare INSERT"),
    ):
        values = [median(figures[name] for figures in rounds) for _, rounds in lines]
        bars = axes.barh([title for title, _ in lines], values)
        axes.bar_label(
            bars, [f"{value:,.0f}" if value >= 100 else f"{value:.1f}" for value in values], padding=2
        )
        axes.set_xlabel(label)
        axes.margins(x=0.2)
    left.set(xscale="log", xlim=(10, 10 * left.get_xlim()[1]))

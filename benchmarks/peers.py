"""Ours beside what one would pick instead: cost of enqueueing, records a second, SQL a record.

    python -m benchmarks peers
    python -m benchmarks peers --records 2000 --rounds 1         # a look
    python -m benchmarks peers --only jaiminho --only ours

The same records, on the same machine, to the same API that answers in 5 ms, each contender as its own README
wants it: a Celery task a record, django-celery-outbox, django-post_office, django-outbox-pattern and
django-jaiminho, in an environment of their own (.venv-peers, made at the first run); and ours, as it is meant
and, for comparison's sake, with one record a request. One worker process each (two where a package needs two),
with ten sends in flight where it can have more than one. Every contender gets a fresh database, and they take
turns, so that the machine's moods hit all alike; the figures are medians of the rounds. Statements are counted
in a run of their own, between the processes and PostgreSQL. Those that send one at a time take their while: 2,000
records are ten minutes, 5,000 about twenty.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
from tqdm import tqdm

from .common import processes, sink, testbed
from .common.databases import fresh_database
from .common.options import parser_of
from .common.report import Report, percentile
from .contenders import CONTENDERS, Contender, environment
from .contenders.statement_counter import counting, split

HEADERS = (
    "contender",
    "enqueue, p50 in µs",
    "10 enqueues and COMMIT, p50 in ms",
    "delivered a second",
    "SQL a record, enqueue + delivery",
    "BEGIN, COMMIT … a record",
    "sends in flight",
    "records a request",
    "came twice",
    "durable with the host's transaction",
)


class Failed(Exception):
    """A contender did not come to its end; the text says why."""


def main(arguments: list[str]) -> None:
    """Runs the benchmark."""
    options = _options(arguments)
    chosen = [contender for contender in CONTENDERS if _is_wanted(contender, options.only)]
    report = Report(options.name, vars(options))
    refused = environment.prepare(sorted({each.requires for each in CONTENDERS if each.requires}))
    _tell_versions(report)
    results = {each.title: _Result(refused.get(each.requires, "")) for each in chosen}
    turns = [*range(options.rounds), None]
    with tqdm(total=len(turns) * len(chosen), desc="runs", file=sys.stderr) as bar:
        for turn in turns:
            for contender in _rotated(chosen, turn or 0):
                bar.set_postfix_str(contender.title)
                results[contender.title].take(contender, options, counted=turn is None)
                bar.update()
    _tell(report, options, chosen, results)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = parser_of("peers", __doc__, "--size", "--delay")
    parser.add_argument(
        "--records", type=int, default=5_000, help="of each; ours grouped 20 ×; default: 5000"
    )
    parser.add_argument("--rounds", type=int, default=3, help="of which the medians are told; default: 3")
    parser.add_argument(
        "--counted", type=int, default=1_000, help="records while SQL is counted; default: 1000"
    )
    parser.add_argument("--patience", type=float, default=300, metavar="S", help="with one run; default: 300")
    parser.add_argument(
        "--only", action="append", default=[], metavar="WORD", help="contenders whose name has it"
    )
    return parser.parse_args(arguments)


def _is_wanted(contender: Contender, words: list[str]) -> bool:
    return not words or any(word in f"{contender.title} {contender.module}" for word in words)


def _rotated(chosen: list[Contender], turn: int) -> list[Contender]:
    """The same ones with another at the front in each round."""
    first = turn % len(chosen) if chosen else 0
    return chosen[first:] + chosen[:first]


class _Result:
    """What the runs of one contender came to."""

    def __init__(self, error: str = "") -> None:
        self.error = error
        self.rounds: list[dict[str, Any]] = []
        self.sql: dict[str, Any] = {}

    def take(self, contender: Contender, options: argparse.Namespace, *, counted: bool) -> None:
        """One run more, unless one has failed already."""
        if self.error:
            return
        try:
            if counted:
                self.sql = _count(contender, options)
            else:
                self.rounds.append(_time(contender, options))
        except (Failed, psycopg.Error) as error:
            self.error = str(error)


def _time(contender: Contender, options: argparse.Namespace) -> dict[str, Any]:
    """One round: what the host paid, and how fast the API was given it all."""
    with _host_and_api(contender, options) as (where, api, home):
        more = options.records * (contender.scale - 1)
        times = _enqueue(where, contender, options.records, options.size, "--more", f"{more}")
        with _workers(where, contender, home):
            figures = _await(api, contender, where["DATABASE_URL"], options.records + more, options.patience)
    return _figures(times, figures)


def _count(contender: Contender, options: argparse.Namespace) -> dict[str, Any]:
    """Statements by name, from the host's first to the last that writes down what was delivered."""
    count = options.counted * contender.scale
    with _host_and_api(contender, options) as (where, api, home), counting(where["DATABASE_URL"]) as counted:
        url, counts = counted
        _enqueue(where | {"DATABASE_URL": url}, contender, count, options.size, "--no-bare")
        enqueued = Counter(counts)
        with _workers(where | {"DATABASE_URL": url}, contender, home):
            _await(api, contender, where["DATABASE_URL"], count, options.patience)
            delivered = counts - enqueued
    return {"records": count, "enqueue": enqueued, "delivery": delivered}


@contextmanager
def _host_and_api(
    contender: Contender, options: argparse.Namespace
) -> Iterator[tuple[dict[str, str], sink.Sink, Path]]:
    """Variables of a contender's processes on a fresh, migrated database, the API, and a folder."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evermuse-peers-")))
        api = stack.enter_context(sink.running(delay=options.delay, identities=True))
        url = stack.enter_context(fresh_database(testbed.POSTGRES, home))
        where = stack.enter_context(_environment(contender, api.url, url, home))
        _host(where, contender, "prepare")
        yield where, api, home


@contextmanager
def _environment(contender: Contender, api_url: str, url: str, home: Path) -> Iterator[dict[str, str]]:
    """Variables of the contender's processes; their queue is emptied at the end."""
    queue = f"benchmark-{uuid.uuid4().hex[:8]}"
    yield os.environ | {
        "DJANGO_SETTINGS_MODULE": contender.settings,
        "DATABASE_URL": url,
        "REDIS_URL": testbed.REDIS,
        "CELERY_TASK_DEFAULT_QUEUE": queue,
        "EXAMPLE_VAR_DIR": str(home),
        "EVERMUSE_API_URL": api_url,
        "EVERMUSE_API_KEY": f"em_sk_{uuid.uuid4().hex}",
        "BENCHMARK_OUTBOX": json.dumps(dict(contender.outbox)),
        "C_FORCE_ROOT": "1",
    }
    import redis

    redis.Redis.from_url(testbed.REDIS).delete(queue)


def _python(contender: Contender) -> str:
    return str(environment.PYTHON if contender.requires else sys.executable)


def _enqueue(
    where: dict[str, str], contender: Contender, count: int, size: int, *wish: str
) -> dict[str, list[float]]:
    """Seconds that the host's calls and transactions took."""
    wish = ("--records", f"{count}", "--size", f"{size}", *wish)
    return json.loads(_host(where, contender, "enqueue", *wish))


def _host(where: dict[str, str], contender: Contender, *wish: str) -> str:
    """What the host printed."""
    command = [_python(contender), "-m", "benchmarks.contenders.host", *wish]
    done = subprocess.run(command, env=where, cwd=testbed.ROOT, capture_output=True, text=True)
    if done.returncode:
        raise Failed(environment.last_line(done.stderr))
    return done.stdout


@contextmanager
def _workers(where: dict[str, str], contender: Contender, home: Path) -> Iterator[None]:
    """The processes that deliver; a log with something in it is shown."""
    running, logs = [], []
    try:
        for number, words in enumerate(contender.workers):
            logs.append(home / f"{number}.log")
            command = [_python(contender), "-W", "ignore", *(word.format(home=home) for word in words)]
            with logs[-1].open("wb") as log:
                running.append(subprocess.Popen(command, env=where, cwd=testbed.ROOT, stdout=log, stderr=log))
        yield
    except Failed as error:
        said = [environment.last_line(log.read_text(errors="replace")) for log in logs]
        raise Failed(f"{error}; {' '.join(said)}") from None
    finally:
        processes.end(running)


def _await(api: sink.Sink, contender: Contender, url: str, count: int, patience: float) -> dict[str, Any]:
    """The API's figures once all has arrived and the contender has written that down."""
    end = time.monotonic() + patience
    with psycopg.connect(url, autocommit=True) as connection:
        while time.monotonic() < end:
            figures = api.figures()
            if figures["distinct"] >= count and not connection.execute(contender.left).fetchone()[0]:
                return figures
            time.sleep(0.5)
    raise Failed(f"{figures['distinct']:,} of {count:,} records arrived within {patience:g} s")


def _figures(times: dict[str, list[float]], figures: dict[str, Any]) -> dict[str, Any]:
    """Of one round."""
    p50 = {name: percentile(values, 0.5) for name, values in times.items()}
    return {
        "call": p50["calls"],
        "call_ratio": p50["calls"] / p50["bare_calls"],
        "transaction": p50["transactions"],
        "transaction_ratio": p50["transactions"] / p50["bare_transactions"],
        "p99": {name: percentile(values, 0.99) for name, values in times.items()},
        "bare_call": p50["bare_calls"],
        "delivered": delivered_a_second(figures["sends"]),
        "requests": len(figures["sends"]) + figures["repeated"],
        "records": figures["distinct"],
        "twice": figures["again"],
    }


def delivered_a_second(sends: list[list[Any]]) -> float:
    """Records a second from the first arrival to the last; those of the first were under way before."""
    ordered = sorted(sends)
    took = ordered[-1][0] - ordered[0][0]
    return sum(send[1] for send in ordered[1:]) / took if took else float("nan")


def _tell_versions(report: Report) -> None:
    with psycopg.connect(testbed.POSTGRES) as connection:
        report.service("database", connection.execute("SELECT version()").fetchone()[0])
    import redis

    report.service("broker", f"Redis {redis.Redis.from_url(testbed.REDIS).info('server')['redis_version']}")
    known = environment.versions()
    report.raw["peers_packages"] = known
    names = sorted({each.requires.split("[")[0] for each in CONTENDERS} | {"Django", "requests", "redis"})
    told = ", ".join(f"{name} {known[name]}" for name in names if name in known)
    report.note(f"The peers run with {told}.")


def _tell(
    report: Report, options: argparse.Namespace, chosen: list[Contender], results: dict[str, _Result]
) -> None:
    report.raw["contenders"] = {title: vars(result) for title, result in results.items()}
    rows = [row(contender, results[contender.title]) for contender in chosen]
    report.table(
        f"{options.records:,} records of {options.size:,} bytes (ours grouped: {20 * options.records:,}), answers "
        f"in {1_000 * options.delay:g} ms, medians of {options.rounds} rounds",
        HEADERS,
        rows,
    )
    for title, result in results.items():
        if result.error:
            report.note(f"{title} failed: {result.error}")
    bare = [each["bare_call"] for result in results.values() for each in result.rounds]
    if bare:
        report.note(
            f"× is how many times what a bare INSERT of the same line took in the same process: "
            f"{1e6 * median(bare):.0f} µs at p50. Ours validates each record, the others do not. Statements are "
            "counted between the processes and PostgreSQL; the host's own BEGIN and COMMIT are in."
        )
    report.save(lambda figure: _draw(figure, chosen, results), size=(11, 4))


def row(contender: Contender, result: Any) -> list[Any]:
    """A line of the table; beside a figure of the host stands how many times that of a bare INSERT it is."""
    known = [contender.title, contender.in_flight, contender.durable]
    if result.error or not result.rounds:
        return [known[0], "failed", "-", "-", "-", "-", known[1], "-", "-", known[2]]
    middle = {name: median(each[name] for each in result.rounds) for name in NUMBERS}
    call = f"{1e6 * middle['call']:.0f} ({middle['call_ratio']:.1f} ×)"
    enqueue, delivery, around = statements(result.sql)
    return [
        known[0],
        "at COMMIT" if contender.at_commit else call,
        f"{1e3 * middle['transaction']:.1f} ({middle['transaction_ratio']:.1f} ×)",
        middle["delivered"],
        f"{enqueue:.2g} + {delivery:.2g}",
        f"{around:.2g}",
        known[1],
        middle["records"] / middle["requests"],
        int(sum(each["twice"] for each in result.rounds)),
        known[2],
    ]


NUMBERS = ("call", "call_ratio", "transaction", "transaction_ratio", "delivered", "requests", "records")


def statements(sql: dict[str, Any]) -> list[float]:
    """Statements a record at enqueueing, at delivery, and those that only hold these together."""
    enqueue, around = split(Counter(sql["enqueue"]))
    delivery, around_too = split(Counter(sql["delivery"]))
    return [each / sql["records"] for each in (enqueue, delivery, around + around_too)]


def _draw(figure: Any, chosen: list[Contender], results: dict[str, _Result]) -> None:
    told = [(each.title, results[each.title].rounds) for each in reversed(chosen)]
    told = [(title, rounds) for title, rounds in told if rounds]
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    for axes, name, label in (
        (left, "delivered", "records delivered a second (log)"),
        (right, "transaction_ratio", "10 enqueues, × bare INSERTs"),
    ):
        values = [median(each[name] for each in rounds) for _, rounds in told]
        bars = axes.barh([title for title, _ in told], values)
        axes.bar_label(
            bars, [f"{value:,.0f}" if value >= 100 else f"{value:.1f}" for value in values], padding=2
        )
        axes.set_xlabel(label)
        axes.margins(x=0.2)
    left.set(xscale="log", xlim=(10, 10 * left.get_xlim()[1]))

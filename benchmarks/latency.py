"""Time from COMMIT until the record arrives at the API: for lone records, and for streams of records.

    python -m benchmarks latency                              # all triggers and three streams.
    python -m benchmarks latency --lone 20 --only RabbitMQ    # one trigger.
    python -m benchmarks latency --lone 0 --rates 5 50 500    # streams only.

Lone records: the workers are idle, and one record commits at a random time. The API stores the time when it has
read the head of the request. Four triggers of the relay are compared: a wake-up message through Redis, one
through RabbitMQ, the tick of beat alone, and the command outbox_relay, which needs no Celery.

Streams: records commit at random times, each in its own transaction. Below the rate limit, a record waits only
for LINGER. Above it, requests get fuller while they wait.

All other settings are the defaults. There is one Celery worker process with beat, and one process that enqueues.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from random import Random
from statistics import median
from typing import Any

from tqdm import tqdm

from .common import sink, testbed
from .common.options import parser_of
from .common.records import record
from .common.report import Report, percentile

RABBITMQ = os.environ.get("BENCHMARK_RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672//")
STARTUP = 5.0
"""Seconds before the first record, so that the workers have started and are idle."""

PAUSE = 4.0
"""Seconds between two streams."""


@dataclass(frozen=True)
class Trigger:
    """What starts the relay. ``outbox`` are settings in ``EVERMUSE_OUTBOX``."""

    title: str
    broker: str = ""
    relay: bool = False
    outbox: dict[str, Any] = field(default_factory=dict)


TRIGGERS = (
    Trigger("wake-up, Redis"),
    Trigger("wake-up, RabbitMQ", broker=RABBITMQ),
    Trigger("WAKE_ON_COMMIT off: the tick alone", outbox={"WAKE_ON_COMMIT": False}),
    Trigger("outbox_relay", relay=True, outbox={"WAKE_ON_COMMIT": False}),
)


def main(arguments: list[str]) -> None:
    """Run the benchmark."""
    options = _options(arguments)
    if options.child:
        print(json.dumps(_measure(Trigger(**json.loads(options.child)), options)))
        return
    report = Report(options.name, vars(options))
    triggers = [
        trigger
        for trigger in TRIGGERS
        if not options.only or any(word in trigger.title for word in options.only)
    ]
    lone = {
        trigger.title: _run_in_process(trigger, options, rates=[]) for trigger in triggers if options.lone
    }
    streams = _run_in_process(TRIGGERS[0], options, lone=0) if options.rates else {"streams": []}
    report.raw |= {"lone": lone, "streams": streams["streams"]}
    for server, version in {**streams, **next(iter(lone.values()), {})}.get("servers", {}).items():
        report.service(server, version)
    _add_tables(report, options, lone, streams["streams"])


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = parser_of("latency", __doc__, "--size", "--delay")
    parser.add_argument(
        "--lone", type=int, metavar="N", default=60, help="lone records per trigger (default: 60)"
    )
    parser.add_argument(
        "--rates",
        type=float,
        metavar="N",
        nargs="*",
        default=[5, 50, 500],
        help="records per second of each stream (default: 5 50 500)",
    )
    parser.add_argument(
        "--seconds", type=float, metavar="SECONDS", default=20, help="duration of a stream (default: 20)"
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="WORD",
        help="only triggers whose name contains WORD; may be repeated",
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _run_in_process(trigger: Trigger, options: argparse.Namespace, **other: Any) -> dict[str, Any]:
    """Measure in a new process, because Django can be set up only once per process."""
    values = vars(options) | other
    command = [sys.executable, "-m", "benchmarks", "latency", "--child", json.dumps(asdict(trigger))]
    for name in ("lone", "seconds", "size", "delay"):
        command += [f"--{name}", f"{values[name]}"]
    process = subprocess.run(
        [*command, "--rates", *map(str, values["rates"])], stdout=subprocess.PIPE, check=True
    )
    return json.loads(process.stdout)


def _measure(trigger: Trigger, options: argparse.Namespace) -> dict[str, Any]:
    """Measure lone records, then each stream."""
    if trigger.broker:
        os.environ["CELERY_BROKER_URL"] = trigger.broker
    with (
        sink.running(delay=options.delay, identities=True) as api,
        testbed.running(api_url=api.url, **trigger.outbox) as bed,
    ):
        bed.start_relays(1) if trigger.relay else bed.start_workers(1)
        time.sleep(STARTUP)
        _wait_for(api, _enqueue_at([0.0] * 3, _Numbers(), options.size, "warm"))
        numbers = _Numbers(1_000)
        lone = _measure_lone(api, options, numbers, trigger.title)
        streams = [_measure_stream(api, rate, options, numbers) for rate in options.rates]
        servers = {"database": bed.version(), "broker": _broker()}
    return {"waits": lone, "streams": streams, "servers": servers}


class _Numbers:
    """A counter for the numbers of records, so that no number is used twice."""

    def __init__(self, first: int = 0) -> None:
        self.next = first

    def take(self) -> int:
        """Return the next number."""
        self.next += 1
        return self.next - 1


def _measure_lone(api: sink.Sink, options: argparse.Namespace, numbers: _Numbers, title: str) -> list[float]:
    """Return the waits of lone records, in seconds. The records are 0.5 to 1.5 seconds apart."""
    rng = Random(7)
    commit_times = list(_random_times(options.lone, lambda: 0.5 + rng.random()))
    return _waits(api, _enqueue_at(commit_times, numbers, options.size, title))


def _measure_stream(
    api: sink.Sink, rate: float, options: argparse.Namespace, numbers: _Numbers
) -> dict[str, Any]:
    """Return the figures of a stream of single records."""
    time.sleep(PAUSE)
    rng = Random(7)
    commit_times = list(_random_times(int(rate * options.seconds), lambda: rng.expovariate(rate)))
    started = time.time()
    committed = _enqueue_at(commit_times, numbers, options.size, f"{rate:g}/s")
    duration = time.time() - started
    waits = _waits(api, committed)
    figures = api.figures()
    sends = [send[:2] for send in figures["sends"] if send[0] >= started]
    reads = [read[0] for read in figures["reads"] if read[0] >= started]
    return {"rate": rate, "lasted": duration, "waits": waits, "sends": sends, "reads": reads}


def _random_times(count: int, gap: Callable[[], float]) -> Iterator[float]:
    """Yield ``count`` times in seconds from the start. ``gap()`` returns the seconds between two of them."""
    commit_time = 0.0
    for _ in range(count):
        commit_time += gap()
        yield commit_time


def _enqueue_at(commit_times: list[float], numbers: _Numbers, size: int, title: str) -> dict[str, float]:
    """Enqueue a record at each time, or at once if it is late. Return {record: time of its COMMIT}."""
    from django.db import transaction

    from evermuse_outbox import outbox

    committed: dict[str, float] = {}
    started = time.time()
    for commit_time in tqdm(commit_times, desc=title, unit=" records", file=sys.stderr):
        number = numbers.take()
        time.sleep(max(0.0, started + commit_time - time.time()))
        with transaction.atomic():
            # This callback is the first one, so it runs directly after COMMIT and before the wake-up.
            transaction.on_commit(lambda name=f"message-{number}": committed.update({name: time.time()}))
            outbox.enqueue(record(number, size))
    return committed


def _waits(api: sink.Sink, committed: dict[str, float]) -> list[float]:
    """Return the seconds from the COMMIT of each record to its arrival."""
    arrivals = _wait_for(api, committed)
    return [arrivals[name] - at for name, at in committed.items()]


def _wait_for(api: sink.Sink, committed: dict[str, float], timeout: float = 120.0) -> dict[str, float]:
    """Wait until these records have arrived, and return the times of all arrivals."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        arrivals = api.arrivals()
        if committed.keys() <= arrivals.keys():
            return arrivals
        time.sleep(0.2)
    raise SystemExit(
        f"{len(committed.keys() - arrivals.keys())} records did not arrive within {timeout:g} seconds"
    )


def _broker() -> str:
    from celery import current_app

    url = current_app.conf.broker_url
    if not url.startswith("redis"):
        return url.partition(":")[0]
    import redis

    return f"Redis {redis.Redis.from_url(url).info('server')['redis_version']}"


def spread(waits: list[float]) -> list[Any]:
    """Return p50, p99 and the maximum in milliseconds, and the share of waits of at most one second."""
    within = sum(wait <= 1.0 for wait in waits) / len(waits)
    milliseconds = [1_000 * wait for wait in (median(waits), percentile(waits, 0.99), max(waits))]
    return [*milliseconds, f"{100 * within:.0f} %"]


def stream_figures(stream: dict[str, Any]) -> list[Any]:
    """Return the figures of a stream for the table.

    These are records per second, sends per second, records per send (mean and maximum), and the maximum of requests in
    a sliding second, reads included.
    """
    sends = stream["sends"]
    arrivals = [send[0] for send in sends] + stream["reads"]
    records = sum(send[1] for send in sends)
    return [
        records / stream["lasted"],
        len(sends) / stream["lasted"],
        records / len(sends),
        max(send[1] for send in sends),
        sink.max_per_sliding_second(arrivals),
    ]


def _add_tables(
    report: Report, options: argparse.Namespace, lone: dict[str, Any], streams: list[dict[str, Any]]
) -> None:
    rows = [[title, *spread(figures["waits"])] for title, figures in lone.items()]
    if rows:
        report.table(
            f"{options.lone} lone records, from COMMIT to the arrival in ms, workers idle",
            ["trigger", "p50", "p99", "max", "within 1 s"],
            rows,
        )
    if streams:
        report.table(
            f"Single records in a stream of {options.seconds:g} s, from COMMIT to the arrival in ms",
            [
                "records per second, planned",
                *("p50", "p99", "max", "within 1 s"),
                *(
                    "arrived per second",
                    "sends per second",
                    "records per send",
                    "max.",
                    "max. requests in a sliding second",
                ),
            ],
            [[stream["rate"], *spread(stream["waits"]), *stream_figures(stream)] for stream in streams],
        )
    report.save(lambda figure: _draw(figure, lone, streams), size=(10, 4.5))


def _draw(figure: Any, lone: dict[str, Any], streams: list[dict[str, Any]]) -> None:
    left, right = figure.subplots(1, 2, sharey=True)
    for title, figures in lone.items():
        left.ecdf(figures["waits"], label=title)
    for stream in streams:
        right.ecdf(stream["waits"], label=f"{stream['rate']:g} records per second")
    for axes, title in ((left, "Lone records, workers idle"), (right, "Streams of single records")):
        axes.set(xlabel="seconds from COMMIT to the arrival", ylabel="share of the records", title=title)
        axes.axvline(1.0, color="grey", linestyle=":")
        axes.set_xlim(left=0)
        if axes.lines[1:]:
            axes.legend()

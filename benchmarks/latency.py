"""How long a record waits from COMMIT to the wire: alone, and in a stream below and above the quota.

    python -m benchmarks latency
    python -m benchmarks latency --lone 20 --only "RabbitMQ"
    python -m benchmarks latency --rates 5 50 500 --seconds 20

Alone: workers are idle, one record commits at a random moment, and the API notes when the head of its request
came in. Woken by a kick through Redis and through RabbitMQ, found by the tick of beat alone, and by
outbox_relay without any Celery. In a stream: single records, each in its own transaction, at random moments.
While the quota has room nothing waits but the linger; where it has none, requests fill while they wait.
Settings are the defaults; one Celery worker process and beat, one host process.
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
SETTLING = 5.0
"""Seconds that the workers have before the first record, so that they are up and idle."""

QUIET = 4.0
"""Seconds between two streams."""


@dataclass(frozen=True)
class Way:
    """How records come to be found; ``outbox`` are keys of ``EVERMUSE_OUTBOX``."""

    title: str
    broker: str = ""
    relay: bool = False
    outbox: dict[str, Any] = field(default_factory=dict)


WAYS = (
    Way("kick, Redis"),
    Way("kick, RabbitMQ", broker=RABBITMQ),
    Way("KICK off: the tick alone", outbox={"WAKE_ON_COMMIT": False}),
    Way("outbox_relay", relay=True, outbox={"WAKE_ON_COMMIT": False}),
)


def main(arguments: list[str]) -> None:
    """Runs the benchmark."""
    options = _options(arguments)
    if options.play:
        print(json.dumps(_play(Way(**json.loads(options.play)), options)))
        return
    report = Report(options.name, vars(options))
    ways = [way for way in WAYS if not options.only or any(word in way.title for word in options.only)]
    lone = {way.title: _in_a_process(way, options, rates=[]) for way in ways if options.lone}
    streams = _in_a_process(WAYS[0], options, lone=0) if options.rates else {"streams": []}
    report.raw |= {"lone": lone, "streams": streams["streams"]}
    for server, version in {**streams, **next(iter(lone.values()), {})}.get("servers", {}).items():
        report.service(server, version)
    _tell(report, options, lone, streams["streams"])


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = parser_of("latency", __doc__, "--size", "--delay")
    parser.add_argument("--lone", type=int, default=60, help="records that come alone, a way; default: 60")
    parser.add_argument(
        "--rates", type=float, nargs="*", default=[5, 50, 500], help="records a second; default: 5 50 500"
    )
    parser.add_argument("--seconds", type=float, default=20, help="that a stream lasts; default: 20")
    parser.add_argument("--only", action="append", default=[], metavar="WORD", help="ways whose name has it")
    parser.add_argument("--play", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _in_a_process(way: Way, options: argparse.Namespace, **other: Any) -> dict[str, Any]:
    """Django is set up once for a process, so each way has one of its own."""
    wish = vars(options) | other
    command = [sys.executable, "-m", "benchmarks", "latency", "--play", json.dumps(asdict(way))]
    for name in ("lone", "seconds", "size", "delay"):
        command += [f"--{name}", f"{wish[name]}"]
    done = subprocess.run([*command, "--rates", *map(str, wish["rates"])], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def _play(way: Way, options: argparse.Namespace) -> dict[str, Any]:
    """Runs in a process of its own: lone records, then each stream."""
    if way.broker:
        os.environ["CELERY_BROKER_URL"] = way.broker
    with (
        sink.running(delay=options.delay, identities=True) as api,
        testbed.running(api_url=api.url, **way.outbox) as bed,
    ):
        bed.start_relays(1) if way.relay else bed.start_workers(1)
        time.sleep(SETTLING)
        _await(api, _enqueue_at([0.0] * 3, _Numbers(), options.size, "warm"))
        numbers = _Numbers(1_000)
        lone = _lone(api, options, numbers, way.title)
        streams = [_stream(api, rate, options, numbers) for rate in options.rates]
        servers = {"database": bed.version(), "broker": _broker()}
    return {"waits": lone, "streams": streams, "servers": servers}


class _Numbers:
    """Numbers for records, each given once."""

    def __init__(self, first: int = 0) -> None:
        self.next = first

    def take(self) -> int:
        self.next += 1
        return self.next - 1


def _lone(api: sink.Sink, options: argparse.Namespace, numbers: _Numbers, title: str) -> list[float]:
    """Seconds from COMMIT to the wire, a second between two records on average and never less than a half."""
    rng = Random(7)
    moments = list(_moments(rng, options.lone, lambda: 0.5 + rng.random()))
    return _waits(api, _enqueue_at(moments, numbers, options.size, title))


def _stream(api: sink.Sink, rate: float, options: argparse.Namespace, numbers: _Numbers) -> dict[str, Any]:
    """What a stream of single records came to."""
    time.sleep(QUIET)
    rng = Random(7)
    moments = list(_moments(rng, int(rate * options.seconds), lambda: rng.expovariate(rate)))
    started = time.time()
    committed = _enqueue_at(moments, numbers, options.size, f"{rate:g}/s")
    lasted = time.time() - started
    waits = _waits(api, committed)
    figures = api.figures()
    sends = [send[:2] for send in figures["sends"] if send[0] >= started]
    reads = [read[0] for read in figures["reads"] if read[0] >= started]
    return {"rate": rate, "lasted": lasted, "waits": waits, "sends": sends, "reads": reads}


def _moments(rng: Random, count: int, gap: Callable[[], float]) -> Iterator[float]:
    """Seconds from the start, one behind the other."""
    moment = 0.0
    for _ in range(count):
        moment += gap()
        yield moment


def _enqueue_at(moments: list[float], numbers: _Numbers, size: int, title: str) -> dict[str, float]:
    """When each record committed; one that is late comes at once."""
    from django.db import transaction

    from evermuse_outbox import outbox

    committed: dict[str, float] = {}
    started = time.time()
    for moment in tqdm(moments, desc=title, unit=" records", file=sys.stderr):
        number = numbers.take()
        time.sleep(max(0.0, started + moment - time.time()))
        with transaction.atomic():
            # The first callback: it runs right behind COMMIT, before the kick.
            transaction.on_commit(lambda name=f"message-{number}": committed.update({name: time.time()}))
            outbox.enqueue(record(number, size))
    return committed


def _waits(api: sink.Sink, committed: dict[str, float]) -> list[float]:
    arrivals = _await(api, committed)
    return [arrivals[name] - at for name, at in committed.items()]


def _await(api: sink.Sink, committed: dict[str, float], patience: float = 120.0) -> dict[str, float]:
    """The arrivals once all these are among them."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        arrivals = api.arrivals()
        if committed.keys() <= arrivals.keys():
            return arrivals
        time.sleep(0.2)
    raise SystemExit(f"{len(committed.keys() - arrivals.keys())} records did not arrive in {patience:g} s")


def _broker() -> str:
    from celery import current_app

    url = current_app.conf.broker_url
    if not url.startswith("redis"):
        return url.partition(":")[0]
    import redis

    return f"Redis {redis.Redis.from_url(url).info('server')['redis_version']}"


def spread(waits: list[float]) -> list[Any]:
    """p50, p99 and the longest in milliseconds, and the share within a second."""
    within = sum(wait <= 1.0 for wait in waits) / len(waits)
    middle = [1_000 * each for each in (median(waits), percentile(waits, 0.99), max(waits))]
    return [*middle, f"{100 * within:.0f} %"]


def flow(stream: dict[str, Any]) -> list[Any]:
    """Records a second that came, the requests that took them, and the most in a sliding second, reads too."""
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


def _tell(
    report: Report, options: argparse.Namespace, lone: dict[str, Any], streams: list[dict[str, Any]]
) -> None:
    rows = [[title, *spread(known["waits"])] for title, known in lone.items()]
    if rows:
        report.table(
            f"{options.lone} lone records, from COMMIT to the wire in ms, workers idle",
            ["found by", "p50", "p99", "max", "within a second"],
            rows,
        )
    if streams:
        report.table(
            f"Single records in a stream of {options.seconds:g} s, from COMMIT to the wire in ms",
            [
                "records a second wanted",
                *("p50", "p99", "max", "within a second"),
                *(
                    "came a second",
                    "sends a second",
                    "records a send",
                    "most",
                    "requests in a sliding second",
                ),
            ],
            [[stream["rate"], *spread(stream["waits"]), *flow(stream)] for stream in streams],
        )
    report.save(lambda figure: _draw(figure, lone, streams), size=(10, 4.5))


def _draw(figure: Any, lone: dict[str, Any], streams: list[dict[str, Any]]) -> None:
    left, right = figure.subplots(1, 2, sharey=True)
    for title, known in lone.items():
        left.ecdf(known["waits"], label=title)
    for stream in streams:
        right.ecdf(stream["waits"], label=f"{stream['rate']:g} records a second")
    for axes, title in ((left, "A lone record, workers idle"), (right, "A stream of single records")):
        axes.set(xlabel="seconds from COMMIT to the wire", ylabel="share of the records", title=title)
        axes.axvline(1.0, color="grey", linestyle=":")
        axes.set_xlim(left=0)
        if axes.lines[1:]:
            axes.legend()

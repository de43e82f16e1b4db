"""A host that enqueues as fast as Evermuse takes, and the delivery beside it, on one machine.

    python -m benchmarks together                           # 9,500 records a second, ten minutes
    python -m benchmarks together --rate 10000 --keys 2     # more than one key takes

The host is a process that calls ``enqueue_many``, validation included, in a transaction each tenth of a second
(benchmarks/common/producer.py). The limit of 10 requests counts what may have arrived in any second, so that at most
9.8 a second are sent, reads included; what is enqueued beyond that must pile up. With several keys the host gives each
of their workspaces its share in turn.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
import uuid
from typing import Any

from tqdm import tqdm

from .common import machine, sink, testbed
from .common.options import parser_of
from .common.report import Report


def main(arguments: list[str]) -> None:
    """Runs the benchmark."""
    options = _options(arguments)
    more = [f"key-{number}" for number in range(2, options.keys + 1)]
    outbox = {"WORKSPACES": {name: {"API_KEY": f"em_sk_{uuid.uuid4().hex}"} for name in more}}
    with sink.running() as api, testbed.running(options.database, api_url=api.url, **outbox) as bed:
        report = Report(options.name, vars(options))
        report.service("database", bed.version())
        bed.start_workers(options.workers)
        seconds = 60 * options.minutes
        meter = machine.CpuMeter(sink=[api.process.pid])
        producer = _produce(options.rate, seconds, ["default", *more])
        meter.add(workers=[worker.pid for worker in bed.workers])
        samples = _watch(api, producer, seconds)
        cpu, figures = meter.read(), api.figures()
        bed.stop_workers()
        _tell(report, options, samples, cpu, figures)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = parser_of("together", __doc__, "--workers", "--database")
    parser.add_argument("--rate", type=int, default=9_500, help="records a second; default: 9500")
    parser.add_argument("--minutes", type=float, default=10, help="default: 10")
    parser.add_argument("--keys", type=int, default=1, help="of Evermuse, a workspace each; default: 1")
    return parser.parse_args(arguments)


def _produce(rate: int, seconds: float, workspaces: list[str]) -> subprocess.Popen:
    command = [sys.executable, "-m", "benchmarks.common.producer", str(rate), str(seconds), *workspaces]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _watch(api: sink.Sink, producer: subprocess.Popen, seconds: float) -> list[dict[str, float]]:
    """Each second until the host is done: what it has enqueued, and what has arrived at the API."""
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(iter(producer.stdout.readline, "")))  # type: ignore[union-attr]
    reader.start()
    samples = []
    with tqdm(total=round(seconds), unit=" s", desc="host and delivery", file=sys.stderr) as bar:
        while producer.poll() is None:
            time.sleep(1)
            if lines:
                samples.append(_sample(api, lines[-1]))
                bar.n = min(round(samples[-1]["second"]), round(seconds))
                bar.set_postfix(backlog=round(samples[-1]["backlog"]))
    reader.join()
    return samples


def _sample(api: sink.Sink, line: str) -> dict[str, float]:
    enqueued, second, spent, busy = json.loads(line)
    arrived = sum(send[1] for send in api.figures()["sends"])
    return {
        "second": second,
        "enqueued": enqueued,
        "arrived": arrived,
        "spent": spent,
        "busy": busy,
        "backlog": enqueued - arrived,
    }


def _tell(
    report: Report,
    options: argparse.Namespace,
    samples: list[dict[str, float]],
    cpu: dict[str, float],
    figures: dict[str, Any],
) -> None:
    first, last = samples[len(samples) // 10], samples[-1]  # without the start
    seconds = last["second"] - first["second"]
    sends = figures["sends"]
    arrivals = [send[0] for send in sends] + [read[0] for read in figures["reads"]]
    report.raw |= {"samples": samples, "cpu": cpu, "figures": figures}
    report.table(
        f"{options.rate:,} records a second for {options.minutes:g} minutes, {options.workers} workers, "
        f"{options.keys} keys",
        ["what", "figure"],
        [
            ["enqueued a second", (last["enqueued"] - first["enqueued"]) / seconds],
            ["delivered a second", (last["arrived"] - first["arrived"]) / seconds],
            ["backlog at a tenth of the time", round(first["backlog"])],
            ["backlog at the end", round(last["backlog"])],
            ["its growth, of what was enqueued", _percent(last["backlog"] - first["backlog"], last, first)],
            ["mean records of a request", sum(send[1] for send in sends) / len(sends)],
            ["most requests in a sliding second, of all keys", sink.max_per_sliding_second(arrivals)],
            ["enqueue_many, ms for 1,000", 1e6 * last["spent"] / last["enqueued"]],
            *(
                [f"busy cores, {role}", cpu[role] / last["second"]]
                for role in cpu
                if role not in ("all", "machine")
            ),
            ["busy cores, host", last["busy"] / last["second"]],
            ["busy share of all cores", f"{100 * cpu['machine']:.0f} %"],
        ],
    )
    report.save(lambda figure: _draw(figure, samples))


def _percent(grown: float, last: dict[str, float], first: dict[str, float]) -> str:
    return f"{100 * grown / (last['enqueued'] - first['enqueued']):.2f} %"


def _draw(figure: Any, samples: list[dict[str, float]]) -> None:
    axes = figure.subplots()
    axes.plot([sample["second"] for sample in samples], [sample["backlog"] for sample in samples])
    axes.set(xlabel="seconds", ylabel="records", title="Backlog while the host enqueues", ylim=(0, None))

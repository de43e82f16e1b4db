"""Enqueueing and delivery at the same time on one machine, at about the rate that Evermuse accepts.

    python -m benchmarks together                           # 9,500 records per second, ten minutes.
    python -m benchmarks together --rate 10000 --keys 2     # more than one API key accepts.

A process calls ``enqueue_many`` in a transaction every tenth of a second, validation included
(benchmarks/common/producer.py).

The rate limit is 10 requests in any sliding second. The time of arrival is not known exactly, so at most
about 9.8 requests per second are sent, reads included. If more is enqueued, the backlog grows. With several API
keys, each key has a workspace, and the transactions use the workspaces in turn.
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
    """Run the benchmark."""
    options = _options(arguments)
    extra = [f"key-{number}" for number in range(2, options.keys + 1)]
    outbox = {"WORKSPACES": {name: {"API_KEY": f"em_sk_{uuid.uuid4().hex}"} for name in extra}}
    with sink.running() as api, testbed.running(options.database, api_url=api.url, **outbox) as bed:
        report = Report(options.name, vars(options))
        report.service("database", bed.version())
        bed.start_workers(options.workers)
        seconds = 60 * options.minutes
        meter = machine.CpuMeter(sink=[api.process.pid])
        producer = _start_producer(options.rate, seconds, ["default", *extra])
        meter.add(workers=[worker.pid for worker in bed.workers])
        samples = _watch(api, producer, seconds)
        cpu, figures = meter.read(), api.figures()
        bed.stop_workers()
        _add_table(report, options, samples, cpu, figures)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = parser_of("together", __doc__, "--workers", "--database")
    parser.add_argument(
        "--rate", type=int, metavar="N", default=9_500, help="records to enqueue per second (default: 9500)"
    )
    parser.add_argument("--minutes", type=float, metavar="MINUTES", default=10, help="duration (default: 10)")
    parser.add_argument(
        "--keys", type=int, metavar="N", default=1, help="API keys, with one workspace each (default: 1)"
    )
    return parser.parse_args(arguments)


def _start_producer(rate: int, seconds: float, workspaces: list[str]) -> subprocess.Popen:
    command = [sys.executable, "-m", "benchmarks.common.producer", str(rate), str(seconds), *workspaces]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _watch(api: sink.Sink, producer: subprocess.Popen, seconds: float) -> list[dict[str, float]]:
    """Return a sample for every second until the producer ends: the records enqueued, and those arrived at the API."""
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(iter(producer.stdout.readline, "")))  # type: ignore[union-attr]
    reader.start()
    samples = []
    with tqdm(total=round(seconds), unit=" s", desc="enqueue and deliver", file=sys.stderr) as bar:
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


def _add_table(
    report: Report,
    options: argparse.Namespace,
    samples: list[dict[str, float]],
    cpu: dict[str, float],
    figures: dict[str, Any],
) -> None:
    first, last = samples[len(samples) // 10], samples[-1]  # the first tenth is the start-up
    seconds = last["second"] - first["second"]
    sends = figures["sends"]
    arrivals = [send[0] for send in sends] + [read[0] for read in figures["reads"]]
    report.raw |= {"samples": samples, "cpu": cpu, "figures": figures}
    report.table(
        f"{options.rate:,} records per second for {options.minutes:g} minutes, worker processes: {options.workers}, "
        f"API keys: {options.keys}",
        ["figure", "value"],
        [
            ["records enqueued per second", (last["enqueued"] - first["enqueued"]) / seconds],
            ["records delivered per second", (last["arrived"] - first["arrived"]) / seconds],
            ["backlog after a tenth of the time", round(first["backlog"])],
            ["backlog at the end", round(last["backlog"])],
            [
                "growth of the backlog, % of the enqueued records",
                _percent(last["backlog"] - first["backlog"], last, first),
            ],
            ["records per request, mean", sum(send[1] for send in sends) / len(sends)],
            ["max. requests in a sliding second, all keys", sink.max_per_sliding_second(arrivals)],
            ["enqueue_many of 1,000 records, ms", 1e6 * last["spent"] / last["enqueued"]],
            *(
                [f"busy cores, {role}", cpu[role] / last["second"]]
                for role in cpu
                if role not in ("all", "machine")
            ),
            ["busy cores, producer", last["busy"] / last["second"]],
            ["busy share of all cores", f"{100 * cpu['machine']:.0f} %"],
        ],
    )
    report.save(lambda figure: _draw(figure, samples))


def _percent(growth: float, last: dict[str, float], first: dict[str, float]) -> str:
    return f"{100 * growth / (last['enqueued'] - first['enqueued']):.2f} %"


def _draw(figure: Any, samples: list[dict[str, float]]) -> None:
    axes = figure.subplots()
    axes.plot([sample["second"] for sample in samples], [sample["backlog"] for sample in samples])
    axes.set(xlabel="seconds", ylabel="records", title="Backlog during enqueueing", ylim=(0, None))

"""Simulation of the rate limit in the first seconds of a new key, on many kinds of network.

    python -m benchmarks ratelimit                                   # 1,000 seeds of each case, about half an hour.
    python -m benchmarks ratelimit --seeds 50                        # a few minutes.
    python -m benchmarks ratelimit --network uniform --answer 1      # one case.

The clock is simulated. The arithmetic is the real one (evermuse_outbox/ratelimit/algorithm.py). Senders with a
permanent backlog send from the first second on. All figures count from the first arrival at the server.

A seed decides all random times: when senders start, how long the backend takes, how long each request travels, and how
long a sender needs between two batches.
"""

from __future__ import annotations

import argparse
import heapq
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from random import Random
from typing import Any

from tqdm import tqdm

from evermuse_outbox.ratelimit import Limit, RateLimitState

from .common import sink
from .common.options import parser_of
from .common.report import Report, percentile

RATE = 10
"""Requests per second: the published limit."""

START = 1e9
"""Time of the start, in seconds since the epoch: as large as on a real clock, so that rounding is the same."""

JITTER = 0.2
"""Maximum seconds by which the network delays a request."""

CROWDED, CROWDED_PAUSE = 0.3, 0.1
"""Seconds, as in delivery/gates/permits.py and delivery/loop/runs.py."""

Network = Callable[[Random, float, int], tuple[float, float]]
"""Returns the seconds until the request arrives, and from then until its answer, without the work of the API.

The arguments are the random numbers, the seconds since the start, and the number of the sender.
"""


def steady(rng: Random, _seconds: float, _sender: int) -> tuple[float, float]:
    """Delay each request by 10 ms and up to a millisecond more."""
    return 0.01 + rng.uniform(0, 0.001), rng.uniform(0, 0.001)


def uniform(rng: Random, _seconds: float, _sender: int) -> tuple[float, float]:
    """Delay each request by 0 to 200 ms on its way to the server."""
    return rng.uniform(0, JITTER), 0.0


def both_ways(rng: Random, _seconds: float, _sender: int) -> tuple[float, float]:
    """Delay each request by 0 to 200 ms, and each answer as well."""
    return rng.uniform(0, JITTER), rng.uniform(0, JITTER)


def triangular(rng: Random, _seconds: float, _sender: int) -> tuple[float, float]:
    """Delay each request by 0 to 200 ms, where short delays are rare."""
    return rng.triangular(0, JITTER), 0.0


def exponential(rng: Random, _seconds: float, _sender: int) -> tuple[float, float]:
    """Delay requests and answers by 30 ms on average; a few take up to 200 ms."""
    return min(rng.expovariate(1 / 0.03), JITTER), min(rng.expovariate(1 / 0.03), JITTER)


def two_paths(rng: Random, _seconds: float, _sender: int) -> tuple[float, float]:
    """Delay every second request by 200 ms."""
    return rng.choice([0.0, JITTER]) + rng.uniform(0, 0.001), 0.0


def by_connection(rng: Random, _seconds: float, sender: int) -> tuple[float, float]:
    """Delay the requests of each sender by its own time."""
    return JITTER * (sender * 0.618 % 1) + rng.uniform(0, 0.001), 0.0


def rarely_fast(rng: Random, _seconds: float, _sender: int) -> tuple[float, float]:
    """Delay 95 % of the requests by 200 ms. The minimum is rare, so it is not known at first."""
    return (JITTER if rng.random() < 0.95 else 0.0) + rng.uniform(0, 0.001), 0.0


def faster_path(rng: Random, seconds: float, _sender: int) -> tuple[float, float]:
    """Delay all requests by 150 ms, and none any more after 15 seconds."""
    return (0.15 if seconds < 15 else 0.0) + rng.uniform(0, 0.001), 0.0


NETWORKS: dict[str, Network] = {
    "steady": steady,
    "uniform": uniform,
    "both-ways": both_ways,
    "triangular": triangular,
    "exponential": exponential,
    "two-paths": two_paths,
    "by-connection": by_connection,
    "rarely-fast": rarely_fast,
    "faster-path": faster_path,
}


@dataclass
class Simulation:
    """Senders, each with its own connection, that share one key."""

    network: Network
    answer: float
    senders: int
    rng: Random
    limit: Limit = field(default_factory=lambda: Limit.from_rate(RATE))
    state: RateLimitState = field(default_factory=RateLimitState)
    arrivals: list[float] = field(default_factory=list)
    _events: list[tuple[float, int, Callable[[float], None]]] = field(default_factory=list)
    _events_so_far: int = 0

    def run(self, seconds: float) -> list[float]:
        """Return the sorted times of arrival within ``seconds`` from the first one."""
        for sender in range(self.senders):
            self._at(START + self.rng.uniform(0, 1) * bool(sender), partial(self._reserve, sender))
        end = START + seconds + 1
        while self._events[0][0] < end:
            now, _, step = heapq.heappop(self._events)
            step(now)
        first = min(self.arrivals)
        return sorted(at for at in self.arrivals if at <= first + seconds)

    def _at(self, time: float, step: Callable[[float], None]) -> None:
        self._events_so_far += 1
        heapq.heappush(self._events, (time, self._events_so_far, step))

    def _reserve(self, sender: int, now: float) -> None:
        if self.state.wait(now) > CROWDED:
            self._at(now + CROWDED_PAUSE, partial(self._reserve, sender))
            return
        reservation, self.state = self.state.reserve(now, self.limit, patience=1)
        self._acquire_at(now + reservation.wait, sender)

    def _acquire_at(self, time: float, sender: int) -> None:
        self._at(time + self.rng.uniform(0.0002, 0.002), partial(self._acquire, sender))

    def _acquire(self, sender: int, now: float) -> None:
        permit_id = str(self._events_so_far)
        admission, self.state = self.state.acquire(now, self.limit, permit_id)
        if admission.permit is None:
            self._acquire_at(now + admission.wait, sender)
            return
        travel, back = self.network(self.rng, now - START, sender)
        self.arrivals.append(now + travel)
        answered_at = now + travel + self.answer + back
        self._at(answered_at + self.rng.uniform(0.0002, 0.001), partial(self._release, sender, permit_id))

    def _release(self, sender: int, permit_id: str, now: float) -> None:
        self.state = self.state.release(now, permit_id, is_comparable=True)
        self._at(now + self.rng.uniform(0.01, 0.03), partial(self._reserve, sender))


def useful_senders(answer: float) -> int:
    """Return how many senders keep up with the limit, by Little's law, and some that wait for a permit."""
    return math.ceil(RATE * (answer + 2 * JITTER)) + 2


def share_of_limit(arrivals: list[float]) -> float:
    """Return the requests per second from the first to the last arrival, as a share of the limit."""
    return (len(arrivals) - 1) / (arrivals[-1] - arrivals[0]) / RATE


def main(arguments: list[str]) -> None:
    """Run the benchmark."""
    options = _options(arguments)
    report = Report(options.name, vars(options))
    rows, runs = [], []
    for name, answer in product(options.network, options.answer):
        title = f"{name}, answers after {answer:g} s"
        seeds = tqdm(range(options.seeds), desc=title, unit=" runs", file=sys.stderr)
        results = [_simulate(NETWORKS[name], answer, options, seed) for seed in seeds]
        runs.append({"network": name, "answer": answer, "results": results})
        rows.append(_row(name, answer, results))
    report.raw["runs"] = runs
    report.table(
        f"The first {options.seconds:g} s of a new key, {options.seeds} seeds",
        [
            "network",
            "API answers after, s",
            "share of the limit, median",
            "lowest",
            "max. requests in a sliding second",
            "runs with more than ten",
        ],
        rows,
    )
    report.save()


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = parser_of("ratelimit", __doc__)
    parser.add_argument(
        "--seeds", type=int, default=1_000, metavar="N", help="runs of each case (default: 1,000)"
    )
    parser.add_argument(
        "--network", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="(default: all)"
    )
    parser.add_argument(
        "--answer",
        type=float,
        nargs="+",
        default=[0.005, 0.3, 1],
        metavar="SECONDS",
        help="response times of the API (default: 0.005 0.3 1)",
    )
    parser.add_argument(
        "--senders", type=int, metavar="N", help="senders of all processes (default: as many as are useful)"
    )
    parser.add_argument(
        "--seconds", type=float, default=30, metavar="SECONDS", help="duration of a run (default: 30)"
    )
    return parser.parse_args(arguments)


def _simulate(network: Network, answer: float, options: argparse.Namespace, seed: int) -> tuple[float, int]:
    senders = options.senders or useful_senders(answer)
    arrivals = Simulation(network, answer, senders, Random(seed)).run(options.seconds)
    return share_of_limit(arrivals), sink.max_per_sliding_second(arrivals)


def _row(name: str, answer: float, results: list[tuple[float, int]]) -> list[Any]:
    shares, busiest = zip(*results, strict=True)
    return [
        name,
        f"{answer:g}",
        f"{100 * percentile(shares, 0.5):.1f} %",
        f"{100 * min(shares):.1f} %",
        max(busiest),
        sum(most > RATE for most in busiest),
    ]

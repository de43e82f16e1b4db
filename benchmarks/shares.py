"""Simulation of the order inside a group: fair shares and newest first, compared with oldest first.

    python -m benchmarks shares                 # all scenarios, a few seconds.
    python -m benchmarks shares --only noisy    # one scenario.

There is no database and no clock. The code that divides a request is the real one
(delivery/ordering/portions.py). A request holds 1,000 records of one group, and each waits for the requests before it.
"""

from __future__ import annotations

import argparse
import math
import os
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import django

from .common.options import parser_of
from .common.report import Report
from .common.testbed import SETTINGS

os.environ.setdefault("DJANGO_SETTINGS_MODULE", SETTINGS)
django.setup()

from evermuse_outbox.delivery.ordering.portions import Share, divide, phase_of, split  # noqa: E402
from evermuse_outbox.delivery.ordering.shares import MAX_LABEL_SETS  # noqa: E402

RECORDS = 1_000
"""Records of a full request."""


@dataclass
class Scenario:
    """The customers of a group: pending records at the start, arrivals in each request, weights."""

    title: str
    backlog: dict[str, int]
    arrivals: dict[str, int] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    requests: int = 0
    """Requests to simulate; 0 until nothing is pending."""


def scenarios() -> dict[str, Scenario]:
    """Return all scenarios by name."""
    many = {f"customer-{number}": 1_000 for number in range(2_999)}
    return {
        "noisy": Scenario(
            "10 records behind 1,000,000 of another customer", {"noisy": 1_000_000, "small": 10}
        ),
        "many": Scenario("10 records behind 1,000 of each of 2,999 customers", many | {"small": 10}),
        "weights": Scenario(
            "weights 3, 1 and 0.5",
            dict.fromkeys("abc", 100_000),
            weights={"a": 3.0, "c": 0.5},
            requests=100,
        ),
        "outage": Scenario(
            "an outage of 600 requests, then arrivals at 60 % of the limit", {"all": 600_000}, {"all": 600}
        ),
    }


@dataclass
class Result:
    """What a simulation has counted. ``waits`` are requests that records waited for, by customer."""

    requests: int = 0
    sent: dict[str, int] = field(default_factory=dict)
    longest: dict[str, int] = field(default_factory=dict)
    fresh: int = 0
    """The longest wait of a record that arrived after the start."""


Take = Callable[[dict[str, "deque[int]"], int], Iterator[tuple[str, int]]]


def oldest_first(
    queues: dict[str, deque[int]], number: int, left: int = RECORDS
) -> Iterator[tuple[str, int]]:
    """Take the records that wait longest. Of the same age, those of the first customer were enqueued first."""
    while left and (waiting := [name for name, queue in queues.items() if queue]):
        name = min(waiting, key=lambda name: queues[name][0])
        arrived = queues[name][0]
        while left and queues[name] and queues[name][0] == arrived:
            left -= 1
            yield name, queues[name].popleft()


def fair(weights: dict[str, float], backlog_share: float = 1.0) -> Take:
    """Return a function that takes a fair share of each customer, and from each the oldest or both ends."""
    last = ""

    def take(queues: dict[str, deque[int]], number: int) -> Iterator[tuple[str, int]]:
        nonlocal last
        phase, names = phase_of(number), sorted(name for name, queue in queues.items() if queue)
        if len(names) > MAX_LABEL_SETS:  # one look sees some of them, and the next look continues
            start = bisect_right(names, last)
            names = [*names[start:], *names[:start]][:MAX_LABEL_SETS]
            last = names[-1]
        shares = [Share(weights.get(name, 1.0), len(queues[name])) for name in names]
        numbers = divide(RECORDS, shares, phase.shares)
        for name, count in zip(names, numbers, strict=True):
            ends = split(count, backlog_share, phase.ends)
            for _ in range(ends.oldest):
                yield name, queues[name].popleft()
            for _ in range(ends.newest):
                yield name, queues[name].pop()
        yield from oldest_first(queues, number, RECORDS - sum(numbers))

    return take


def simulate(scenario: Scenario, take: Take) -> Result:
    """Send requests until nothing is pending, or as many as the scenario says."""
    queues = {name: deque([0] * count) for name, count in scenario.backlog.items()}
    result = Result()
    until = scenario.requests or math.inf
    while any(queues.values()) and result.requests < until:
        for name, count in scenario.arrivals.items():
            queues[name].extend([result.requests] * count)
        for name, arrived in take(queues, result.requests):
            result.sent[name] = result.sent.get(name, 0) + 1
            wait = result.requests - arrived + 1
            result.longest[name] = max(result.longest.get(name, 0), wait)
            if arrived:
                result.fresh = max(result.fresh, wait)
        result.requests += 1
    return result


def main(arguments: list[str]) -> None:
    """Run the scenarios and print a table."""
    options = _options(arguments)
    report = Report(options.name, vars(options))
    rows = [
        (scenario.title, order, result.requests, describe(name, result))
        for name, scenario in scenarios().items()
        if options.only in (None, name)
        for order, result in compare(name, scenario).items()
    ]
    report.table("Order inside a group", ("scenario", "order", "requests", "result"), rows)
    report.save()


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = parser_of("shares", __doc__)
    parser.add_argument("--only", choices=list(scenarios()), help="run one scenario")
    return parser.parse_args(arguments)


def compare(name: str, scenario: Scenario) -> dict[str, Result]:
    """Simulate a scenario with the default order and with the other one."""
    other = ("newest first", fair({}, 0.2)) if name == "outage" else ("fair shares", fair(scenario.weights))
    return {order: simulate(scenario, take) for order, take in [("oldest first", oldest_first), other]}


def describe(name: str, result: Result) -> str:
    """Return what matters in a scenario."""
    if name == "weights":
        return ", ".join(f"{customer}: {count:,}" for customer, count in sorted(result.sent.items()))
    if name == "outage":
        return f"a fresh record waits for {result.fresh:,} requests at most"
    return f"the small customer waits for {result.longest['small']:,} requests"

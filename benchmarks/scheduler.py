"""Simulation of the scheduler, compared with first come first served, round robin, and an upper bound.

    python -m benchmarks scheduler                        # all scenarios, about a minute.
    python -m benchmarks scheduler --only hot --seconds 600   # one scenario.
    python -m benchmarks scheduler --max-wait 10              # another bound of the wait.

The clock is simulated, and there is no database. The code of evermuse_outbox is the real one
(delivery/scheduling/scheduler.py and run_queue.py). It knows what it knows in production: once per second, the age
of each group's oldest record, and the number of records of up to 64 groups.

A slot is the time of one request at the rate limit. A policy chooses the group for each slot, and sealing takes no
time.

A run does not start with empty groups, but as if the policy had run for a long time: each group was last served at
a random time within the period of the policy. For evermuse_outbox, the period is MAX_WAIT, or longer if there are
too many groups. For the other policies, it is the time to serve every group once.

The upper bound is the highest throughput of any policy that serves every group within MAX_WAIT. A policy that
breaks MAX_WAIT can have a higher throughput.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

import django
import numpy
from tqdm import tqdm

from .common.options import parser_of
from .common.report import Report
from .common.testbed import SETTINGS

RATE, RECORDS = 10, 1_000
"""Requests per second and records per request: the limits of Evermuse."""

TYPES = 9
OUTBOX = "evermuse_outbox"


@dataclass
class Scenario:
    """A set of groups. ``rates`` are the mean arrival rates of the groups, in records per second."""

    title: str
    rates: numpy.ndarray
    backlog: dict[int, int] = field(default_factory=dict)
    """Pending records at the start, by group. These groups do not count for the waiting times."""
    burst: tuple[float, int, int] = (0.0, 0, 0)
    """(seconds, groups, records): every so many seconds, each of the last groups gets so many records at once."""


def scenarios() -> dict[str, Scenario]:
    """Return all scenarios by name."""
    small = numpy.full(2_001, 0.02)
    small[0] = 0
    few = numpy.full(101, 0.1)
    few[0] = 0
    scenarios_by_name = {
        "hot": Scenario("a group with an endless backlog + 2,000 small groups", small, {0: 10**9}),
        "few": Scenario("a group with an endless backlog + 100 small groups", few, {0: 10**9}),
        "small": Scenario("5,000 small groups with a record every 40 s", numpy.full(5_000, 0.025)),
        "feasible": Scenario("5,000 small groups with a record every 10 minutes", numpy.full(5_000, 1 / 600)),
    }
    for percent in (60, 95, 120):
        scenarios_by_name[f"zipf{percent}"] = Scenario(
            f"{TYPES} types × 1,000 products, Zipf, {percent} % of the limit",
            zipf(TYPES * 1_000, percent / 100 * RATE * RECORDS),
        )
    rates = numpy.concatenate([zipf(200, 0.6 * RATE * RECORDS), numpy.zeros(120)])
    scenarios_by_name["bursts"] = Scenario(
        "200 groups at 60 % of the limit + 120 groups with 100 records every minute",
        rates,
        burst=(60.0, 120, 100),
    )
    lone = numpy.zeros(301)
    lone[0] = 0.6 * RATE * RECORDS
    scenarios_by_name["lone"] = Scenario(
        "a group at 60 % of the limit + 300 groups with a lone record every two minutes",
        lone,
        burst=(120.0, 300, 1),
    )
    return scenarios_by_name


def zipf(groups: int, total: float) -> numpy.ndarray:
    """Return rates in the proportion 1, 1/2, 1/3 … with the sum ``total``."""
    weights = 1 / numpy.arange(1, groups + 1)
    return weights * total / weights.sum()


# --- the simulation -----------------------------------------------------------------------------------


class Simulation:
    """The pending records of each group, and a clock that counts slots."""

    def __init__(self, scenario: Scenario, period: float = 0.0, seed: int = 7) -> None:
        """Fill the groups as if each was last served at a random time within ``period`` seconds."""
        self.scenario = scenario
        self.slot = 0
        self.rng = numpy.random.default_rng(seed)
        count = len(scenario.rates)
        self.queues: list[deque[list[int]]] = [deque() for _ in range(count)]
        self.waiting = numpy.zeros(count, dtype=numpy.int64)
        self.oldest = numpy.full(count, numpy.iinfo(numpy.int64).max)
        """The slot in which the oldest record of each group arrived; a very large number for an empty group."""
        for group, records in scenario.backlog.items():
            self.enqueue(group, records)
        for group in numpy.flatnonzero(scenario.rates):
            self._fill(int(group), min(period, RECORDS / scenario.rates[group]))

    def _fill(self, group: int, period: float) -> None:
        """Add the records that have arrived since the group was last served."""
        passed = self.rng.uniform(0, period) * RATE
        count = self.rng.poisson(passed / RATE * self.scenario.rates[group])
        arrivals = numpy.floor(self.rng.uniform(-passed, 0, count)).astype(int)
        for slot, records in zip(*numpy.unique(arrivals, return_counts=True), strict=True):
            self.enqueue(group, int(records), int(slot))

    @property
    def now(self) -> float:
        """Return the seconds since the start."""
        return self.slot / RATE

    def enqueue(self, group: int, records: int, slot: int | None = None) -> None:
        """Add records to a group that arrive now, or in the given slot."""
        self.queues[group].append([self.slot if slot is None else slot, records])
        self.waiting[group] += records
        self.oldest[group] = self.queues[group][0][0]

    def arrive(self) -> None:
        """Go to the next slot, and add the records that arrive until then."""
        self.slot += 1
        counts = self.rng.poisson(self.scenario.rates / RATE)
        for group in numpy.flatnonzero(counts):
            self.enqueue(int(group), int(counts[group]))
        interval, groups, records = self.scenario.burst
        if interval and self.slot % int(interval * RATE) == 0:
            for group in range(len(self.queues) - groups, len(self.queues)):
                self.enqueue(group, records)

    def seal(self, group: int) -> list[tuple[int, int]]:
        """Remove the records of one request, the oldest first. Return (slots waited, records) of each part."""
        taken, room, queue = [], RECORDS, self.queues[group]
        while queue and room:
            arrival, records = queue[0]
            part = min(records, room)
            taken.append((self.slot - arrival, part))
            room -= part
            queue[0][1] -= part
            if not queue[0][1]:
                queue.popleft()
        self.waiting[group] -= RECORDS - room
        self.oldest[group] = queue[0][0] if queue else numpy.iinfo(numpy.int64).max
        return taken


# --- policies: return the next group, or None if all are empty ------------------------------------------

Group = tuple[str, str]
"""A group of the outbox: type and product. The type is empty here, and the product is the number of the group."""

Policy = Callable[[Simulation], int | None]


def first_come_first_served(simulation: Simulation) -> int | None:
    """Return the group with the oldest record."""
    group = int(numpy.argmin(simulation.oldest))
    return group if simulation.waiting[group] else None


class RoundRobin:
    """A policy that chooses the next group, in a fixed order, that has records."""

    def __init__(self) -> None:
        self.last = -1

    def __call__(self, simulation: Simulation) -> int | None:
        """Return the next group."""
        groups = numpy.flatnonzero(simulation.waiting)
        if not len(groups):
            return None
        self.last = int(groups[numpy.searchsorted(groups, self.last, side="right") % len(groups)])
        return self.last


class OutboxPolicy:
    """The scheduler of evermuse_outbox, with the knowledge that a group scan gives it."""

    def __init__(self, max_wait: float, linger: float = 0.2) -> None:
        from evermuse_outbox.delivery.scheduling import RunQueue, scheduler

        self.queue = RunQueue()
        self.terms = scheduler.Terms(RATE, linger, max_wait, max_entries=RATE + 2)

    def __call__(self, simulation: Simulation) -> int | None:
        """Return the next group of the run queue that has records. Scan the groups if the queue is too old."""
        if not self.queue.entries or not self.queue.is_current(simulation.now):
            self._scan(simulation)
        self.queue.tried.clear()
        while entry := self.queue.take():
            group = int(entry.group[1])
            if simulation.waiting[group]:
                full_size = RECORDS if simulation.waiting[group] >= RECORDS else 0
                self.queue.note_sealed(entry, full_size, simulation.slot, simulation.now)
                return group
            self.queue.note_nothing_sealed(entry, simulation.now)
        return None

    def learn(self, simulation: Simulation) -> None:
        """Learn the arrival rate of each group, as if the scheduler had run for a long time."""
        ages = _ages(simulation)
        self.queue.learn_counts(
            {group: min(RECORDS, int(simulation.waiting[int(group[1])])) for group in ages}, ages, RECORDS, 0
        )

    def _scan(self, simulation: Simulation) -> None:
        from evermuse_outbox.delivery.scanning import group_scan
        from evermuse_outbox.delivery.scheduling import scheduler

        queue, ages, slots = self.queue, _ages(simulation), self.terms.max_entries
        groups = queue.describe_groups(ages, RECORDS, simulation.now)
        candidates = iter(scheduler.groups_to_count(groups, start=queue.sample_start))
        full: dict[Group, int] = {}
        while len(full) < slots and (chunk := list(islice(candidates, group_scan.COUNTED_AT_ONCE))):
            limits = queue.count_limits(chunk, RECORDS)
            counts = {
                group: min(limit, int(simulation.waiting[int(group[1])])) for group, limit in limits.items()
            }
            full |= queue.learn_counts(counts, ages, RECORDS, slots)
        queue.advance_sample()
        groups = [waiting._replace(full_requests=full.get(waiting.group, 0)) for waiting in groups]
        entries = scheduler.order_groups(groups, self.terms, last_was_due=queue.last_was_due)
        queue.refill(entries, {}, now=simulation.now, lifetime=self.terms.lifetime)


def _ages(simulation: Simulation) -> dict[Group, float]:
    """Return the age in seconds of the oldest record of each group that has records."""
    groups = numpy.flatnonzero(simulation.waiting)
    ages = (simulation.slot - simulation.oldest[groups]) / RATE
    return {("", str(group)): age for group, age in zip(groups, ages.tolist(), strict=True)}


# --- the upper bound ------------------------------------------------------------------------------------


@dataclass
class UpperBound:
    """The highest throughput that any policy can reach in the long run."""

    throughput: float
    """Records per second."""
    wait: float
    """Seconds until a group is served: MAX_WAIT, or more if there are too many groups."""


def upper_bound(scenario: Scenario, max_wait: float) -> UpperBound:
    """Return the upper bound. It is a fluid limit: the solution of a linear programme for the service rates.

    A group with the arrival rate r must be served within ``max_wait`` after its first record. So it needs at least
    1 / (max_wait + 1 / r) requests per second. Each of these requests carries the records that have arrived since the
    last one, at most a full request. Every other slot carries a full request, if any group has one. If the needed
    requests exceed their share of the slots, the wait is increased until they do not.
    """
    wait = max_wait
    while _needed_slots(scenario, wait) > _allowed_slots(scenario, wait) + 1e-9:
        wait *= 1.01
    requests, carried, excess = _service_rates(scenario, wait)
    free_slots = max(0.0, RATE - requests.sum())
    return UpperBound(float(carried.sum() + min(free_slots * RECORDS, excess.sum())), wait)


def round_duration(scenario: Scenario) -> float:
    """Return the seconds in which every group can be served once: the period of the other policies."""
    wait = 1.0
    while _service_rates(scenario, wait)[0].sum() > RATE:
        wait *= 1.01
    return wait


def _service_rates(scenario: Scenario, wait: float) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    """Return three rates per second of each group.

    They are the requests needed to keep ``wait``, the records in them, and the records that exceed them.
    """
    rates = scenario.rates.copy()
    requests = numpy.zeros_like(rates)
    requests[rates > 0] = 1 / (wait + 1 / rates[rates > 0])
    interval, groups, records = scenario.burst
    if interval:
        requests[-groups:], rates[-groups:] = 1 / interval, records / interval
    for group, backlog in scenario.backlog.items():
        requests[group], rates[group] = 0.0, backlog
    carried = numpy.minimum(rates, requests * RECORDS)
    return requests, carried, rates - carried


def _needed_slots(scenario: Scenario, wait: float) -> float:
    """Return the slots per second for the groups that do not fill requests."""
    requests, _, excess = _service_rates(scenario, wait)
    return float(requests[excess <= 0].sum())


def _allowed_slots(scenario: Scenario, wait: float) -> float:
    """Return the slots per second that groups which do not fill requests may get."""
    from evermuse_outbox.delivery.scheduling import scheduler

    _, carried, excess = _service_rates(scenario, wait)
    full = (carried + excess)[excess > 0].sum() / RECORDS
    return max(scheduler.DUE_SHARE * RATE, RATE - full)


# --- a run ----------------------------------------------------------------------------------------------


@dataclass
class Run:
    """The figures of one policy in one scenario. The first quarter of the time does not count."""

    slots: int = 0
    sent: list[int] = field(default_factory=list)
    """The records of each request."""
    waits: dict[int, int] = field(default_factory=dict)
    """{slots waited: number of records} of the groups without a backlog at the start."""
    longest_pending: int = 0
    """The longest wait of a record that is still pending at the end, in slots."""

    @property
    def throughput(self) -> float:
        """Return the records per second."""
        return sum(self.sent) * RATE / max(1, self.slots)

    @property
    def fill(self) -> float:
        """Return the mean size of a request, as a share of a full one."""
        return sum(self.sent) / max(1, len(self.sent)) / RECORDS

    def wait(self, share: float) -> float:
        """Return the seconds in which that share of the records was sealed. With 1, pending records count, too."""
        if share >= 1:
            return max([*self.waits, self.longest_pending]) / RATE
        target, passed = share * sum(self.waits.values()), 0
        for slots in sorted(self.waits):
            passed += self.waits[slots]
            if passed >= target:
                return slots / RATE
        return 0.0


def run(scenario: Scenario, policy: Policy, seconds: int, period: float, bar: tqdm) -> Run:
    """Simulate a policy for ``seconds``. ``period`` is the period for :class:`Simulation`."""
    simulation, figures = Simulation(scenario, period), Run()
    if isinstance(policy, OutboxPolicy):
        policy.learn(simulation)
    for slot in range(seconds * RATE):
        simulation.arrive()
        group = policy(simulation)
        taken = simulation.seal(group) if group is not None else []
        if slot >= seconds * RATE // 4:
            _note(figures, scenario, group, taken)
        if slot % RATE == 0:
            bar.update(1)
    others = [group for group in numpy.flatnonzero(simulation.waiting) if group not in scenario.backlog]
    figures.longest_pending = max(
        (simulation.slot - int(simulation.oldest[group]) for group in others), default=0
    )
    return figures


def _note(figures: Run, scenario: Scenario, group: int | None, taken: list[tuple[int, int]]) -> None:
    """Add a slot to the figures. ``group`` is None if the slot was not used."""
    figures.slots += 1
    if group is None:
        return
    figures.sent.append(sum(records for _, records in taken))
    if group not in scenario.backlog:
        for slots, records in taken:
            figures.waits[slots] = figures.waits.get(slots, 0) + records


# --- the report -----------------------------------------------------------------------------------------


def main(arguments: list[str]) -> None:
    """Run the benchmark."""
    options = _options(arguments)
    # The package of the scheduler imports models, although the scheduler itself needs none.
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", SETTINGS)
    django.setup()
    chosen = {
        name: scenario for name, scenario in scenarios().items() if not options.only or name in options.only
    }
    policies: dict[str, Callable[[], Policy]] = {
        "first come first served": lambda: first_come_first_served,
        "round robin": RoundRobin,
        OUTBOX: partial(OutboxPolicy, options.max_wait),
    }
    report = Report(options.name, vars(options))
    rounds = {name: round_duration(scenario) for name, scenario in chosen.items()}
    bounds = {name: upper_bound(scenario, options.max_wait) for name, scenario in chosen.items()}
    total = len(chosen) * len(policies) * options.seconds
    runs: dict[str, dict[str, Run]] = {}
    with tqdm(total=total, unit=" s", desc="simulate", file=sys.stderr) as bar:
        for name, scenario in chosen.items():
            runs[name] = {
                title: run(
                    scenario, create(), options.seconds, _period(title, bounds[name], rounds[name]), bar
                )
                for title, create in policies.items()
            }
    report.table(
        f"{RATE} requests per second with {RECORDS:,} records each, {options.seconds} s simulated, "
        f"MAX_WAIT {options.max_wait:g} s",
        [
            "scenario",
            "policy",
            "records per second",
            "% of the upper bound",
            "request size, % of full",
            "wait p50, s",
            "p99",
            "max.",
        ],
        [row for name in chosen for row in _rows(chosen[name], runs[name], bounds[name])],
    )
    report.save(partial(_draw, chosen, runs, bounds), size=(11, 3.2 * len(chosen)))


def _period(policy: str, bound: UpperBound, round_seconds: float) -> float:
    return bound.wait if policy == OUTBOX else round_seconds


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = parser_of("scheduler", __doc__)
    parser.add_argument(
        "--seconds", type=int, metavar="SECONDS", default=300, help="simulated time (default: 300)"
    )
    parser.add_argument(
        "--max-wait", type=float, default=30.0, metavar="SECONDS", help="the setting MAX_WAIT (default: 30)"
    )
    parser.add_argument(
        "--only", action="append", choices=sorted(scenarios()), help="run only this scenario; may be repeated"
    )
    return parser.parse_args(arguments)


def _rows(scenario: Scenario, runs: dict[str, Run], bound: UpperBound) -> Iterator[list[Any]]:
    title = scenario.title
    for policy, figures in runs.items():
        waits = [f"{figures.wait(share):.1f}" for share in (0.5, 0.99, 1)]
        of_bound = f"{100 * figures.throughput / bound.throughput:.1f} %"
        yield [title, policy, round(figures.throughput), of_bound, f"{100 * figures.fill:.1f} %", *waits]
        title = ""
    yield ["", "*upper bound*", round(bound.throughput), "100 %", "", "", "", f"{bound.wait:.1f}"]


def _draw(
    chosen: dict[str, Scenario], runs: dict[str, dict[str, Run]], bounds: dict[str, UpperBound], figure: Any
) -> None:
    rows = figure.subplots(len(chosen), 2, squeeze=False)
    for (left, right), name in zip(rows, chosen, strict=True):
        _draw_waits(left, runs[name], bounds[name])
        _draw_throughput(right, runs[name], bounds[name])
        left.set_title(chosen[name].title, fontsize=8, loc="left")


def _draw_waits(axes: Any, runs: dict[str, Run], bound: UpperBound) -> None:
    for colour, (policy, figures) in enumerate(runs.items()):
        slots = sorted(figures.waits)
        passed = numpy.cumsum([figures.waits[waited] for waited in slots])
        if len(slots):
            axes.step(
                [waited / RATE for waited in slots], 100 * passed / passed[-1], f"C{colour}", label=policy
            )
    axes.axvline(bound.wait, color="grey", linestyle=":", label="bound of the wait")
    axes.set(xlabel="seconds waited", ylabel="% of records", ylim=(0, 101))
    axes.legend(fontsize=6)


def _draw_throughput(axes: Any, runs: dict[str, Run], bound: UpperBound) -> None:
    for policy, figures in runs.items():
        axes.barh(policy, figures.throughput)
    axes.axvline(bound.throughput, color="grey", linestyle=":")
    axes.set(xlabel="records per second (dotted: upper bound)")
    axes.tick_params(labelsize=7)

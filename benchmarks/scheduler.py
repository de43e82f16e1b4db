"""Who goes next, simulated: the scheduler beside first come first served, round robin and the best there can be.

    python -m benchmarks scheduler                        # all scenarios, about a minute
    python -m benchmarks scheduler --only hot --seconds 600
    python -m benchmarks scheduler --max-wait 10

Pure: a simulated clock, no database. The scheduler is the pipeline's own (scheduler.py and run_queue.py), and it
knows as little as there: the age of each group's oldest record once a second, and of up to 64 groups whether they fill a
request. Every slot of the limit is used, sealing takes no time. Each run begins as after a long time: every group was
last served at some moment within the period that its policy, in the long run, comes to it (for ours: the bound,
stretched where it cannot be held; for the others: a round over all groups). "The best" keeps the bound; a policy that
breaks it can do more.
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

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")
django.setup()  # the package around the scheduler imports models, although the scheduler itself uses none

from evermuse_outbox.delivery.scheduling import scheduler  # noqa: E402
from evermuse_outbox.delivery.scheduling.group_scan import COUNTED_AT_ONCE  # noqa: E402
from evermuse_outbox.delivery.scheduling.run_queue import RunQueue  # noqa: E402

from .common.options import parser_of  # noqa: E402
from .common.report import Report  # noqa: E402

RATE, RECORDS = 10, 1_000
"""Requests a second, and records a request: what Evermuse allows."""

TYPES = 9
OURS = "Evermuse outbox"


@dataclass
class Scenario:
    """Groups with their flows. ``rates`` are records a second of steady random arrivals, a group each."""

    title: str
    rates: numpy.ndarray
    backlog: dict[int, int] = field(default_factory=dict)
    """Records that wait at the start, by group. Those groups are left out of the waiting times."""
    burst: tuple[float, int, int] = (0.0, 0, 0)
    """Every so many seconds, so many groups (the last ones) enqueue so many records each at once."""


def scenarios() -> dict[str, Scenario]:
    """By name."""
    small = numpy.full(2_001, 0.02)
    small[0] = 0
    few = numpy.full(101, 0.1)
    few[0] = 0
    made = {
        "hot": Scenario("a hot group without end + 2,000 small ones", small, {0: 10**9}),
        "few": Scenario("a hot group without end + 100 small ones", few, {0: 10**9}),
        "small": Scenario("5,000 small groups, a record in 40 s each", numpy.full(5_000, 0.025)),
        "feasible": Scenario("5,000 small groups, a record in 10 minutes each", numpy.full(5_000, 1 / 600)),
    }
    for percent in (60, 95, 120):
        made[f"zipf{percent}"] = Scenario(
            f"{TYPES} types × 1,000 products, Zipf, {percent} % of the limit",
            zipf(TYPES * 1_000, percent / 100 * RATE * RECORDS),
        )
    flow = numpy.concatenate([zipf(200, 0.6 * RATE * RECORDS), numpy.zeros(120)])
    made["bursts"] = Scenario(
        "200 groups at 60 % of the limit + 120 groups with 100 records at once every minute",
        flow,
        burst=(60.0, 120, 100),
    )
    return made


def zipf(groups: int, total: float) -> numpy.ndarray:
    """Rates in the proportion 1, 1/2, 1/3 … that sum up to ``total``."""
    weights = 1 / numpy.arange(1, groups + 1)
    return weights * total / weights.sum()


# --- the world ----------------------------------------------------------------------------------------


class World:
    """Queues, one a group, and a clock that goes from slot to slot."""

    def __init__(self, scenario: Scenario, period: float = 0.0, seed: int = 7) -> None:
        """``period``: seconds since a group was last served, at most."""
        self.scenario = scenario
        self.slot = 0
        self.rng = numpy.random.default_rng(seed)
        count = len(scenario.rates)
        self.queues: list[deque[list[int]]] = [deque() for _ in range(count)]
        self.waiting = numpy.zeros(count, dtype=numpy.int64)
        self.oldest = numpy.full(count, numpy.iinfo(numpy.int64).max)
        """The slot in which the oldest record of each group came."""
        for group, records in scenario.backlog.items():
            self.enqueue(group, records)
        for group in numpy.flatnonzero(scenario.rates):
            self._begin(int(group), min(period, RECORDS / scenario.rates[group]))

    def _begin(self, group: int, period: float) -> None:
        """The group as it is at some moment of its period."""
        passed = self.rng.uniform(0, period) * RATE
        count = self.rng.poisson(passed / RATE * self.scenario.rates[group])
        came = numpy.floor(self.rng.uniform(-passed, 0, count)).astype(int)
        for slot, records in zip(*numpy.unique(came, return_counts=True), strict=True):
            self.enqueue(group, int(records), int(slot))

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return self.slot / RATE

    def enqueue(self, group: int, records: int, slot: int | None = None) -> None:
        """So many more in the group, now or in that slot."""
        self.queues[group].append([self.slot if slot is None else slot, records])
        self.waiting[group] += records
        self.oldest[group] = self.queues[group][0][0]

    def arrive(self) -> None:
        """What the hosts enqueue until the next slot."""
        self.slot += 1
        counts = self.rng.poisson(self.scenario.rates / RATE)
        for group in numpy.flatnonzero(counts):
            self.enqueue(int(group), int(counts[group]))
        every, groups, records = self.scenario.burst
        if every and self.slot % int(every * RATE) == 0:
            for group in range(len(self.queues) - groups, len(self.queues)):
                self.enqueue(group, records)

    def seal(self, group: int) -> list[tuple[int, int]]:
        """Takes a request's worth, the longest waiting first: how long each part waited in slots, and its records."""
        taken, left, queue = [], RECORDS, self.queues[group]
        while queue and left:
            came, records = queue[0]
            part = min(records, left)
            taken.append((self.slot - came, part))
            left -= part
            queue[0][1] -= part
            if not queue[0][1]:
                queue.popleft()
        self.waiting[group] -= RECORDS - left
        self.oldest[group] = queue[0][0] if queue else numpy.iinfo(numpy.int64).max
        return taken


# --- the policies: the next group, or None where nothing waits ------------------------------------------

Policy = Callable[[World], int | None]


def first_come_first_served(world: World) -> int | None:
    """The group of the record that waits longest of all."""
    group = int(numpy.argmin(world.oldest))
    return group if world.waiting[group] else None


class RoundRobin:
    """The next group that has something."""

    def __init__(self) -> None:
        self.last = -1

    def __call__(self, world: World) -> int | None:
        there = numpy.flatnonzero(world.waiting)
        if not len(there):
            return None
        self.last = int(there[numpy.searchsorted(there, self.last, side="right") % len(there)])
        return self.last


class Ours:
    """The scheduler of this package, with the knowledge that a group scan gives it."""

    def __init__(self, max_wait: float, linger: float = 0.2) -> None:
        self.queue = RunQueue()
        self.terms = scheduler.Terms(RATE, linger, max_wait, slots=RATE + 2)

    def __call__(self, world: World) -> int | None:
        if not self.queue.entries or not self.queue.is_current(world.now):
            self._scan(world)
        self.queue.tried.clear()
        while entry := self.queue.take():
            group = int(entry.group[1])
            if world.waiting[group]:
                full_size = RECORDS if world.waiting[group] >= RECORDS else 0
                self.queue.note_sealed(entry, full_size, world.slot)
                return group
            self.queue.note_nothing_sealed(entry, world.now)
        return None

    def learn(self, world: World) -> None:
        """Learn the arrival rate of each group once, as if the scheduler had run for long."""
        ages = _ages(world)
        self.queue.learn_counts(
            {group: min(RECORDS, int(world.waiting[int(group[1])])) for group in ages}, ages, RECORDS, 0
        )

    def _scan(self, world: World) -> None:
        queue, ages, slots = self.queue, _ages(world), self.terms.slots
        groups = queue.describe_groups(ages, RECORDS)
        candidates = iter(scheduler.groups_to_count(groups, start=queue.sample_start))
        full: dict[scheduler.Group, int] = {}
        while len(full) < slots and (chunk := list(islice(candidates, COUNTED_AT_ONCE))):
            limits = queue.count_limits(chunk, RECORDS)
            counts = {group: min(limit, int(world.waiting[int(group[1])])) for group, limit in limits.items()}
            full |= queue.learn_counts(counts, ages, RECORDS, slots)
        queue.advance_sample()
        groups = [waiting._replace(full_requests=full.get(waiting.group, 0)) for waiting in groups]
        entries = scheduler.order_groups(groups, self.terms, last_was_due=queue.last_was_due)
        queue.refill(entries, {}, now=world.now, lifetime=self.terms.lifetime)


def _ages(world: World) -> dict[scheduler.Group, float]:
    """Return the age in seconds of the oldest record of each group that has records."""
    groups = numpy.flatnonzero(world.waiting)
    ages = (world.slot - world.oldest[groups]) / RATE
    return {("", str(group)): age for group, age in zip(groups, ages.tolist(), strict=True)}


# --- the best there can be ------------------------------------------------------------------------------


@dataclass
class Best:
    """The most that any policy can do in the long run."""

    flow: float
    """Records a second."""
    wait: float
    """Seconds: the bound, stretched where it cannot be held."""


def best(scenario: Scenario, max_wait: float) -> Best:
    """A fluid bound, the solution of a linear programme in how often each group is served.

    A group of rate r must be served once in ``max_wait`` after its first record, so at least
    1 / (max_wait + 1 / r) times a second. Each of these requests carries what came meanwhile, at most a full one;
    every further slot carries a full request as long as some group still has one. Where those first claims take more
    than the share of the slots that they are allowed, the bound stretches until they do not.
    """
    wait = max_wait
    while _claimed(scenario, wait) > _allowed(scenario, wait) + 1e-9:
        wait *= 1.01
    fixed, carried, wanting = _flows(scenario, wait)
    left = max(0.0, RATE - fixed.sum())
    return Best(float(carried.sum() + min(left * RECORDS, wanting.sum())), wait)


def a_round(scenario: Scenario) -> float:
    """Seconds in which every group is served once where all the slots go to that: the period of the other policies."""
    wait = 1.0
    while _flows(scenario, wait)[0].sum() > RATE:
        wait *= 1.01
    return wait


def _flows(scenario: Scenario, wait: float) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    """Of each group, a second: the requests that the bound demands, their records, and the records beyond them."""
    rates = scenario.rates.copy()
    claims = numpy.zeros_like(rates)
    claims[rates > 0] = 1 / (wait + 1 / rates[rates > 0])
    every, groups, records = scenario.burst
    if every:
        claims[-groups:], rates[-groups:] = 1 / every, records / every
    for group, backlog in scenario.backlog.items():
        claims[group], rates[group] = 0.0, backlog
    carried = numpy.minimum(rates, claims * RECORDS)
    return claims, carried, rates - carried


def _claimed(scenario: Scenario, wait: float) -> float:
    claims, _, wanting = _flows(scenario, wait)
    return float(claims[wanting <= 0].sum())


def _allowed(scenario: Scenario, wait: float) -> float:
    _, carried, wanting = _flows(scenario, wait)
    full = (carried + wanting)[wanting > 0].sum() / RECORDS
    return max(scheduler.DUE_SHARE * RATE, RATE - full)


# --- a run ----------------------------------------------------------------------------------------------


@dataclass
class Run:
    """What came of one policy in one scenario, without the first quarter of the time."""

    slots: int = 0
    sent: list[int] = field(default_factory=list)
    """The records of each request."""
    waits: dict[int, int] = field(default_factory=dict)
    """Slots that were waited → records, of the groups that had no backlog."""
    left: int = 0
    """The longest that one of those still waits at the end, in slots."""

    @property
    def flow(self) -> float:
        """Records a second."""
        return sum(self.sent) * RATE / max(1, self.slots)

    @property
    def fill(self) -> float:
        """The mean share of a full request."""
        return sum(self.sent) / max(1, len(self.sent)) / RECORDS

    def wait(self, share: float) -> float:
        """Seconds within which that share of the records was sealed; 1 for all, those that still wait included."""
        if share >= 1:
            return max([*self.waits, self.left]) / RATE
        wanted, passed = share * sum(self.waits.values()), 0
        for slots in sorted(self.waits):
            passed += self.waits[slots]
            if passed >= wanted:
                return slots / RATE
        return 0.0


def run(scenario: Scenario, policy: Policy, seconds: int, period: float, bar: tqdm) -> Run:
    """``seconds`` of simulated time."""
    world, told = World(scenario, period), Run()
    if isinstance(policy, Ours):
        policy.learn(world)
    for slot in range(seconds * RATE):
        world.arrive()
        group = policy(world)
        taken = world.seal(group) if group is not None else []
        if slot >= seconds * RATE // 4:
            _note(told, scenario, group, taken)
        if slot % RATE == 0:
            bar.update(1)
    others = [group for group in numpy.flatnonzero(world.waiting) if group not in scenario.backlog]
    told.left = max((world.slot - int(world.oldest[group]) for group in others), default=0)
    return told


def _note(told: Run, scenario: Scenario, group: int | None, taken: list[tuple[int, int]]) -> None:
    told.slots += 1
    if group is None:
        return
    told.sent.append(sum(records for _, records in taken))
    if group not in scenario.backlog:
        for slots, records in taken:
            told.waits[slots] = told.waits.get(slots, 0) + records


# --- the report -----------------------------------------------------------------------------------------


def main(arguments: list[str]) -> None:
    """Runs the benchmark."""
    options = _options(arguments)
    chosen = {name: one for name, one in scenarios().items() if not options.only or name in options.only}
    policies: dict[str, Callable[[], Policy]] = {
        "first come first served": lambda: first_come_first_served,
        "round robin": RoundRobin,
        OURS: partial(Ours, options.max_wait),
    }
    report = Report(options.name, vars(options))
    rounds = {name: a_round(scenario) for name, scenario in chosen.items()}
    bounds = {name: best(scenario, options.max_wait) for name, scenario in chosen.items()}
    total = len(chosen) * len(policies) * options.seconds
    runs: dict[str, dict[str, Run]] = {}
    with tqdm(total=total, unit=" s", desc="simulated", file=sys.stderr) as bar:
        for name, scenario in chosen.items():
            runs[name] = {
                title: run(scenario, make(), options.seconds, _period(title, bounds[name], rounds[name]), bar)
                for title, make in policies.items()
            }
    report.table(
        f"{RATE} requests of {RECORDS:,} records a second, {options.seconds} s simulated, bound {options.max_wait:g} s",
        [
            "scenario",
            "policy",
            "records a second",
            "of the best",
            "fill",
            "waiting p50 in s",
            "p99",
            "longest",
        ],
        [row for name in chosen for row in _rows(chosen[name], runs[name], bounds[name])],
    )
    report.save(partial(_draw, chosen, runs, bounds), size=(11, 3.2 * len(chosen)))


def _period(policy: str, bound: Best, a_round: float) -> float:
    return bound.wait if policy == OURS else a_round


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = parser_of("scheduler", __doc__)
    parser.add_argument("--seconds", type=int, default=300, help="of simulated time; default: 300")
    parser.add_argument("--max-wait", type=float, default=30.0, metavar="S", help="MAX_WAIT; default: 30")
    parser.add_argument(
        "--only", action="append", choices=sorted(scenarios()), help="this scenario; may be repeated"
    )
    return parser.parse_args(arguments)


def _rows(scenario: Scenario, runs: dict[str, Run], bound: Best) -> Iterator[list[Any]]:
    title = scenario.title
    for policy, told in runs.items():
        waits = [f"{told.wait(share):.1f}" for share in (0.5, 0.99, 1)]
        of_best = f"{100 * told.flow / bound.flow:.1f} %"
        yield [title, policy, round(told.flow), of_best, f"{100 * told.fill:.1f} %", *waits]
        title = ""
    yield ["", "*the best there can be*", round(bound.flow), "100 %", "", "", "", f"{bound.wait:.1f}"]


def _draw(
    chosen: dict[str, Scenario], runs: dict[str, dict[str, Run]], bounds: dict[str, Best], figure: Any
) -> None:
    rows = figure.subplots(len(chosen), 2, squeeze=False)
    for (left, right), name in zip(rows, chosen, strict=True):
        _draw_waits(left, runs[name], bounds[name])
        _draw_flow(right, runs[name], bounds[name])
        left.set_title(chosen[name].title, fontsize=8, loc="left")


def _draw_waits(axes: Any, runs: dict[str, Run], bound: Best) -> None:
    for colour, (policy, told) in enumerate(runs.items()):
        slots = sorted(told.waits)
        passed = numpy.cumsum([told.waits[one] for one in slots])
        if len(slots):
            axes.step([one / RATE for one in slots], 100 * passed / passed[-1], f"C{colour}", label=policy)
    axes.axvline(bound.wait, color="grey", linestyle=":", label="bound")
    axes.set(xlabel="seconds waited", ylabel="% of records", ylim=(0, 101))
    axes.legend(fontsize=6)


def _draw_flow(axes: Any, runs: dict[str, Run], bound: Best) -> None:
    for policy, told in runs.items():
        axes.barh(policy, told.flow)
    axes.axvline(bound.flow, color="grey", linestyle=":")
    axes.set(xlabel="records a second (dotted: the best)")
    axes.tick_params(labelsize=7)

"""What a workspace remembers between two turns of whose turn it is. Pure; stored as JSON on the workspace's row.

All of it is a hint. A group on the agenda may have been emptied, one that filled requests may do so no longer:
whoever seals finds out, and goes on with the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

from . import scheduler
from .scheduler import Entry, Group, Reason, Seen, Terms

REMEMBERED = 64
"""How many groups that fill requests are remembered, and how many that were tried in vain."""

HOTTEST = 16
"""Of how many groups, those that filled requests last, a census is told the heads. Each makes it a little slower, and
others leave few traces."""

AT_A_TIME = 16
"""Of how many groups a census asks in one query whether they fill a request."""

SWEEP_REST = 50
"""How many times as long as the last sweep took, no census makes another one."""

LONGEST_SWEEP_REST = 300.0
"""Seconds after which one does at the latest: a sweep that had to wait for a lock on the table must not keep what was
committed late waiting for fifty times as long."""

DEEP = 4
"""How many full requests deep a census looks into a group at the most. One with as many is taken to have enough for the
whole agenda: to count them all would cost more than to find out."""

REST = 2.0
"""Seconds that a group which was tried in vain goes last. Its records are fenced, or locked by somebody."""


class Filling(NamedTuple):
    """A group that filled a request when it was last served."""

    records: int
    """How many fill one: fewer than the limit where bytes or attachments are what bounds it."""
    served: int
    """The turn of that."""


class Head(NamedTuple):
    """Where the pending records of a group begin, by the moment of enqueueing and then the id."""

    enqueued_at: datetime
    pk: int
    """0 where it is not known."""


@dataclass(slots=True)
class Plan:
    """The agenda, and what helps to make the next one. Moments are in seconds since the epoch."""

    made: float = 0.0
    lasts: float = 0.0
    entries: list[Entry] = field(default_factory=list)
    due_was_last: bool = False
    filling: dict[Group, Filling] = field(default_factory=dict)
    resting: dict[Group, float] = field(default_factory=dict)
    heads: dict[Group, Head] = field(default_factory=dict)
    """The oldest pending record of groups on the agenda and of the hottest. Before it lie the traces of those that
    were taken, which the database keeps as long as an old transaction might look at them."""
    swept: float = 0.0
    """When a census last looked at all that waits, also before these heads."""
    sweep_took: float = 0.0
    """Seconds that this took."""
    arrival_rates: dict[Group, float] = field(default_factory=dict)
    """Records a second, of groups that were looked into."""
    start: int = 0
    """Where the sample of the next census begins."""
    after: Group = ("", "")
    """Where the last census stopped; empty where it had seen all groups."""

    def is_current(self, now: float) -> bool:
        """Whether the agenda is young enough. One from a host whose clock is ahead is: it will be used up soon."""
        return now - self.made < self.lasts

    def take(self) -> Entry | None:
        """The next slot, taken off the agenda."""
        return self.entries.pop(0) if self.entries else None

    def trusted_heads(self, now: float) -> dict[Group, Head]:
        """Where a census may begin in the hottest groups. Nowhere when a sweep is due: what was enqueued early and
        committed late lies before a head."""
        if not 0 <= now - self.swept < min(SWEEP_REST * self.sweep_took, LONGEST_SWEEP_REST):
            return {}
        return {group: self.heads[group] for group in self._hottest() if group in self.heads}

    def _hottest(self) -> list[Group]:
        return list(self.filling)[-HOTTEST:]

    def begin(
        self, entries: Iterable[Entry], oldest: Mapping[Group, Head], *, now: float, lasts: float
    ) -> None:
        """A new agenda in the place of the old one. ``oldest`` is where each group begins."""
        self.entries, self.made, self.lasts = list(entries), now, lasts
        kept = {entry.group for entry in self.entries}.union(self._hottest())
        self.heads = {group: oldest[group] for group in kept if group in oldest}
        self.resting = {group: until for group, until in self.resting.items() if self.is_resting(group, now)}

    def note_sealed(self, entry: Entry, filled: int, turn: int) -> None:
        """A batch of the group was sealed; ``filled`` is how many records filled it, 0 where there was room left."""
        self.due_was_last = entry.reason is Reason.DUE
        self.resting.pop(entry.group, None)
        self.filling.pop(entry.group, None)
        if filled:
            self.filling[entry.group] = Filling(filled, turn)
            self._forget_the_oldest(self.filling)
        else:
            self._strike(entry.group)

    def note_in_vain(self, group: Group, now: float) -> None:
        """Nothing of the group could be sealed."""
        self.filling.pop(group, None)
        self.resting.pop(group, None)
        self.resting[group] = now + REST
        self._forget_the_oldest(self.resting)
        self._strike(group)

    def comes_again(self, group: Group) -> bool:
        """Whether the group stands on what is left of the agenda."""
        return any(entry.group == group for entry in self.entries)

    def is_resting(self, group: Group, now: float) -> bool:
        """Whether the group was tried in vain a moment ago. An end that is further away than a rest is long comes from
        a clock that was ahead, or was set back since, and counts for nothing."""
        return now < self.resting.get(group, now) <= now + REST

    def learn(self, group: Group, age: float, records: int) -> None:
        """So many records wait in the group, the oldest for ``age`` seconds: that is its flow."""
        if age > 0:
            self.arrival_rates[group] = records / age

    def full_requests(
        self,
        seen: Sequence[Seen],
        terms: Terms,
        most: int,
        count: Callable[[Mapping[Group, int]], Mapping[Group, int]],
    ) -> dict[Group, int]:
        """How many full requests wait in the groups that were found to have one; as many as the agenda has slots where
        there are more than were counted.

        ``count`` tells how many records wait in each of some groups, counted up to the given number: what a census
        spends most on. So it is asked of a few groups at a time, and no more once they fill the agenda; and then how
        deep these are, together about an agenda.
        """
        ages, waiting = {one.group: one.age for one in seen}, dict[Group, int]()
        full: list[Group] = []
        wanted = iter(scheduler.to_probe(seen, start=self.start))
        while len(full) < terms.slots and (some := list(islice(wanted, AT_A_TIME))):
            worth = {group: self.records_of(group, most) for group in some}
            waiting |= (found := count(worth))
            full += [group for group in some if found[group] >= worth[group]]
            for group in some:
                self.learn(group, ages[group], found[group])
        self.start += scheduler.PROBES // 4
        deep = min(DEEP, scheduler.requests_worth_knowing(len(full), terms))
        if deep > 1 and full:
            waiting |= count({group: deep * self.records_of(group, most) for group in full})
        found = {group: max(1, waiting[group] // self.records_of(group, most)) for group in full}
        return {group: terms.slots if requests >= DEEP else requests for group, requests in found.items()}

    def records_of(self, group: Group, most: int) -> int:
        """How many records fill a request of the group, as far as is known; ``most`` where nothing is."""
        known = self.filling.get(group)
        return min(most, known.records) if known else most

    def all_seen(self, ages: Mapping[Group, float], most: int) -> list[Seen]:
        """What the scheduler is told of groups into which nobody has looked yet, by the ages of their oldest
        records; ``most`` records fill a request, unless fewer did."""
        arrival_rates, filling, fresh = self.arrival_rates, self.filling, Filling(most, 0)
        return [
            Seen(group, age, 0, known.served, arrival_rates.get(group, 0.0) * age / min(most, known.records))
            for group, age in ages.items()
            for known in (filling.get(group, fresh),)
        ]

    def _strike(self, group: Group) -> None:
        self.entries = [entry for entry in self.entries if entry.group != group]

    @staticmethod
    def _forget_the_oldest(memory: dict[Group, Any]) -> None:
        while len(memory) > REMEMBERED:
            del memory[next(iter(memory))]

    def as_json(self) -> dict[str, Any]:
        """For the row."""
        return {
            "made": self.made,
            "lasts": self.lasts,
            "next": [[*entry.group, entry.reason.value] for entry in self.entries],
            "due_was_last": self.due_was_last,
            "filling": [[*group, *known] for group, known in self.filling.items()],
            "resting": [[*group, until] for group, until in self.resting.items()],
            "heads": [[*group, head.enqueued_at.isoformat(), head.pk] for group, head in self.heads.items()],
            "swept": self.swept,
            "sweep_took": self.sweep_took,
            "start": self.start,
            "after": self.after,
        }

    @classmethod
    def of_json(cls, told: Any) -> Plan:
        """From the row; an empty plan where nothing readable is there, as it is only a hint."""
        try:
            return cls(
                made=float(told["made"]),
                lasts=float(told["lasts"]),
                entries=[Entry((kind, product), Reason(reason)) for kind, product, reason in told["next"]],
                due_was_last=bool(told["due_was_last"]),
                filling={
                    (kind, product): Filling(records, served)
                    for kind, product, records, served in told["filling"]
                },
                resting={(kind, product): until for kind, product, until in told["resting"]},
                heads={
                    (kind, product): Head(datetime.fromisoformat(at), int(pk))
                    for kind, product, at, pk in told["heads"]
                },
                swept=float(told["swept"]),
                sweep_took=float(told["sweep_took"]),
                start=int(told["start"]),
                after=(told["after"][0], told["after"][1]),
            )
        except (LookupError, TypeError, ValueError):
            return cls()

"""The run queue: the groups to seal next, and what a workspace remembers to choose the next ones. Pure.

It is stored as JSON in the workspace's row. Every sealing locks and reads that row anyway, so choosing a group costs no
query. Without the queue, each sealing would scan all groups. All of it is a hint: a group in it may be empty by now.
Sealing finds that out and takes the next group.

A *resume point* says where the pending records of a group begin. A scan starts there, so that it does not read the dead
index entries of sealed records again. A *full scan* ignores all resume points.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from .scheduler import COUNTED_GROUPS, Entry, Group, Reason, Terms, WaitingGroup

MAX_REMEMBERED = 64
"""Groups that are remembered as recently full, and groups that are remembered as resting."""

MAX_RESUME_POINTS = 16
"""Number of recently full groups whose resume points a scan uses. Each one makes the query longer, and other groups
leave few dead tuples."""

FULL_SCAN_INTERVAL = 50
"""The pause between two full scans, as a multiple of the duration of the last one. So they take 2 % of the time."""

MAX_FULL_SCAN_INTERVAL = 300.0
"""Maximum seconds between two full scans. Without it, a scan that a lock slowed down would delay the next for long."""

REST_SECONDS = 2.0
"""Seconds that a group *rests* if nothing of it could be sealed. Meanwhile it is tried only if nothing else can be
sealed. Its records are locked, or blocked by an earlier version in flight (``sealing/versions.py``)."""

COUNTED_REQUESTS = 4
"""Full requests up to which a group is counted. A group with as many is assumed to fill all slots of a run queue.
Counting all its records would cost more than a wrong assumption."""


class FullRequest(NamedTuple):
    """What is known about a group that filled its last request."""

    records: int
    """Records that fill a request: fewer than the limit if bytes or attachments are the limit."""
    sealed_at: int
    """The seal count of that request."""


class ResumePoint(NamedTuple):
    """Where the pending records of a group begin in the order of (``enqueued_at``, id)."""

    enqueued_at: datetime
    pk: int
    """0 if it is not known."""


class GroupScan(NamedTuple):
    """The result of a scan."""

    groups: list[WaitingGroup]
    oldest: dict[Group, ResumePoint]
    """Where the pending records of each group begin."""
    seconds: float
    """How long the scan took."""


@dataclass(slots=True)
class RunQueue:
    """The entries, and the memory that helps to make the next ones. Times are seconds since the epoch."""

    entries: list[Entry] = field(default_factory=list)
    made_at: float = 0.0
    lifetime: float = 0.0
    last_was_due: bool = False
    recently_full: dict[Group, FullRequest] = field(default_factory=dict)
    resting: dict[Group, float] = field(default_factory=dict)
    """Resting group → end of its rest."""
    sealed_at: dict[Group, float] = field(default_factory=dict)
    """Group → when a batch of it was sealed that did not fill a request. Until ``LINGER`` later, the group lingers."""
    resume_points: dict[Group, ResumePoint] = field(default_factory=dict)
    """Of the groups in the queue and of those that were recently full. Before a resume point lie dead tuples of sealed
    records, which PostgreSQL keeps as long as an old transaction may read them. Without resume points, each sealing
    would then read all of them again (``python -m benchmarks plans --dead 200`` measures it)."""
    full_scan_at: float = 0.0
    full_scan_seconds: float = 0.0
    sample_start: int = 0
    """Where the rotating sample of the next scan begins."""
    scan_after: Group = ("", "")
    """The group after which the next scan begins; empty if the last one reached the end."""
    arrival_rates: dict[Group, float] = field(default_factory=dict)
    """Records per second, of groups that were counted. Stored in a column of its own."""
    label_sets: dict[Group, int] = field(default_factory=dict)
    """Group → the label set after which its next request looks for shares. Only of groups with very many sets."""
    tried: set[Group] = field(default_factory=set)
    """Groups of which nothing could be sealed in this transaction. Not stored."""
    withheld: int = 0
    """Records that standing rules have held or discarded in this transaction. Not stored."""

    # --- the entries --------------------------------------------------------------------------------------

    def is_current(self, now: float) -> bool:
        """Return whether the entries are young enough. Entries of a host with a fast clock count as young."""
        return now - self.made_at < self.lifetime

    def take(self) -> Entry | None:
        """Remove and return the next entry; skip groups that were tried in this transaction."""
        while self.entries:
            entry = self.entries.pop(0)
            if entry.group not in self.tried:
                return entry
        return None

    def drain(self) -> Iterator[Entry]:
        """Remove and yield the entries one by one."""
        while entry := self.take():
            yield entry

    def has_entry_of(self, group: Group) -> bool:
        """Return whether the group is in the queue again."""
        return any(entry.group == group for entry in self.entries)

    def refill(
        self, entries: Iterable[Entry], oldest: Mapping[Group, ResumePoint], *, now: float, lifetime: float
    ) -> None:
        """Replace the entries. ``oldest`` says where the pending records of each group begin."""
        self.entries, self.made_at, self.lifetime = list(entries), now, lifetime
        remembered = {entry.group for entry in self.entries}.union(self._most_recently_full())
        self.resume_points = {group: oldest[group] for group in remembered if group in oldest}
        self.resting = {group: until for group, until in self.resting.items() if self.is_resting(group, now)}

    def note_sealed(self, entry: Entry, full_size: int, seal_count: int, now: float) -> None:
        """Remember that a batch was sealed for an entry.

        ``full_size`` is the number of records that filled the request, 0 if it had room for more. If it had, the group
        has no more records to seal and leaves the queue. Later records of it linger.
        """
        self.last_was_due = entry.reason is Reason.DUE
        self.resting.pop(entry.group, None)
        self.recently_full.pop(entry.group, None)
        self.sealed_at.pop(entry.group, None)
        if full_size:
            self.recently_full[entry.group] = FullRequest(full_size, seal_count)
            _drop_oldest(self.recently_full)
        else:
            self.sealed_at[entry.group] = now
            _drop_oldest(self.sealed_at)
            self._remove(entry.group)

    def note_nothing_sealed(self, entry: Entry, now: float) -> None:
        """Remember that nothing of the entry's group could be sealed. The group leaves the queue and rests."""
        group = entry.group
        if entry.reason is Reason.SPARE:
            self.sample_start += 1  # the next spare groups begin with another one
        self.tried.add(group)
        self.recently_full.pop(group, None)
        self.resting.pop(group, None)
        self.resting[group] = now + REST_SECONDS
        _drop_oldest(self.resting)
        self._remove(group)

    def note_withheld(self, entry: Entry) -> None:
        """Remember that only records of the entry's group were read which a rule withholds. The group does not rest."""
        self.tried.add(entry.group)
        self._remove(entry.group)

    def forget_seals_before(self, time: float) -> None:
        """Forget the batches that were sealed before ``time``, because their groups linger no longer."""
        self.sealed_at = {
            group: sealed_at for group, sealed_at in self.sealed_at.items() if sealed_at >= time
        }

    def sealed_ago(self, group: Group, now: float) -> float:
        """Return the seconds since a batch of the group was sealed that did not fill a request; infinite without one.

        If the memory is full, the group may have been forgotten. Then it counts as the group that is forgotten next.
        """
        known = self.sealed_at.get(group)
        if known is None and len(self.sealed_at) >= MAX_REMEMBERED:
            known = next(iter(self.sealed_at.values()))
        return math.inf if known is None else now - known

    def label_set_of(self, group: Group) -> int:
        """Return the label set after which the next request of the group looks for shares; 0 for the first one."""
        return self.label_sets.get(group, 0)

    def note_label_set(self, group: Group, label_set: int) -> None:
        """Remember the label set after which the next request looks for shares; 0 if this one has seen all."""
        self.label_sets.pop(group, None)
        if label_set:
            self.label_sets[group] = label_set
            _drop_oldest(self.label_sets)

    def is_resting(self, group: Group, now: float) -> bool:
        """Return whether the group rests. An end further away than ``REST_SECONDS`` comes from a wrong clock."""
        return now < self.resting.get(group, now) <= now + REST_SECONDS

    # --- what is known about groups -----------------------------------------------------------------------

    def trusted_resume_points(self, now: float) -> dict[Group, ResumePoint]:
        """Return where a scan may begin in groups that were recently full; nothing if a full scan is due.

        A record that was enqueued early and committed late lies before a resume point. A full scan finds it.
        """
        interval = min(FULL_SCAN_INTERVAL * self.full_scan_seconds, MAX_FULL_SCAN_INTERVAL)
        if not 0 <= now - self.full_scan_at < interval:
            return {}
        groups = self._most_recently_full()
        return {group: self.resume_points[group] for group in groups if group in self.resume_points}

    def forget_resume_points(self, groups: Collection[Group]) -> bool:
        """Forget where the pending records of these groups begin; return whether it was known of any.

        Earlier records of them have become pending, and no scan must begin behind these.
        """
        known = self.resume_points.keys() & groups
        for group in known:
            del self.resume_points[group]
        return bool(known)

    def describe_groups(
        self, ages: Mapping[Group, float], max_records: int, now: float
    ) -> list[WaitingGroup]:
        """Return the groups with what is known about them.

        ``ages`` are the ages of their oldest records in seconds. ``max_records`` is the limit of a request.
        """
        rates, recently_full, never = self.arrival_rates, self.recently_full, FullRequest(max_records, 0)
        groups = []
        for group, age in ages.items():
            full = recently_full.get(group, never)
            expected = rates.get(group, 0.0) * age / min(max_records, full.records)
            sealed_ago = self.sealed_ago(group, now)
            groups.append(WaitingGroup(group, age, 0, full.sealed_at, expected, sealed_ago))
        return groups

    def full_size(self, group: Group, max_records: int) -> int:
        """Return how many records fill a request of the group; ``max_records`` if it was never full."""
        known = self.recently_full.get(group)
        return min(max_records, known.records) if known else max_records

    def count_limits(self, groups: Iterable[Group], max_records: int) -> dict[Group, int]:
        """Return up to how many records each group is counted."""
        return {group: COUNTED_REQUESTS * self.full_size(group, max_records) for group in groups}

    def learn_counts(
        self, counts: Mapping[Group, int], ages: Mapping[Group, float], max_records: int, slots: int
    ) -> dict[Group, int]:
        """Learn the arrival rate of each counted group. Return the number of full requests of each group that has any.

        ``counts`` are numbers of pending records up to ``count_limits``, ``ages`` the ages of the oldest ones in
        seconds. A group at its limit gets ``slots`` full requests.
        """
        full = {}
        for group, records in counts.items():
            if ages[group] > 0:
                self.arrival_rates[group] = records / ages[group]
            if requests := records // self.full_size(group, max_records):
                full[group] = slots if requests >= COUNTED_REQUESTS else requests
        return full

    def advance_sample(self) -> None:
        """Let the next rotating sample begin where this one ends."""
        self.sample_start += COUNTED_GROUPS // 4

    def spare_groups(self, groups: list[WaitingGroup], terms: Terms, limit: int) -> list[Entry]:
        """Return groups that are ready and were not tried yet, in rotation, resting ones included."""
        start = self.sample_start % max(1, len(groups))
        rotated = [*groups[start:], *groups[:start]]
        ready = [
            waiting.group
            for waiting in rotated
            if terms.is_ready(waiting) and waiting.group not in self.tried
        ]
        return [Entry(group, Reason.SPARE) for group in ready[:limit]]

    def _most_recently_full(self) -> list[Group]:
        return list(self.recently_full)[-MAX_RESUME_POINTS:]

    def _remove(self, group: Group) -> None:
        self.entries = [entry for entry in self.entries if entry.group != group]

    # --- storage ------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Return the value of the workspace's column ``run_queue``."""
        return {
            "entries": [[*entry.group, entry.reason.value] for entry in self.entries],
            "made_at": self.made_at,
            "lifetime": self.lifetime,
            "last_was_due": self.last_was_due,
            "recently_full": [[*group, *known] for group, known in self.recently_full.items()],
            "resting": [[*group, until] for group, until in self.resting.items()],
            "sealed_at": [[*group, sealed_at] for group, sealed_at in self.sealed_at.items()],
            "resume_points": [
                [*group, point.enqueued_at.isoformat(), point.pk]
                for group, point in self.resume_points.items()
            ],
            "full_scan_at": self.full_scan_at,
            "full_scan_seconds": self.full_scan_seconds,
            "sample_start": self.sample_start,
            "scan_after": self.scan_after,
            **(
                {"label_sets": [[*group, pk] for group, pk in self.label_sets.items()]}
                if self.label_sets
                else {}
            ),
        }

    @classmethod
    def from_json(cls, value: Any) -> RunQueue:
        """Read the column's value; return an empty queue if it cannot be read, because it is only a hint."""
        try:
            return cls(
                entries=[
                    Entry((kind, product), Reason(reason)) for kind, product, reason in value["entries"]
                ],
                made_at=float(value["made_at"]),
                lifetime=float(value["lifetime"]),
                last_was_due=bool(value["last_was_due"]),
                recently_full={
                    (kind, product): FullRequest(records, sealed_at)
                    for kind, product, records, sealed_at in value["recently_full"]
                },
                resting={(kind, product): until for kind, product, until in value["resting"]},
                # A worker of an earlier version does not write it.
                sealed_at={(kind, product): at for kind, product, at in value.get("sealed_at", ())},
                resume_points={
                    (kind, product): ResumePoint(datetime.fromisoformat(enqueued_at), int(pk))
                    for kind, product, enqueued_at, pk in value["resume_points"]
                },
                full_scan_at=float(value["full_scan_at"]),
                full_scan_seconds=float(value["full_scan_seconds"]),
                sample_start=int(value["sample_start"]),
                scan_after=(value["scan_after"][0], value["scan_after"][1]),
                label_sets={(kind, product): pk for kind, product, pk in value.get("label_sets", ())},
            )
        except (LookupError, TypeError, ValueError):
            return cls()


def _drop_oldest(memory: dict[Group, Any]) -> None:
    while len(memory) > MAX_REMEMBERED:
        del memory[next(iter(memory))]

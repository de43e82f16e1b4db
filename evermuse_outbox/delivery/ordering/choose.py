"""Choose the records of a group for the next request, if the workspace's settings ask for another order."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from ...conf import FairShares
from ..context import DeliveryContext
from ..scheduling import Group, RunQueue, pending_records
from .portions import SHARE_STEP, Ends, Phase, Share, divide, interleave, phase_of, split
from .shares import Shares, find_shares
from .sql_portions import Portion, Position, read_portions

ChooseRecords = Callable[[int], list[int]]
"""Returns the ids of up to so many pending records of a group, in the order in which they are packed."""

MAX_ROUNDS = 3
"""How often records of shares are read for one page. After each round, the others get what a share did not have."""


def order_of(context: DeliveryContext, group: Group, queue: RunQueue, number: int) -> ChooseRecords | None:
    """Return how to choose the records of a group; None if the longest waiting records go first, as by default.

    Args:
        context: the delivery context.
        group: the group that is sealed.
        queue: the run queue. It knows where the pending records of the group begin, and which label sets come next.
        number: counts the sealings of the workspace. It decides which share gets a record that cannot be divided.
    """
    workspace = context.workspace
    if workspace.fair_shares is None and workspace.newest_first is None:
        return None
    backlog_share, phase = _backlog_share(context, group, queue), phase_of(number)
    if workspace.fair_shares and _is_longer_than_a_request(context, group, queue):
        shares, last = find_shares(context, group, workspace.fair_shares.label, queue.label_set_of(group))
        queue.note_label_set(group, last)
        if len(shares.values) > 1 or not shares.is_complete:
            return _FromShares(context, group, workspace.fair_shares, shares, backlog_share, phase)
    if backlog_share < 1:
        return _FromBothEnds(context, group, backlog_share, phase)
    return None


def _backlog_share(context: DeliveryContext, group: Group, queue: RunQueue) -> float:
    """Return the share of a request for the oldest records: 1, or less if the newest go first."""
    rule, oldest = context.workspace.newest_first, queue.resume_points.get(group)
    if rule is None or oldest is None:
        return 1.0
    has_backlog = context.clock.now() - oldest.enqueued_at > timedelta(seconds=rule.after)
    return rule.backlog_share if has_backlog else 1.0


def _is_longer_than_a_request(context: DeliveryContext, group: Group, queue: RunQueue) -> bool:
    size = queue.full_size(group, context.settings.max_batch_records)
    waiting = pending_records(context, group, queue.resume_points.get(group))
    return bool(waiting.values_list("pk")[size : size + 1])


@dataclass(frozen=True, slots=True)
class _FromBothEnds:
    """Choose the oldest and the newest records of a group."""

    context: DeliveryContext
    group: Group
    backlog_share: float
    phase: Phase

    def __call__(self, count: int) -> list[int]:
        ends = split(count, self.backlog_share, self.phase.ends)
        portions = [Portion(ends.oldest, is_newest=False), Portion(ends.newest, is_newest=True)]
        oldest, newest = _read(self.context, self.group, portions)
        known = set(oldest)
        return _in_order([oldest, [row for row in newest if row not in known]])


@dataclass(frozen=True, slots=True)
class _FromShares:
    """Choose records of each share. If all shares together have too few, fill up with the oldest of the group."""

    context: DeliveryContext
    group: Group
    rule: FairShares
    shares: Shares
    backlog_share: float
    phase: Phase

    def __call__(self, count: int) -> list[int]:
        chosen = [portion for portions in self._read_shares(count) for portion in portions]
        known = {row for portion in chosen for row in portion}
        if len(known) < count:
            (oldest,) = _read(self.context, self.group, [Portion(count, is_newest=False)])
            others = [row for row in oldest if row not in known]
            return [*_in_order(chosen), *(row.pk for row in others[: count - len(known)])]
        return _in_order(chosen)

    def _read_shares(self, count: int) -> list[list[list[Position]]]:
        """Return for each share the records of its two ends."""
        weights = [self.rule.weight_of(value) for value in self.shares.values]
        limits = [math.inf] * len(weights)
        due, read = [0] * len(weights), [0] * len(weights)
        records: list[list[list[Position]]] = [[] for _ in weights]
        for _ in range(MAX_ROUNDS):
            due = divide(count, list(map(Share, weights, limits)), self.phase.shares)
            wanted = {
                share: self._split(share, number) for share, number in enumerate(due) if number > read[share]
            }
            if not wanted:
                break
            for share, ends in self.shares.read(wanted).items():
                records[share], read[share] = ends, due[share]
                if (size := sum(map(len, ends))) < due[share]:
                    limits[share] = size
        return [_cut(ends, number) for ends, number in zip(records, due, strict=True)]

    def _split(self, share: int, count: int) -> Ends:
        return split(count, self.backlog_share, (self.phase.ends + share * SHARE_STEP) % 1.0)


def _cut(ends: list[list[Position]], count: int) -> list[list[Position]]:
    """Return the records of both ends, without those beyond ``count``."""
    return [rows[: max(0, count - sum(map(len, ends[:end])))] for end, rows in enumerate(ends)]


def _read(context: DeliveryContext, group: Group, portions: list[Portion]) -> list[list[Position]]:
    return read_portions(context.using, context.workspace_name, group, portions)


def _in_order(portions: list[list[Position]]) -> list[int]:
    """Interleave the portions. The oldest record is the first: packing never skips the first, however large it is."""
    rows = interleave([rows for rows in portions if rows])
    if not rows:
        return []
    oldest = min(rows)
    return [oldest.pk, *(row.pk for row in rows if row is not oldest)]

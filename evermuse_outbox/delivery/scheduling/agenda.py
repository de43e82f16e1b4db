"""Whose turn it is: the agenda on the workspace's row, and a census where it is used up or old.

Choosing a group costs no query while the agenda lasts. What it says is a hint: each group is looked at again when it
is sealed, and if nothing of the agenda can be sealed, all the others are tried in turn.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from itertools import islice

from ...models import OutboxBatch, OutboxGroup, OutboxRecord, OutboxWorkspace
from ...models.query_hints import NotBefore
from ...models.record import RecordQuerySet
from ..context.context import DeliveryContext
from . import group_scan as group_scan
from . import scheduler
from .pending import waiting_in
from .run_queue import Head, Plan
from .scheduler import Entry, Group, Reason, Seen, Terms

GROUPS = 5_000
"""How many groups one census looks at; where there are more, the next one goes on from there."""

TRIED = 200
"""How many groups beside the agenda are tried in one turn when nothing of it can be sealed."""

LASTS = 1.0
"""Seconds that an agenda lasts, or longer where the census is slow: see :data:`BURDEN`."""

BURDEN = 10
"""An agenda lasts at least this many times as long as its census took."""

FEWEST, MOST = 8, 64
"""Slots of an agenda: as many as there are requests while it lasts, and these at the least and at the most."""

ALMOST = 0.9
"""The share of the bytes or attachments of a request from which on the next record might not fit."""


class Agenda:
    """The agenda of a workspace, for one turn. Whoever uses it has taken the turn."""

    def __init__(
        self, context: DeliveryContext, turn: OutboxWorkspace, paused: Mapping[Group, OutboxGroup]
    ) -> None:
        self._channel = context
        self._turn = turn
        self._now = context.clock.now()
        self._closed = {
            group for group, row in paused.items() if row.blocked_until and row.blocked_until > self._now
        }
        self._plan = Plan.of_json(turn.run_queue)
        self._forget_other_moments()
        self._tried: set[Group] = set()
        self._last: Entry | None = None
        self._seen: list[Seen] = []
        self._heads: dict[Group, Head] = {}
        self._changed = ["run_queue", "seal_count"]

    def groups(self) -> Iterator[Group]:
        """Whom to try, in order. Who asks for another one says that nothing of the last could be sealed."""
        for entry in self._entries():
            if entry.group in self._tried:
                continue
            self._tried.add(entry.group)
            self._last = entry
            yield entry.group
            self._plan.note_in_vain(entry.group, self._now.timestamp())

    def waiting(self, group: Group) -> RecordQuerySet:
        """The pending records of the group, the longest waiting first. One that was committed late, behind younger
        ones, may be left to the next agenda."""
        waiting, head = waiting_in(self._channel, group), self._plan.heads.get(group)
        if head is None:
            return waiting
        # The second condition says no more than the first, to databases that find nothing by that one.
        return waiting.filter(NotBefore("enqueued_at", *head), enqueued_at__gte=head.enqueued_at)

    def walked(self, group: Group, pk: int) -> None:
        """What waits in the group begins with that record, as far as the turn has seen."""
        if self._plan.comes_again(group):
            rows = OutboxRecord.rows.using(self._channel.using)
            at = rows.values_list("enqueued_at", flat=True).get(pk=pk)
            self._plan.heads[group] = Head(at, pk)

    def keep(self, batch: OutboxBatch | None) -> None:
        """Writes down what came of the turn."""
        if batch and self._last:
            self._plan.note_sealed(self._last, self._filled(batch), self._turn.seal_count)
        self._turn.seal_count += 1
        self._turn.run_queue = self._plan.as_json()
        self._turn.save(using=self._channel.using, update_fields=self._changed)

    def _forget_other_moments(self) -> None:
        """Where the project has changed ``USE_TZ``, databases refuse the moments of before."""
        kind = self._now.tzinfo is None
        heads = self._plan.heads.items()
        self._plan.heads = {group: head for group, head in heads if (head.enqueued_at.tzinfo is None) is kind}

    def _entries(self) -> Iterator[Entry]:
        if self._plan.is_current(self._now.timestamp()):
            yield from self._planned()
        self._take_census()
        yield from self._planned()
        yield from self._others()

    def _planned(self) -> Iterator[Entry]:
        while entry := self._plan.take():
            yield entry

    def _others(self) -> Iterator[Entry]:
        """Everybody who is ready and has not been tried, in turn; whoever was tried in vain lately is among them."""
        start = self._plan.start % max(1, len(self._seen))
        ready = filter(self._terms().is_ready, [*self._seen[start:], *self._seen[:start]])
        left = (Entry(one.group, Reason.SPARE) for one in ready if one.group not in self._tried)
        for tried, entry in enumerate(islice(left, TRIED), 1):
            self._plan.start = start + tried
            yield entry

    def _take_census(self) -> None:
        started = self._channel.clock.monotonic()
        self._plan.arrival_rates = self._turn.known_arrival_rates()
        self._seen = self._look()
        now, plan = self._now.timestamp(), self._plan
        asked = [one for one in self._seen if not plan.is_resting(one.group, now)]
        entries = scheduler.agenda(asked, self._terms(), due_was_last=plan.due_was_last)
        took = self._channel.clock.monotonic() - started
        plan.begin(entries, self._heads, now=now, lasts=max(LASTS, BURDEN * took))
        self._turn.remember_arrival_rates(plan.arrival_rates)
        self._changed.append("arrival_rates")

    def _look(self) -> list[Seen]:
        """The groups that may be sealed, with what is known of each."""
        plan, most = self._plan, self._channel.settings.max_batch_records
        self._heads = {group: head for group, head in self._oldest() if group not in self._closed}
        ages = {group: self._age(head.enqueued_at) for group, head in self._heads.items()}
        seen = plan.all_seen(ages, most)
        requests = plan.full_requests(seen, self._terms(), most, self._count)
        return [one._replace(requests=requests[one.group]) if one.group in requests else one for one in seen]

    def _oldest(self) -> list[group_scan.Oldest]:
        """All groups, or :data:`GROUPS` of them from where the last census stopped, and those known to be full."""
        plan, started = self._plan, self._channel.clock.monotonic()
        heads = plan.trusted_heads(self._now.timestamp())
        found = group_scan.scan_groups(self._channel, plan.after, GROUPS, heads)
        if plan.after != ("", "") and len(found) < GROUPS:
            found += group_scan.scan_groups(self._channel, ("", ""), GROUPS - len(found), heads)
        plan.after = found[-1].group if len(found) == GROUPS else ("", "")
        if not heads:
            plan.swept, plan.sweep_took = self._now.timestamp(), self._channel.clock.monotonic() - started
        if plan.after == ("", ""):
            return found
        known = group_scan.count_pending(self._channel, dict.fromkeys(plan.filling, 1), heads)
        return found + [group_scan.Oldest(group, Head(at, 0)) for group, (_, at) in known.items() if at]

    def _count(self, most: Mapping[Group, int]) -> dict[Group, int]:
        return {
            group: depth.records
            for group, depth in group_scan.count_pending(self._channel, most, self._heads).items()
        }

    def _age(self, moment: datetime) -> float:
        return (self._now - moment) / timedelta(seconds=1)

    def _terms(self) -> Terms:
        settings, rate = self._channel.settings, self._channel.workspace.rate_limit
        lasts = max(LASTS, self._plan.lasts)  # the next is taken to be as slow as the last
        slots = max(FEWEST, min(MOST, math.ceil(rate * lasts)))
        return Terms(rate, settings.linger, settings.max_wait, slots, lasts)

    def _filled(self, batch: OutboxBatch) -> int:
        """How many records filled the request; 0 where there was room left."""
        settings = self._channel.settings
        is_full = (
            batch.record_count >= settings.max_batch_records
            or batch.byte_count >= ALMOST * settings.max_batch_bytes
            or batch.attachment_count >= ALMOST * settings.max_batch_attachments
        )
        return batch.record_count if is_full else 0

"""Where in the listing a followed batch is to be found, so that one read tells of a hundred, wherever they stand.

The listing shows the newest hundred batches, and behind them others for the cursor that it gives. Each followed
batch keeps the cursor of its page: empty for the newest one, None where the listing has not shown it. Those with
the same cursor are a *stretch*. When a page is read, whoever of its stretch it does not show stands behind it, and
moves on to the next cursor. So a stretch that has grown is cut into pages by being read, and an old one is read
again without going through all that is newer.

Nothing is believed of cursors but that they lead further: one that means another page after a while, or nothing at
all, costs reads and loses nobody.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from ...evermuse.api import Page
from ...models import OutboxBatch
from ..context import DeliveryContext, poll_delay

NEWEST = ""
"""The cursor of the newest page."""

CLOCKS = 3_600.0
"""Seconds by which the clock of Evermuse may differ from ours."""

LISTED_AFTER = timedelta(minutes=2)
"""How long a batch may be missing in the listing after it was accepted; then it is asked for itself."""

CHUNK = 500
"""Rows that one UPDATE names at most."""


@dataclass(frozen=True, slots=True)
class Member:
    """A followed batch, as far as its place matters."""

    pk: int
    remote_id: str
    since: datetime
    next_poll_at: datetime

    @classmethod
    def of(cls, batch: OutboxBatch) -> Member:
        """That batch."""
        since = batch.accepted_at or batch.sealed_at
        return cls(batch.pk, batch.remote_id, since, batch.next_poll_at or since)


@dataclass(frozen=True, slots=True)
class Stretch:
    """All followed batches with one cursor, as they were before the page was read."""

    cursor: str | None
    members: tuple[Member, ...]

    @classmethod
    def of(cls, context: DeliveryContext, cursor: str | None) -> Stretch:
        """The stretch as it is now."""
        rows = OutboxBatch.objects.using(context.using).on_listing_page(context.workspace_name, cursor)
        names = ("pk", "remote_id", "accepted_at", "sealed_at", "next_poll_at")
        found = context.run_with_retries(list, rows.values_list(*names))
        members = (Member(pk, known, accepted or sealed, due) for pk, known, accepted, sealed, due in found)
        return cls(cursor, tuple(members))

    def due(self, now: datetime) -> list[Member]:
        """Those that are due to be asked about."""
        return [member for member in self.members if member.next_poll_at <= now]


def place_missing(context: DeliveryContext, stretch: Stretch, page: Page, shown: list[OutboxBatch]) -> None:
    """Those of the stretch that its page does not show are placed anew; ``shown`` are those of ours that it does."""
    known = {batch.remote_id for batch in shown}
    newest = _newest([Member.of(batch) for batch in shown])
    now, places = context.clock.now(), defaultdict(list)
    for member in stretch.members:
        if member.remote_id not in known:
            places[_place(stretch.cursor, member, page, newest, now)].append(member)
    for cursor, members in places.items():
        if cursor == stretch.cursor:
            ask_later(context, members)
        else:
            move(context, members, cursor)


def _newest(shown: list[Member]) -> tuple[datetime, int] | None:
    """The latest acceptance and the latest sealing: who is later in both is newer, also where the clocks of hosts
    differ."""
    if not shown:
        return None
    return max(member.since for member in shown), max(member.pk for member in shown)


def _place(
    cursor: str | None, member: Member, page: Page, newest: tuple[datetime, int] | None, now: datetime
) -> str | None:
    if newest and member.since > newest[0] and member.pk > newest[1]:
        # Every later page is older still. The newest one may just not have it yet.
        return NEWEST if cursor == NEWEST and now - member.since < LISTED_AFTER else None
    if not page.statuses or page.next_cursor == cursor or page.reaches(member.since.timestamp() - CLOCKS):
        return None
    return page.next_cursor


def move(context: DeliveryContext, members: Iterable[Member], cursor: str | None) -> None:
    """Their place in the listing is behind ``cursor``."""
    rows = OutboxBatch.objects.using(context.using)
    for ids in _chunks(members):
        context.run_with_retries(rows.set_listing_cursor, ids, cursor)


def ask_later(context: DeliveryContext, members: Iterable[Member], **changes: str) -> None:
    """Nothing was learned of them: they are asked about later, the longer the older they are."""
    rows, now = OutboxBatch.objects.using(context.using), context.clock.now()
    members = [member for member in members if member.next_poll_at <= now]
    if members:
        age = (now - max(member.since for member in members)).total_seconds()
        later = context.clock.after(poll_delay(age, context.settings.poll_interval))
        for ids in _chunks(members):
            context.run_with_retries(rows.postpone_polls, ids, now, later, **changes)


def _chunks(members: Iterable[Member]) -> Iterable[list[int]]:
    # In one order, so that two that update the same rows do not lock each other.
    ids = sorted(member.pk for member in members)
    return (ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK))

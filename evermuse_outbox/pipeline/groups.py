"""What there is to send, and which group is sealed next: in turn, so that none is forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from ..models import OutboxBatch, OutboxRecord
from ..models.record import RecordQuerySet
from .channel import Channel

GROUPS = 500
"""How many groups one turn looks at before it lets the next turn go on from there."""

Group = tuple[str, str]
"""``_type`` and ``_product_id``."""


def has_work(channel: Channel) -> bool:
    """Whether anything waits to be sealed or is due to be sent."""
    due = OutboxBatch.objects.using(channel.using).due(channel.name, channel.clock.now())
    pending = OutboxRecord.rows.using(channel.using).pending().filter(workspace=channel.name)
    return channel.persist(lambda: due.exists() or pending.exists())


def ready_groups(channel: Channel, after: Group) -> Iterator[Group]:
    """The groups with records that need linger no longer, in turn, beginning behind ``after``.

    Each step is one look into the index of pending records, however many they are.
    """
    first: Group | None = None
    for _ in range(GROUPS):
        group = _group_behind(channel, after) or _group_behind(channel, ("", ""))
        if group is None or group == first:
            return
        first = first or group
        if _is_ready(channel, group):
            yield group
        after = group


def waiting_in(channel: Channel, group: Group) -> RecordQuerySet:
    """The pending records of the group, the longest waiting first."""
    rows = OutboxRecord.rows.using(channel.using).pending().group(channel.name, *group)
    return rows.order_by("enqueued_at", "pk")


def _group_behind(channel: Channel, after: Group) -> Group | None:
    pending = OutboxRecord.rows.using(channel.using).pending().filter(workspace=channel.name)
    # Two queries, each a plain range of the index, where one with OR would walk it from the start.
    for behind in (
        pending.filter(type=after[0], product_id__gt=after[1]).order_by("product_id"),
        pending.filter(type__gt=after[0]).order_by("type", "product_id"),
    ):
        if found := behind.values_list("type", "product_id").first():
            return found
    return None


def _is_ready(channel: Channel, group: Group) -> bool:
    """Whether its oldest record has lingered long enough, or a request can be filled already."""
    waiting = waiting_in(channel, group).values_list("enqueued_at", flat=True)
    oldest = waiting.first()
    if oldest is None:
        return False
    age = channel.clock.now() - oldest
    # A record from the future comes from a host whose clock is ahead: no reason to let it wait.
    lingers = timedelta(0) <= age < timedelta(seconds=channel.settings.linger)
    full = channel.settings.max_batch_records - 1
    return not lingers or waiting[full : full + 1].exists()

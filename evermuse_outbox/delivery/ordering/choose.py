"""Choose the records of a group for the next request, if the workspace's settings ask for another order."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from ...conf import NewestFirst
from ..context import DeliveryContext
from ..scheduling import Group, ResumePoint
from .portions import Phase, interleave, phase_of, split
from .sql_portions import Portion, Position, read_portions

ChooseRecords = Callable[[int], list[int]]
"""Returns the ids of up to so many pending records of a group, in the order in which they are packed."""


def order_of(
    context: DeliveryContext, group: Group, oldest: ResumePoint | None, number: int
) -> ChooseRecords | None:
    """Return how to choose the records of a group; None if the longest waiting records go first, as by default.

    Args:
        context: the delivery context.
        group: the group that is sealed.
        oldest: where its pending records begin, if that is known.
        number: counts the sealings of the workspace. It decides which share gets a record that cannot be divided.
    """
    newest_first = context.workspace.newest_first
    if newest_first is None or not _has_backlog(context, newest_first, oldest):
        return None
    rule, phase = newest_first, phase_of(number)
    return lambda count: _choose_from_both_ends(context, group, rule, phase, count)


def _has_backlog(context: DeliveryContext, rule: NewestFirst, oldest: ResumePoint | None) -> bool:
    """Return whether the oldest record waits so long that the newest go first. It is known for all groups in turn."""
    return oldest is not None and context.clock.now() - oldest.enqueued_at > timedelta(seconds=rule.after)


def _choose_from_both_ends(
    context: DeliveryContext, group: Group, rule: NewestFirst, phase: Phase, count: int
) -> list[int]:
    ends = split(count, rule.backlog_share, phase.ends)
    portions = [Portion(0, ends.oldest, is_newest=False), Portion(0, ends.newest, is_newest=True)]
    oldest, newest = read_portions(context.using, context.workspace_name, group, portions)
    known = set(oldest)
    chosen = [oldest, [row for row in newest if row not in known]]  # the ends of a short queue overlap
    return [row.pk for row in _with_oldest_first(interleave([rows for rows in chosen if rows]))]


def _with_oldest_first(rows: list[Position]) -> list[Position]:
    """Return the rows with the oldest as the first. Packing never skips the first, however large it is."""
    if not rows:
        return rows
    oldest = min(rows)
    return [oldest, *(row for row in rows if row is not oldest)]

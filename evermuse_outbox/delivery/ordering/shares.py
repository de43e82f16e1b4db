"""Find the shares with pending records in a group, and read records of them.

A share has one value of the label. Its records have one or a few label sets, because a set contains all labels of a
record and its run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from ...indexing import SHARES_INDEX, is_built
from ...models import OutboxLabel
from ..context import DeliveryContext
from ..scheduling import Group
from .portions import Ends
from .sql_label_sets import read_label_sets, read_oldest_without_labels, read_sample
from .sql_portions import LabelSet, Portion, Position, read_portions

MAX_LABEL_SETS = 300
"""Label sets of a group that one request looks at. With more of them, the next request continues after the last one."""

SETS_OF_SHARE = 8
"""Label sets of one share that a request reads: those whose oldest records wait longest. Each one may be read up to the
complete number of the share, so this bounds the entries of the index that are read."""

SAMPLED_OLDEST, SAMPLED_NEWEST = 5_000, 1_000
"""Records of a group that are read to find shares without the index. Other shares are not seen, and not sent first."""


class Shares(Protocol):
    """The shares of a group that one request looks at."""

    @property
    def values(self) -> list[str | None]:
        """The value of the label of each share; None for records without the label."""
        ...

    @property
    def is_complete(self) -> bool:
        """Whether no other share has pending records."""
        ...

    def read(self, wanted: Mapping[int, Ends]) -> dict[int, list[list[Position]]]:
        """Return records from the oldest and from the newest end of shares, given by their number in ``values``."""
        ...


@dataclass(frozen=True, slots=True)
class IndexedShares:
    """Shares that the index of shares finds, however many records are pending."""

    context: DeliveryContext
    group: Group
    values: list[str | None]
    label_sets: list[list[LabelSet]]
    """The label sets of each share, the longest waiting first."""
    is_complete: bool

    def read(self, wanted: Mapping[int, Ends]) -> dict[int, list[list[Position]]]:
        """Return records of shares, by one statement."""
        portions = [
            (share, Portion(count, is_newest, label_set))
            for share, ends in wanted.items()
            for is_newest, count in ((False, ends.oldest), (True, ends.newest))
            for label_set in self.label_sets[share][:SETS_OF_SHARE]
            if count
        ]
        rows = read_portions(
            self.context.using,
            self.context.workspace_name,
            self.group,
            [portion for _, portion in portions],
        )
        merged: dict[tuple[int, bool], list[Position]] = defaultdict(list)
        for (share, portion), positions in zip(portions, rows, strict=True):
            merged[share, portion.is_newest] += positions
        return {
            share: _both_ends(merged[share, False], merged[share, True], ends)
            for share, ends in wanted.items()
        }


@dataclass(frozen=True, slots=True)
class SampledShares:
    """Shares among the records at both ends of a group, if the index of shares is not built."""

    values: list[str | None]
    records: list[list[Position]]
    is_complete: bool = False

    def read(self, wanted: Mapping[int, Ends]) -> dict[int, list[list[Position]]]:
        """Return records of shares that were read before."""
        return {
            share: _both_ends(self.records[share], self.records[share], ends)
            for share, ends in wanted.items()
        }


def find_shares(context: DeliveryContext, group: Group, label: str, after: int) -> tuple[Shares, int]:
    """Find the shares of a group, and the label set after which the next request continues.

    Args:
        context: the delivery context.
        group: the group that is sealed.
        label: the name of the label whose values are the shares.
        after: the label set after which this request begins; 0 for the first one.
    """
    if not is_built(context.using, SHARES_INDEX):
        return _sample_shares(context, group, label), 0
    names = context.using, context.workspace_name, group
    rows = read_label_sets(*names, after, MAX_LABEL_SETS)
    is_complete = len(rows) < MAX_LABEL_SETS
    if after and is_complete:
        before = read_label_sets(*names, 0, MAX_LABEL_SETS - len(rows))
        rows += [row for row in before if row[0] <= after]
        is_complete = len(rows) < MAX_LABEL_SETS
    last = 0 if is_complete or not rows else rows[-1][0]
    oldest = [*rows, *read_oldest_without_labels(*names)]
    by_value = _group_by_value(context, label, [pk for pk, _ in sorted(oldest, key=lambda row: str(row[1]))])
    label_sets = [[LabelSet(pk) for pk in pks] for pks in by_value.values()]
    return IndexedShares(context, group, list(by_value), label_sets, is_complete), last


def _sample_shares(context: DeliveryContext, group: Group, label: str) -> SampledShares:
    names = context.using, context.workspace_name, group
    rows = read_sample(*names, SAMPLED_OLDEST, is_newest=False)
    if len(rows) == SAMPLED_OLDEST:
        rows += read_sample(*names, SAMPLED_NEWEST, is_newest=True)
    records: dict[int | None, set[Position]] = defaultdict(set)
    for label_set, enqueued_at, pk in rows:
        records[label_set].add(Position(enqueued_at, pk))
    by_value = _group_by_value(context, label, list(records))
    merged = [sorted(set().union(*(records[pk] for pk in pks))) for pks in by_value.values()]
    return SampledShares(list(by_value), merged)


def _group_by_value(
    context: DeliveryContext, label: str, label_sets: Iterable[int | None]
) -> dict[str | None, list[int | None]]:
    """Return the value of the label → its label sets, in the order of the values."""
    pks = list(label_sets)
    labels = OutboxLabel.objects.using(context.using).filter(
        name=label, label_set_id__in=[pk for pk in pks if pk]
    )
    values = dict(labels.values_list("label_set_id", "value"))
    by_value: dict[str | None, list[int | None]] = defaultdict(list)
    for pk in pks:
        by_value[values.get(pk) if pk else None].append(pk)
    return dict(sorted(by_value.items(), key=lambda item: item[0] or ""))


def _both_ends(oldest: list[Position], newest: list[Position], ends: Ends) -> list[list[Position]]:
    """Return the records of both ends of a share without duplicates: the ends of a short queue overlap."""
    first = sorted(oldest)[: ends.oldest]
    known = set(first)
    last = [row for row in sorted(newest, reverse=True) if row not in known]
    return [first, last[: ends.newest]]

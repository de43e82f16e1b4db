"""Estimate what a job will cost: requests, and seconds of the rate limit.

The row of the job stores the number of records and bytes of each group, because a request contains one group. It stores
at most ``MAX_GROUPS``. Beyond that, the requests are counted for each collected page, so the estimate is a little high.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from ..conf import Settings, get_settings
from ..models import OutboxOperation
from .kinds import get_kind

MAX_GROUPS = 200
"""Groups that the row of a job stores, so that the row stays small."""

REST = "rest"
"""Name of the entry for the groups that are not stored one by one."""


class Target(NamedTuple):
    """A row that becomes a member: its id, its group, and its size in bytes."""

    pk: int
    workspace: str
    type: str
    product_id: str
    size: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job costs.

    Attributes:
        requests: about how many requests the records need; 0 if the job sends nothing.
        seconds: about how many seconds of the rate limit of the API keys these are.
    """

    requests: int
    seconds: float


def add_groups(groups: list[list[object]], targets: Iterable[Target]) -> list[list[object]]:
    """Return the stored groups with the records and the bytes of ``targets`` added.

    An entry is ``[workspace, type, product, records, bytes, requests]``. Only the rest has requests.
    """
    counts: defaultdict[tuple[str, ...], list[int]] = defaultdict(lambda: [0, 0])
    for target in targets:
        count = counts[target.workspace, target.type, target.product_id]
        count[0] += 1
        count[1] += target.size
    entries = {tuple(map(str, entry[:3])): [int(str(value)) for value in entry[3:]] for entry in groups}
    for group, (records, size) in counts.items():
        requests = 0
        if group not in entries and len(entries) >= MAX_GROUPS:
            group, requests = (group[0], REST, ""), _requests(records, size, get_settings())
        stored = entries.setdefault(group, [0, 0, 0])
        entries[group] = [stored[0] + records, stored[1] + size, stored[2] + requests]
    return [[*group, *values] for group, values in entries.items()]


def estimate(job: OutboxOperation) -> Estimate:
    """Return what the members of a job cost."""
    if not get_kind(job.kind).sends:
        return Estimate(0, 0.0)
    settings = get_settings()
    by_workspace: defaultdict[str, int] = defaultdict(int)
    for workspace, _kind, _product, records, size, counted in job.groups:
        by_workspace[workspace] += counted or _requests(records, size, settings)
    # The API keys have a limit each, so the workspaces send at the same time.
    seconds = (
        count / settings.workspaces[name].total_rate
        for name, count in by_workspace.items()
        if name in settings.workspaces
    )
    return Estimate(sum(by_workspace.values()), max(seconds, default=0.0))


def _requests(records: int, size: int, settings: Settings) -> int:
    by_records = math.ceil(records / settings.max_batch_records)
    return max(by_records, math.ceil(size / settings.max_batch_bytes), 1)

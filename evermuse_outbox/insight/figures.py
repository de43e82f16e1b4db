"""The figures of the overview as values. Each says in its docstring which window it counts."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any


class Precision(Enum):
    """How exact a count is."""

    EXACT = "exact"
    AT_LEAST = "at least"
    ABOUT = "about"


@dataclass(frozen=True, slots=True)
class Count:
    """A number of rows. Counting stops at a limit, so that a page stays fast on a large table."""

    value: int
    precision: Precision = Precision.EXACT

    def __str__(self) -> str:
        text = f"{self.value:,}"
        return {Precision.ABOUT: f"~{text}", Precision.AT_LEAST: f"{text}+"}.get(self.precision, text)

    def __bool__(self) -> bool:
        return self.value > 0


@dataclass(frozen=True, slots=True)
class Worker:
    """A process with a heartbeat in the last day."""

    host: str
    pid: int
    command: str
    version: str
    activity: str
    started_at: datetime
    last_seen_at: datetime
    is_at_work: bool
    """Whether it was seen in the last three minutes."""


@dataclass(frozen=True, slots=True)
class Workers:
    """The processes that deliver. ``at_work`` counts those of the last three minutes."""

    is_missing: bool
    last_seen_at: datetime | None
    at_work: int
    processes: list[Worker]
    """Those that were seen last, at most ``MAX_WORKERS``."""


@dataclass(frozen=True, slots=True)
class OldestUnsent:
    """The record that waits longest for Evermuse's acceptance, now. ``batch`` is None while it is pending."""

    type: str
    product_id: str
    enqueued_at: datetime
    seconds: float
    batch: int | None = None


@dataclass(frozen=True, slots=True)
class AttemptCount:
    """HTTP calls of the last hour with the same result. ``status`` is None if there was no answer."""

    call: str
    outcome: str
    status: int | None
    count: int


@dataclass(frozen=True, slots=True)
class InFlight:
    """Batches of one state that are not finished, now, and their records when they were sealed."""

    batches: int = 0
    records: int = 0


@dataclass(frozen=True, slots=True)
class GroupBacklog:
    """The pending records of one group, now, and for how many seconds they wait.

    ``p50`` and ``p90`` are exceeded by half and by a tenth of the records. If the count is a lower bound, they are
    those of the counted records, which wait longest.
    """

    type: str
    product_id: str
    pending: Count
    p50: float
    p90: float
    max: float
    is_paused: bool


@dataclass(frozen=True, slots=True)
class WorkspaceFigures:
    """What one API key does."""

    name: str
    state: str
    reason: str
    blocked_until: datetime | None
    explanation: str
    pending: Count
    oldest_unsent: OldestUnsent | None
    records_last_minute: int
    """Records that Evermuse accepted in the last minute."""
    requests_last_minute: int
    """Requests of the last minute, reads included."""
    limit_used: float
    """Share of the rate limit that these requests are."""
    drained_in_seconds: float | None
    """Estimate: the pending records at the speed of the last minute; None without speed, or if nothing is sent."""
    delivered_by_minute: list[int]
    """Records that Evermuse completed in each of the last 60 minutes, the present one last."""
    in_flight: dict[str, InFlight]
    """State of an unfinished batch → batches and records."""
    attempts: list[AttemptCount]
    attachments_in_progress: int
    """Attachments that Evermuse still fetches, of batches that are still polled."""
    attachments_failed: int
    """Attachments that failed, of batches that Evermuse completed in the last hour."""
    groups: list[GroupBacklog]
    """The groups whose oldest record waits longest, at most ``MAX_GROUPS``."""
    group_count: Count
    """Groups with pending records."""

    @property
    def delivered_last_hour(self) -> int:
        """Records that Evermuse completed in the last hour."""
        return sum(self.delivered_by_minute)

    @property
    def records_in_flight(self) -> int:
        """Records in unfinished batches."""
        return sum(figures.records for figures in self.in_flight.values())

    @property
    def in_doubt(self) -> InFlight:
        """Batches that Evermuse may have, and that are sent again."""
        return self.in_flight.get("in_doubt", InFlight())


@dataclass(frozen=True, slots=True)
class RejectionGroup:
    """Rejected records with the same error, type and product, among the newest rejections."""

    signature: str
    type: str
    product_id: str
    count: int
    last_at: datetime
    example: int
    """Id of the newest of these records."""
    message: str
    """Message of that record."""


@dataclass(frozen=True, slots=True)
class Rejections:
    """The rejected records, all time. The groups are those of the newest ``MAX_REJECTIONS`` rejections."""

    total: Count
    is_partial: bool
    """Whether there are older rejections that no group counts."""
    groups: list[RejectionGroup]


@dataclass(frozen=True, slots=True)
class Incident:
    """An incident that is open, or that ended in the last day."""

    id: int
    kind: str
    label: str
    workspace: str
    subject: str
    started_at: datetime
    ended_at: datetime | None
    reason: str
    peak: float | None


@dataclass(frozen=True, slots=True)
class Job:
    """A manual operation on many records that is not over."""

    id: int
    kind: str
    state: str
    by: str
    percent: int
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class RunFigures:
    """A run that is not finished, or that has rejected records; its records as workers have counted them last."""

    id: int
    name: str
    workspace: str
    state: str
    started_at: datetime
    counted_at: datetime | None
    ended: int
    rejected: int
    total: int


def to_json(value: Any) -> Any:
    """Return a figure as :mod:`json` can serialize it: times in ISO format, durations in seconds."""
    if isinstance(value, Count):
        return {"value": value.value, "precision": value.precision.value}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, float):
        return round(value, 3)
    return value if isinstance(value, bool | int | str | None) else str(value)

"""What became of the records of a :func:`deliver`: delivered, rejected, or still waiting and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from django.db.models import Q
from django.utils import translation

from ..conf import get_settings
from ..insight import explain_record
from ..models import (
    BatchState,
    GroupState,
    OutboxGroup,
    OutboxRecord,
    OutboxRejection,
    OutboxWorkspace,
    RecordState,
    WorkspaceState,
)
from .records import EnqueuedRecord, describe

MAX_LISTED = 10
"""Records that the message of :class:`NotDelivered` lists for each cause."""


@dataclass(frozen=True, slots=True)
class RejectedRecord:
    """A record that Evermuse or the outbox rejected, with the code and the message of the error."""

    record: EnqueuedRecord
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class WaitingRecord:
    """A record that is not delivered yet, and the reason."""

    record: EnqueuedRecord
    reason: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """The result of :func:`deliver`.

    Attributes:
        delivered: The records in batches that Evermuse has completed, the oldest first.
        rejected: The records that were rejected, each with its message.
        waiting: The records that are still in the outbox, each with the reason.
        superseded: The records that were not sent, because a newer version of each was sent.
        requests: Number of requests that sent a batch, with or without success.
    """

    delivered: list[EnqueuedRecord] = field(default_factory=list)
    rejected: list[RejectedRecord] = field(default_factory=list)
    waiting: list[WaitingRecord] = field(default_factory=list)
    superseded: list[EnqueuedRecord] = field(default_factory=list)
    requests: int = 0

    def check(self) -> Self:
        """Return this result if no record was rejected and none is waiting.

        Raises:
            NotDelivered: The message lists the records that were not delivered, each with the reason.
        """
        __tracebackhide__ = True
        if self.rejected or self.waiting:
            raise NotDelivered(self)
        return self

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        counts = (
            f"delivered {len(self.delivered)}, rejected {len(self.rejected)}, waiting {len(self.waiting)}"
        )
        yield f"Records: {counts}. Requests: {self.requests}."
        causes: dict[str, list[EnqueuedRecord]] = {}
        for bad in self.rejected:
            causes.setdefault(f"Rejected, {bad.code}: {bad.message}", []).append(bad.record)
        for waiting in self.waiting:
            causes.setdefault(f"Waiting: {waiting.reason}", []).append(waiting.record)
        for cause, records in causes.items():
            yield cause
            yield from (f"  {describe(record)}" for record in records[:MAX_LISTED])
            if len(records) > MAX_LISTED:
                yield f"  … and {len(records) - MAX_LISTED} more"


class NotDelivered(AssertionError):
    """Records were not delivered.

    Attributes:
        delivery: The result of :func:`deliver`.
    """

    def __init__(self, delivery: Delivery) -> None:
        super().__init__(delivery)  # not the message: parallel tests of Django pickle the arguments
        self.delivery = delivery

    def __str__(self) -> str:
        return f"Not every record was delivered. {self.delivery}"


def collect_result(using: str, pks: set[int], result: Delivery) -> None:
    """Add the records with these ids to the result, each by its state."""
    for row in OutboxRecord.objects.using(using).filter(pk__gte=min(pks, default=0)).order_by("pk"):
        if row.pk in pks:
            _add(result, row)


def _add(result: Delivery, row: OutboxRecord) -> None:
    record = EnqueuedRecord(row)
    match row.state:
        case RecordState.DELIVERED:
            result.delivered.append(record)
        case RecordState.REJECTED:
            rejection = OutboxRejection.objects.using(row._state.db).filter(record=row.pk).latest("pk")
            result.rejected.append(RejectedRecord(record, rejection.code, rejection.message))
        case RecordState.PENDING | RecordState.IN_FLIGHT | RecordState.SCHEDULED | RecordState.HELD:
            result.waiting.append(WaitingRecord(record, _reason(row)))
        case _other:
            result.superseded.append(record)


def _reason(row: OutboxRecord) -> str:
    """Return why a record waits: because of its workspace, its group, its batch, or anything else."""
    with translation.override("en"):
        return next(_reasons(row))


def _reasons(row: OutboxRecord) -> Iterator[str]:
    using: Any = row._state.db
    workspace = OutboxWorkspace.objects.using(using).filter(pk=row.workspace)
    for blocked in workspace.exclude(state=WorkspaceState.ACTIVE):
        yield _sentence(f"the workspace {row.workspace!r} is {blocked.get_state_display()}", blocked.reason)
    groups = OutboxGroup.objects.using(using).for_group(row.workspace, row.type, row.product_id)
    for group in groups.filter(Q(state=GroupState.PAUSED) | Q(state=GroupState.HELD)):
        name = f"its group, {row.type} of the product {row.product_id!r}, is {group.get_state_display()}"
        yield _sentence(name, group.reason)
    if row.workspace in get_settings().workspaces and (batch := row.read_batch()):
        if batch.state == BatchState.ACCEPTED:
            status = batch.remote_status or "no state yet"
            yield _sentence(f"Evermuse accepted it as {batch.remote_id} and reports {status}", batch.message)
        yield _sentence(f"its batch #{batch.pk} is {batch.get_state_display()}", batch.message)
    yield explain_record(row)


def _sentence(text: str, cause: str) -> str:
    return f"{text}: {cause}" if cause else f"{text}."

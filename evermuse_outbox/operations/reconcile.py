"""Decide about a restored database: which records could overwrite something newer, then discard or release them.

The listing proves that Evermuse has batches that the database lost. It shows their types and times, but not their
records. So a record *is at risk* if such a batch of its type was made after the record was enqueued: the batch may have
had a newer version of it. A record of another type, or one that was enqueued after the last such batch, is *safe*.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Max, Q

from ..delivery.context import BEGIN, CLOSED, DeliveryContext, epoch_name
from ..delivery.polling import UnknownBatches
from ..delivery.sealing import lock_for_sealing
from ..evermuse.api import Status
from ..models import (
    DEFERRED,
    ActionKind,
    BatchQuerySet,
    BatchState,
    Decision,
    OutboxAction,
    OutboxAttempt,
    OutboxBatch,
    OutboxRecord,
    OutboxWorkspace,
    RecordQuerySet,
    WorkspaceState,
)
from .batches import end_open_batch
from .discard import RECORDS_PER_STEP

CLOCK_DIFFERENCE = timedelta(minutes=2)
"""How far the clocks of Evermuse and of the database may differ. It is added to the time of a listed batch."""

UNSENT = (BatchState.SEALED, BatchState.IN_DOUBT, BatchState.ISOLATING)
"""States of a batch that holds records which would be sent, and which no worker has leased."""

HELD_BY_HAND = (
    "An operator declared that the database was restored. "
    "Nothing is sent until `manage.py outbox_reconcile --release` is used."
)

ANY_TYPE = ""
"""Type of a listed batch that shows none: it may have had records of each type."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of records that are not sent yet.

    ``pending`` includes scheduled and held ones. ``in_batches`` are those in batches that are sealed, in doubt or
    isolating.
    """

    pending: int
    in_batches: int


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What the listing says about one workspace of one database.

    Attributes:
        using: database alias.
        workspace: name of the workspace.
        is_held: whether nothing is sent until a person decides.
        since: the time from which the listing was read.
        unknown: listed batches that no database has.
        cutoffs: for each type of such batches, the time before which a record must be enqueued to be at risk.
        at_risk: records that could overwrite something newer.
        safe: records of which it is proven that they cannot.
        leased: batches that a worker may be sending. They can be discarded when their leases are over.
        failed: ids of accepted batches at risk that Evermuse reports as FAILED. Their records would be sent again.
        unfinished: number of accepted batches at risk that Evermuse has not finished.
    """

    using: str
    workspace: str
    is_held: bool
    since: datetime
    unknown: UnknownBatches
    cutoffs: Mapping[str, datetime]
    at_risk: Counts
    safe: Counts
    leased: int
    failed: tuple[int, ...] = ()
    unfinished: int = 0


def last_sign_of_life(context: DeliveryContext) -> datetime | None:
    """Return the time of the last answer that the database has, less the time that a request may take.

    None if it has none. Then only a person knows when the backup was taken.
    """
    attempts = OutboxAttempt.objects.using(context.using).filter(workspace=context.workspace_name)
    at = attempts.exclude(call="listing").aggregate(at=Max("started_at"))["at"]
    return at - timedelta(seconds=context.settings.lease) - CLOCK_DIFFERENCE if at else None


def compare(
    context: DeliveryContext, listed: Sequence[Status], unknown: UnknownBatches, since: datetime
) -> Reconciliation:
    """Compare the database with the listing, and return which records are at risk. This changes nothing."""
    row = OutboxWorkspace.objects.using(context.using).ensure_row(context.workspace_name)
    cutoffs = _cutoffs(context, (*unknown.unexplained, *unknown.explained))
    statuses = {status.remote_id: status.status for status in listed}
    batches = _batches(context)
    accepted = _with_records_at_risk(context, batches.filter(state=BatchState.ACCEPTED), cutoffs)
    remote = [(pk, statuses.get(remote_id, "")) for pk, remote_id in accepted.values_list("pk", "remote_id")]
    return Reconciliation(
        using=context.using,
        workspace=context.workspace_name,
        is_held=row.state == WorkspaceState.RESTORED,
        since=since,
        unknown=unknown,
        cutoffs=cutoffs,
        at_risk=_count(context, cutoffs, is_at_risk=True),
        safe=_count(context, cutoffs, is_at_risk=False),
        leased=batches.filter(state=BatchState.SENDING).count(),
        failed=tuple(pk for pk, status in remote if status == "FAILED"),
        unfinished=sum(status not in ("FAILED", "COMPLETE") for _, status in remote),
    )


def hold(context: DeliveryContext, *, by: str = "", reason: str = "") -> bool:
    """Hold a workspace until a person releases it. Return False if it is held already.

    ``by`` is the name of the person who decided it, empty for the user of this process, and ``reason`` says why.
    """
    with transaction.atomic(using=context.using):
        is_changed = OutboxWorkspace.objects.using(context.using).mark_restored(
            context.workspace_name, HELD_BY_HAND
        )
        if is_changed:
            _log(context, ActionKind.HOLD, Decision(by, reason))
    return is_changed


def release(context: DeliveryContext, *, by: str = "", reason: str = "") -> bool:
    """Let a held workspace send again. Return False if it is not held any more.

    The former epoch ends first: if the database that was replaced comes back, it is held. See :func:`hold` for ``by``
    and ``reason``.
    """
    rows = OutboxWorkspace.objects.using(context.using)
    row = rows.ensure_row(context.workspace_name)
    if row.state != WorkspaceState.RESTORED:
        return False
    context.epochs.record(epoch_name(row.epoch, row.name), CLOSED, "closed")
    with transaction.atomic(using=context.using):
        if not rows.end_restored(row, context.clock.now()):
            return False
        _log(context, ActionKind.RELEASE, Decision(by, reason))
    context.epochs.record(epoch_name(row.epoch, row.name), row.batch_count, BEGIN)
    return True


def discard_at_risk(
    context: DeliveryContext, result: Reconciliation, *, by: str = "", reason: str = ""
) -> int:
    """Discard the records at risk, with their batches. Return how many records.

    The workspace must be held, so that no worker takes a record meanwhile. Batches that are leased stay.

    Args:
        context: the delivery context.
        result: the result of ``compare``.
        by: name of the person who decided it; empty for the user of this process.
        reason: why, in the person's words.
    """
    total = 0
    message = "Discarded by an operator after a restore: a newer version may have been sent."
    action = _log(context, ActionKind.DISCARD, Decision(by, reason), "records at risk after a restore")
    unsent = _with_records_at_risk(context, _batches(context).filter(state__in=UNSENT), result.cutoffs)
    failed = _batches(context).filter(pk__in=result.failed, state=BatchState.ACCEPTED)
    for batch in [*unsent, *failed]:
        total += _discard_batch(context, batch, result.cutoffs, message, action)
    for rows in (_deferred(context), _pending(context)):  # a scheduled record may become pending meanwhile
        total += _discard_records(context, rows.filter(_is_at_risk(result.cutoffs)), action)
    return total


def _discard_records(context: DeliveryContext, rows: RecordQuerySet, action: OutboxAction) -> int:
    total = 0
    while pks := list(rows.order_by("pk").values_list("pk", flat=True)[:RECORDS_PER_STEP]):
        with transaction.atomic(using=context.using):
            count = OutboxRecord.rows.using(context.using).filter(pk__in=pks).discard(action=action)
        total += count
        if not count:
            break
    return total


def _log(
    context: DeliveryContext, kind: ActionKind, decision: Decision, target: str = "the workspace"
) -> OutboxAction:
    records = 0 if kind == ActionKind.DISCARD else None
    rows = OutboxAction.objects.using(context.using)
    return rows.log(kind, decision, workspace=context.workspace_name, target=target, records=records)


def _discard_batch(
    context: DeliveryContext,
    batch: OutboxBatch,
    cutoffs: Mapping[str, datetime],
    message: str,
    action: OutboxAction,
) -> int:
    """End a batch, and discard its records at risk. Its other records become pending again."""
    with transaction.atomic(using=context.using):
        lock_for_sealing(context)
        if not end_open_batch(context.using, batch, context.clock.now(), message):
            return 0
        records = OutboxRecord.rows.using(context.using)
        members = records.filter(batch=batch, closed_as__isnull=True)
        pks = list(members.filter(_is_at_risk(cutoffs)).values_list("pk", flat=True))
        records.release(batch)
        return records.filter(pk__in=pks).discard(action=action)


def _cutoffs(context: DeliveryContext, unknown: Sequence[Status]) -> dict[str, datetime]:
    """Return, for each type, the time of its newest unknown batch, plus the difference of the clocks."""
    newest: dict[str, float] = {}
    for status in unknown:
        newest[status.type] = max(newest.get(status.type, 0.0), (status.created_at or 0) / 1000)
    now = context.clock.now()  # aware or naive, as USE_TZ has it
    return {
        kind: now + timedelta(seconds=seconds - now.timestamp()) + CLOCK_DIFFERENCE
        for kind, seconds in newest.items()
    }


def _is_at_risk(cutoffs: Mapping[str, datetime]) -> Q:
    """Return the condition that a record was enqueued before the newest unknown batch of its type was made."""
    condition = Q(pk__in=[])
    for kind, cutoff in cutoffs.items():
        is_early = Q(enqueued_at__lte=cutoff)
        condition |= is_early if kind == ANY_TYPE else is_early & Q(type=kind)
    return condition


def _with_records_at_risk(
    context: DeliveryContext, batches: BatchQuerySet, cutoffs: Mapping[str, datetime]
) -> BatchQuerySet:
    members = OutboxRecord.rows.using(context.using).filter(closed_as__isnull=True, batch__isnull=False)
    return batches.filter(pk__in=members.filter(_is_at_risk(cutoffs)).values("batch_id"))


def _count(context: DeliveryContext, cutoffs: Mapping[str, datetime], *, is_at_risk: bool) -> Counts:
    condition = _is_at_risk(cutoffs) if is_at_risk else ~_is_at_risk(cutoffs)
    unsent = _batches(context).filter(state__in=UNSENT).values("pk")
    members = OutboxRecord.rows.using(context.using).filter(closed_as__isnull=True, batch_id__in=unsent)
    pending = sum(rows.filter(condition).count() for rows in (_pending(context), _deferred(context)))
    return Counts(pending, members.filter(condition).count())


def _pending(context: DeliveryContext) -> RecordQuerySet:
    return OutboxRecord.rows.using(context.using).pending().filter(workspace=context.workspace_name)


def _deferred(context: DeliveryContext) -> RecordQuerySet:
    rows = OutboxRecord.rows.using(context.using).filter(closed_as__in=[state.value for state in DEFERRED])
    return rows.filter(workspace=context.workspace_name)


def _batches(context: DeliveryContext) -> BatchQuerySet:
    return OutboxBatch.objects.using(context.using).filter(workspace=context.workspace_name)

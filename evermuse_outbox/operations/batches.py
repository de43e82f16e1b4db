"""End the wait of a batch by hand: send or poll it now, isolate it, or give it up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from ..delivery.context import Clock, DeliveryContext
from ..delivery.isolation import lock_isolating_parent, start_isolating
from ..models import (
    GIVEN_UP,
    ActionKind,
    BatchState,
    Decision,
    OutboxAction,
    OutboxAttempt,
    OutboxBatch,
    OutboxRecord,
    OutboxRejection,
    OutboxWorkspace,
)
from .refusal import NotPossible

WAITING = (BatchState.SEALED, BatchState.IN_DOUBT)


@dataclass(frozen=True, slots=True)
class GivenUp:
    """What giving up a batch changed.

    Attributes:
        batches: ids of the batches that ended: the batch, and the part of it that was to be sent next.
        records: number of records that are rejected now.
        may_be_sent: whether Evermuse may have records of the batch.
    """

    batches: tuple[int, ...]
    records: int
    may_be_sent: bool


def retry_batch_now(
    using: str,
    pk: int,
    *,
    by: str = "",
    reason: str = "",
    without_listing: bool = False,
    clock: Clock | None = None,
) -> str:
    """Make a batch due: it is sent or polled with the next free permit. Return what happens next, in words.

    Args:
        using: database alias.
        pk: id of the batch. If it is isolating, the part that is tried is meant.
        by: name of the person who decided it; empty for the user of this process.
        reason: why, in the person's words.
        without_listing: send a batch in doubt again although the listing was not read. Its key stays the same.
        clock: the clock; by default the database's.

    Raises:
        NotPossible: The batch waits for nothing.
    """
    now = (clock or Clock.of(using)).now()
    with transaction.atomic(using=using):
        batch = _find(using, pk)
        rows = OutboxBatch.objects.using(using)
        if batch.state in WAITING:
            rows.filter(pk=pk).send_now(now)
            result = gettext_noop("It is sent next.")
        elif batch.state == BatchState.ISOLATING:
            rows.filter(parent_id=pk).send_now(now)
            result = gettext_noop("The part that is tried is sent next.")
        elif batch.next_poll_at is not None:
            rows.filter(pk=pk).poll_now(now)
            result = gettext_noop("It is polled next.")
        else:
            raise _not_possible(batch)
        if without_listing:
            if batch.state != BatchState.IN_DOUBT:
                text = _("Batch #%(batch)s is not in doubt, so the listing is not read for it.")
                raise NotPossible(text % {"batch": pk})
            skip_listing(using, [batch], now)
        _log(using, ActionKind.RETRY_NOW, batch, Decision(by, reason), result)
    return _(result)


def isolate_batch(context: DeliveryContext, pk: int, *, by: str = "", reason: str = "") -> None:
    """Try the records of a waiting batch part by part, so that its bad records are found.

    Args:
        context: the delivery context.
        pk: id of a batch that is sealed or in doubt.
        by: name of the person who decided it; empty for the user of this process.
        reason: why, in the person's words.

    Raises:
        NotPossible: The batch is not waiting, or it cannot be divided.
    """
    using, rows = context.using, OutboxBatch.objects.using(context.using)
    with transaction.atomic(using=using):
        OutboxWorkspace.objects.using(using).lock_for_sealing(context.workspace_name)
        batch = _find(using, pk)
        if batch.state not in WAITING:
            raise _not_possible(batch)
        if OutboxRecord.rows.using(using).filter(batch=batch, closed_as__isnull=True).count() < 2:
            text = _("Batch #%(batch)s has a single record. To reject it: %(command)s")
            raise NotPossible(text % {"batch": pk, "command": f"`manage.py outbox_batch {pk} --give-up`"})
        if parent := lock_isolating_parent(context, batch):
            raise _is_isolated_already(pk, parent.pk)
        now = context.clock.now()
        if not rows.lease(batch, context.clock.after(context.settings.lease)):
            text = _("A worker is sending batch #%(batch)s now. Try again when its lease is over.")
            raise NotPossible(text % {"batch": pk})
        # A batch in doubt stays so: newer versions wait until its parts have ended.
        rows.refuse(batch, message=f"Isolated by hand. {batch.message}".strip(), finished_at=now)
        start_isolating(context, batch, by_failures=True)
        _log(
            using,
            ActionKind.ISOLATE,
            batch,
            Decision(by, reason),
            "Its records are tried in smaller batches.",
        )


def give_up_batch(
    using: str, pk: int, *, by: str = "", reason: str = "", clock: Clock | None = None
) -> GivenUp:
    """End a batch that is not finished, and reject its records. They can be retried later.

    If Evermuse may have the batch, it may still process the records. A newer version is sent as usual.

    Args:
        using: database alias.
        pk: id of the batch. If it is isolating, the part that is tried ends, too, unless a worker is sending it.
        by: name of the person who decided it; empty for the user of this process.
        reason: why, in the person's words.
        clock: the clock; by default the database's.

    Raises:
        NotPossible: A worker is sending the batch, or it is finished.
    """
    now = (clock or Clock.of(using)).now()
    with transaction.atomic(using=using):
        workspace = _find(using, pk).workspace
        OutboxWorkspace.objects.using(using).lock_for_sealing(workspace)
        batch = _find(using, pk)
        result = end_and_reject(using, batch, now, reason)
        text = f"{result.records:,} records are rejected."
        text += " Evermuse may have them." if result.may_be_sent else ""
        _log(using, ActionKind.GIVE_UP, batch, Decision(by, reason), text, records=result.records)
    return result


def end_and_reject(using: str, batch: OutboxBatch, now: datetime, reason: str) -> GivenUp:
    """End a batch and its waiting part, and reject their records. Needs the sealing lock.

    Raises:
        NotPossible: A worker is sending the batch, or it is finished.
    """
    why = f"A person gave up the batch. {reason}".strip()
    ended = [batch]
    if batch.state == BatchState.ISOLATING:
        parts = OutboxBatch.objects.using(using).filter(parent_id=batch.pk, state__in=WAITING)
        ended += list(parts.order_by("pk"))
    may_be_sent = any(item.in_doubt or item.remote_id for item in ended)
    pks = [
        member for item in ended if _end(using, item, now, why) for member in _reject(using, item, now, why)
    ]
    return GivenUp(tuple(item.pk for item in ended), len(pks), may_be_sent)


def _end(using: str, batch: OutboxBatch, now: datetime, message: str) -> bool:
    """End a batch. Return whether its records are to be rejected."""
    rows = OutboxBatch.objects.using(using)
    if batch.state == BatchState.COMPLETE and batch.next_poll_at is not None:
        rows.filter(pk=batch.pk).stop_polling(f"{message} Its attachments are not followed any more.")
        return False
    if not end_open_batch(using, batch, now, message):
        raise _not_possible(batch)
    return True


def end_open_batch(using: str, batch: OutboxBatch, now: datetime, message: str) -> bool:
    """End a batch that is not finished; its records stay open. Return False if a worker has changed its state."""
    rows = OutboxBatch.objects.using(using)
    if batch.state == BatchState.ACCEPTED:
        return rows.fail_accepted(batch, finished_at=now, message=message, next_poll_at=None)
    if batch.state == BatchState.IN_DOUBT:
        return rows.abandon(batch, now, message)
    return rows.withdraw(batch, now, message)


def _reject(using: str, batch: OutboxBatch, now: datetime, message: str) -> list[int]:
    records = OutboxRecord.rows.using(using)
    pks = list(
        records.filter(batch=batch, closed_as__isnull=True).order_by("pk").values_list("pk", flat=True)
    )
    records.reject(
        OutboxRejection(record_id=pk, batch_id=batch.pk, code=GIVEN_UP, message=message, rejected_at=now)
        for pk in pks
    )
    return pks


def skip_listing(using: str, batches: Sequence[OutboxBatch], now: datetime) -> None:
    """Note in the attempt log that the listing is not read before the next attempt of these batches."""
    OutboxAttempt.objects.using(using).bulk_create(
        OutboxAttempt(
            batch_id=batch.pk,
            workspace=batch.workspace,
            call=OutboxAttempt.Call.LISTING,
            started_at=now,
            outcome="skipped",
            detail="A person decided to send the batch again without reading the listing.",
        )
        for batch in batches
    )


def _find(using: str, pk: int) -> OutboxBatch:
    batch = OutboxBatch.objects.using(using).filter(pk=pk).first()
    if batch is None:
        text = _("No batch #%(batch)s in the database %(database)s; it may have been purged.")
        raise NotPossible(text % {"batch": pk, "database": repr(using)})
    return batch


def _is_isolated_already(pk: int, parent: int) -> NotPossible:
    text = _(
        "Batch #%(batch)s is a part of batch #%(parent)s, which is isolated already. To send it now: %(command)s"
    )
    command = f"`manage.py outbox_batch {pk} --retry-now`"
    return NotPossible(text % {"batch": pk, "parent": parent, "command": command})


def _not_possible(batch: OutboxBatch) -> NotPossible:
    text = _("Batch #%(batch)s is %(state)s. %(advice)s")
    values = {"batch": batch.pk, "state": batch.get_state_display(), "advice": _what_is_possible(batch)}
    return NotPossible(text % values)


def _what_is_possible(batch: OutboxBatch) -> str:
    match batch.state:
        case BatchState.SENDING:
            return _("A worker is sending it, until its lease ends. Then the next worker takes it over.")
        case BatchState.ACCEPTED:
            return _("Evermuse has it. To poll it now: --retry-now. To give it up: --give-up.")
        case BatchState.ISOLATING:
            return _("Its records are tried in smaller batches already. To give it up: --give-up.")
        case _other:
            return _("It waits for nothing.")


def _log(
    using: str,
    kind: ActionKind,
    batch: OutboxBatch,
    decision: Decision,
    result: str,
    records: int | None = None,
) -> None:
    OutboxAction.objects.using(using).log(
        kind,
        decision,
        workspace=batch.workspace,
        target=f"batch #{batch.pk}",
        records=records,
        result=result,
    )

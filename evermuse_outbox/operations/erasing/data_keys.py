"""Destroy the data keys of a scope: everything that they encrypt becomes unreadable for good, in old backups, too.

First the keys are retired, so that no process encrypts with them any more. A process learns that within
``CACHE_SECONDS``. Then their material is deleted in one transaction, with its row of the action log. A crash before it
leaves readable payloads, and a crash after it leaves pending records that the sealing discards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from django.db import connections, transaction
from django.db.models import Max, Min, Q

from ...delivery.context import Clock, retry_on_database_error
from ...delivery.sealing import discard_destroyed
from ...models import (
    DEFERRED,
    ActionKind,
    Decision,
    OutboxAction,
    OutboxDataKey,
    OutboxRecord,
    RecordState,
    process_user,
)
from ...models.payloads import CACHE_SECONDS, forget_keys, is_under

WAIT_SECONDS = CACHE_SECONDS + 1.0
"""Seconds after which no process uses a retired key. The second is for the time between two steps of a process."""

WAITING = Q(batch__isnull=True, closed_as__isnull=True) | Q(closed_as__in=[RecordState.REJECTED, *DEFERRED])
"""The records that can be discarded."""

IDS_PER_STEP = 5_000
"""Ids of records that one transaction examines."""


Progress = Callable[[int, int], object]
"""It is called with the last examined id of a record, and the last one of all."""


@dataclass(frozen=True, slots=True)
class Destroyed:
    """What was destroyed.

    Attributes:
        keys: ids of the data keys.
        discarded: number of waiting and rejected records that were discarded.
    """

    keys: tuple[int, ...] = ()
    discarded: int = 0


def destroy_keys(
    using: str,
    workspace: str,
    label: str = "",
    *,
    decision: Decision,
    clock: Clock | None = None,
    progress: Progress | None = None,
) -> Destroyed:
    """Destroy the data keys of a scope, and discard its records that wait. Return what was done.

    It erases what was enqueued before the call, and it takes a little more than ``CACHE_SECONDS``. What is enqueued
    after it gets a new key. Records that are enqueued meanwhile may belong to either.

    Args:
        using: database alias.
        workspace: name of the workspace.
        label: the value of the label of the setting ENCRYPTION_LABEL; empty for the records without it.
        decision: the person and the reason.
        clock: the clock; by default the database's.
        progress: called after each step.
    """
    clock = clock or Clock.of(using)
    keys = retry_on_database_error(using, clock, _retire, using, workspace, label, clock)
    if not keys:
        return Destroyed()
    clock.sleep(WAIT_SECONDS)
    action = retry_on_database_error(using, clock, _destroy, using, keys, workspace, label, decision, clock)
    forget_keys(using)
    return Destroyed(tuple(keys), _discard_waiting(using, keys, workspace, action, clock, progress))


def scopes_of(using: str, workspace: str) -> list[str]:
    """Return the labels of a workspace that have data keys, an empty one included."""
    rows = OutboxDataKey.objects.using(using).filter(workspace=workspace, destroyed_at__isnull=True)
    return sorted(set(rows.values_list("label", flat=True)))


def _retire(using: str, workspace: str, label: str, clock: Clock) -> list[int]:
    rows = OutboxDataKey.objects.using(using).of_scope(workspace, label).filter(destroyed_at__isnull=True)
    pks = list(rows.order_by("pk").values_list("pk", flat=True))
    OutboxDataKey.objects.using(using).filter(pk__in=pks).retire(clock.now())
    return pks


def _destroy(
    using: str, keys: Sequence[int], workspace: str, label: str, decision: Decision, clock: Clock
) -> int | None:
    """Destroy the keys and record the action, both or neither. Return the id of the action."""
    named = ", ".join(f"#{pk}" for pk in keys[:20])
    with transaction.atomic(using=using):
        rows = OutboxDataKey.objects.using(using).filter(pk__in=keys)
        if connections[using].features.has_select_for_update:
            list(rows.order_by("pk").select_for_update())
        if not rows.destroy(clock.now()):
            return None
        action = OutboxAction.objects.using(using).log(
            ActionKind.DESTROY_KEY,
            Decision(decision.by or process_user(), decision.reason),
            workspace=workspace,
            target=f"{len(keys)} data keys{f' of {label}' if label else ''}: {named}"[:400],
            records=0,
        )
    return int(action.pk)


def _discard_waiting(
    using: str,
    keys: Sequence[int],
    workspace: str,
    action: int | None,
    clock: Clock,
    progress: Progress | None,
) -> int:
    """Discard the pending and rejected records of destroyed keys, in steps. What is left, the sealing discards."""
    rows = OutboxRecord.rows.using(using).filter(WAITING, workspace=workspace)
    ends = rows.aggregate(first=Min("pk"), last=Max("pk"))
    first, last, total = ends["first"] or 1, ends["last"] or 0, 0
    for start in range(first, last + 1, IDS_PER_STEP):
        window = rows.filter(is_under(keys), pk__gte=start, pk__lt=start + IDS_PER_STEP)
        pks = list(window.order_by("pk").values_list("pk", flat=True))
        if pks:
            total += retry_on_database_error(using, clock, _discard, using, pks, action, clock)
        if progress:
            progress(min(start + IDS_PER_STEP - 1, last), last)
    return total


def _discard(using: str, pks: list[int], action: int | None, clock: Clock) -> int:
    with transaction.atomic(using=using):
        rows = OutboxRecord.rows.using(using)
        rows.lock_rows(pks)
        left = rows.filter(WAITING, pk__in=pks)
        count = discard_destroyed(rows, list(left.values_list("pk", flat=True)), clock.now())
        if action and count:
            OutboxAction.objects.using(using).add_records(action, count)
    return count

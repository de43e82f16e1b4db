"""Withdraw batches that were sealed before a rule was made, so that their matching records are not sent.

A batch is withdrawn only if Evermuse surely has nothing of it. Each is withdrawn in a short transaction of its own.
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from ...models import BatchQuerySet, BatchState, OutboxBatch, OutboxRecord, OutboxRule, OutboxWorkspace
from ..gates import WITHDRAWABLE, has_failed_before, withdraw_batch
from .lock import wait_for_sealings
from .matching import Rule
from .reading import MemberRow, match_records, to_rule


def withdraw_matching(using: str, workspace: str, row: OutboxRule, now: datetime) -> int:
    """Withdraw the sealed batches of a workspace that contain a record which matches a rule. Return how many.

    Their records become pending again, also those that do not match. A batch that a worker has leased stays.
    """
    rule, count = to_rule(row), 0
    wait_for_sealings(using, [workspace])
    for pk in _candidates(using, row, workspace).filter(state__in=WITHDRAWABLE).values_list("pk", flat=True):
        with transaction.atomic(using=using):
            OutboxWorkspace.objects.using(using).lock_for_sealing(workspace)
            batch = (
                OutboxBatch.objects.using(using).filter(pk=pk, state__in=WITHDRAWABLE, in_doubt=False).first()
            )
            if batch is None or batch.workspace != workspace or not _has_match(using, rule, batch):
                continue
            count += withdraw_batch(using, batch, now, f"Withdrawn by {row}; its records are pending again.")
    return count


def is_applied(using: str, row: OutboxRule) -> bool:
    """Return whether no batch that was sealed before the rule and contains a matching record can still be withdrawn.

    A batch that a worker holds is under way. If it is given back unsent, it must be withdrawn then. The worker may have
    given it back since :func:`withdraw_matching` has looked.
    """
    rule = to_rule(row)
    waiting = _candidates(using, row, row.workspace).filter(state__in=(BatchState.SENDING, *WITHDRAWABLE))
    return not any(
        _has_match(using, rule, batch)
        for batch in waiting
        if row.workspace in ("", batch.workspace) and not has_failed_before(using, batch)
    )


def _candidates(using: str, row: OutboxRule, workspace: str) -> BatchQuerySet:
    """Return the batches whose group may match, and of which Evermuse has nothing so far."""
    rows: BatchQuerySet = OutboxBatch.objects.using(using).open().filter(in_doubt=False)
    names = {"workspace": workspace, "type": row.type, "product_id": row.product_id}
    return rows.filter(**{name: value for name, value in names.items() if value}).order_by("pk")


def _has_match(using: str, rule: Rule, batch: OutboxBatch) -> bool:
    if not rule.conditions.may_match_group(batch.type, batch.product_id):
        return False
    members = OutboxRecord.rows.using(using).filter(batch=batch, closed_as__isnull=True)
    rows = [MemberRow(*member) for member in members.order_by("pk").values_list("pk", "type", "product_id")]
    return bool(match_records(using, [rule], rows))

"""Discard pending records of a workspace or a group: they will not be sent."""

from __future__ import annotations

from django.db import transaction

from ..models import ActionKind, Decision, OutboxAction, OutboxRecord

RECORDS_PER_STEP = 5_000
"""Records that one transaction discards, so that no transaction becomes long."""


def discard_pending(
    using: str, workspace: str, group: tuple[str, str] | None = None, *, by: str = "", reason: str = ""
) -> int:
    """Discard the pending records of a workspace, or only those of one group. Return how many.

    The workspace need not be in the settings. Records that a batch has taken stay: give up their batches first.

    Args:
        using: database alias.
        workspace: name of the workspace.
        group: the ``_type`` and the ``_product_id`` of a group; None for all groups.
        by: name of the person who decided it; empty for the user of this process.
        reason: why, in the person's words.
    """
    rows = OutboxRecord.rows.using(using)
    pending = rows.pending().filter(workspace=workspace)
    if group:
        pending = pending.group(workspace, *group)
    total, action = 0, None
    # A database may compare text without regard to case; Evermuse compares exactly.
    exact = (workspace, *group) if group else (workspace,)
    columns = ("workspace", "type", "product_id")[: len(exact)]
    after = 0
    while page := list(
        pending.filter(pk__gt=after).order_by("pk").values_list("pk", *columns)[:RECORDS_PER_STEP]
    ):
        after = page[-1][0]
        pks = [pk for pk, *names in page if tuple(names) == exact]
        with transaction.atomic(using=using):
            if action is None:
                target = f"pending records of {'group ' + ' · '.join(group) if group else 'the workspace'}"
                action = OutboxAction.objects.using(using).log(
                    ActionKind.DISCARD, Decision(by, reason), workspace=workspace, target=target, records=0
                )
            total += rows.filter(pk__in=pks).discard(action=action)
    return total

"""Hold pending records back for a standing rule, and end that."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ...models import OutboxDeferral, OutboxRecord, by_id


def hold(using: str, workspace: str, pks: Sequence[int], rule: int, until: datetime | None) -> None:
    """Change pending records to held, until a time or until the rule ends. Needs the sealing lock.

    A record may have a deferral already, because it expires. It expires while it is held, too.

    Args:
        using: the database alias.
        workspace: the workspace of the records.
        pks: ids of pending records, ``CHUNK`` at most.
        rule: the id of the standing rule.
        until: the end of the rule; None if only a person ends it.
    """
    deferrals = OutboxDeferral.objects.using(using)
    OutboxRecord.rows.using(using).hold(pks)
    known = dict(deferrals.filter(by_id(pks)).values_list("pk", "expires_at"))
    for pk, expires_at in known.items():
        due_at = min((time for time in (until, expires_at) if time), default=None)
        deferrals.filter(pk=pk).update(rule_id=rule, due_at=due_at)
    new = [
        OutboxDeferral(record_id=pk, workspace=workspace, due_at=until, rule_id=rule)
        for pk in pks
        if pk not in known
    ]
    deferrals.bulk_create(new)


def release_held(using: str, rule: int, now: datetime, limit: int) -> int:
    """Make records of a rule that has ended due now, at most ``limit``. Return how many; ``apply_due`` does the rest.

    The caller has ended the rule, so no further record is held by it.
    """
    rows = OutboxDeferral.objects.using(using).of_rule(rule).order_by("pk")
    pks = list(rows.exclude(due_at__lte=now).values_list("pk", flat=True)[:limit])
    return OutboxDeferral.objects.using(using).filter(by_id(pks), rule_id=rule).update(due_at=now)

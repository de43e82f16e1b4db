"""Forget jobs: cancel those that were never confirmed, and delete old ones, in bounded steps."""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.db.models import Q

from ..delivery.context import Clock
from ..models import (
    UNCONFIRMED,
    UNFINISHED,
    OperationQuerySet,
    OutboxOperation,
    OutboxOperationMember,
    by_id,
)

CONFIRM_WITHIN = timedelta(days=1)
"""Time after which a job is cancelled that was not confirmed. The preview of an older one is worth little."""

MEMBERS_KEPT = timedelta(days=14)
"""For how long the members of a finished job are kept, if the retention is shorter. The row of the job stays longer."""

MEMBERS_PER_RUN = 5_000
"""Members that one run deletes. There is one run each second."""

JOBS_PER_RUN = 20
"""Jobs that one run cancels, and that one run deletes."""


def forget_operations(using: str, clock: Clock, retention_days: float, kept: timedelta) -> int:
    """Delete old jobs and their members, a few in each run; return how many rows.

    The members of a job are deleted after the retention, and its row after ``kept``, as manual actions are.
    """
    rows, now = OutboxOperation.objects.using(using), clock.now()
    abandoned = rows.filter(state__in=UNCONFIRMED, created_at__lt=now - CONFIRM_WITHIN).order_by("pk")
    for pk in list(abandoned.values_list("pk", flat=True)[:JOBS_PER_RUN]):
        rows.cancel(pk, now, "It was not confirmed within a day.")
    over = rows.exclude(state__in=UNFINISHED)
    members_kept = max(MEMBERS_KEPT, timedelta(days=retention_days))
    is_old = Q(finished_at__lt=now - members_kept) | Q(confirmed_at__isnull=True)
    count = _delete_members(using, over.filter(is_old, has_members=True))
    old = over.filter(finished_at__lt=now - kept, has_members=False).order_by("pk")
    pks = list(old.values_list("pk", flat=True)[:JOBS_PER_RUN])
    rows.filter(pk__in=pks)._raw_delete(using)
    return count + len(pks)


def _delete_members(using: str, jobs: OperationQuerySet) -> int:
    """Delete members of the first of these jobs; return how many."""
    pk = jobs.order_by("pk").values_list("pk", flat=True).first()
    if pk is None:
        return 0
    rows = OutboxOperationMember.objects.using(using).filter(operation_id=pk)
    pks = list(rows.order_by("target").values_list("pk", flat=True)[:MEMBERS_PER_RUN])
    with transaction.atomic(using=using):
        OutboxOperationMember.objects.using(using).filter(by_id(pks))._raw_delete(using)
        if len(pks) < MEMBERS_PER_RUN:
            OutboxOperation.objects.using(using).filter(pk=pk).update(has_members=False)
    return len(pks)

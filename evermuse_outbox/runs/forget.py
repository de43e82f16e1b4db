"""What the purge leaves of runs and labels: the counts of purged records; and forgetting what no record names."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.db import connections, transaction
from django.db.models import Exists, OuterRef

from ..models import OutboxLabel, OutboxLabelSet, OutboxRecord, OutboxRun, RecordState

RETIRED = timedelta(days=1)
"""Time from the retirement of a label set to its deletion. Processes use a set that they have read for a minute, and
then in transactions that may be long."""

FORGET_INTERVAL = 60.0
"""Seconds between two searches of a process for what no record names."""

ROWS_PER_SEARCH = 200
"""Label sets that one search examines, and runs that it deletes."""

_searched_at: dict[str, float] = {}
"""Database alias → time of the last search of this process, on the monotonic clock."""

_examined_to: dict[str, int] = {}
"""Database alias → id of the last label set that this process has examined."""


def keep_purged_counts(using: str, records: Iterable[tuple[int | None, str | None]]) -> None:
    """Add purged records to the counts of their runs. Call it in the transaction that deletes them.

    ``records`` are pairs of ``label_set_id`` and ``closed_as``. Without labels, this costs no statement.
    """
    counts = Counter((pk, closed_as or RecordState.DELIVERED.value) for pk, closed_as in records if pk)
    if not counts:
        return
    sets = OutboxLabelSet.objects.using(using).filter(pk__in={pk for pk, _ in counts}, run__isnull=False)
    runs = dict(sets.values_list("pk", "run_id"))
    by_run: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for (pk, state), count in counts.items():
        if pk in runs:
            by_run[runs[pk]][state] += count
    OutboxRun.objects.using(using).add_purged(by_run)


def forget_labels(using: str, now: datetime, runs_kept: timedelta) -> int:
    """Delete label sets that no record names, and old runs without sets, a few each minute. Return how many rows."""
    started = time.monotonic()
    if started - _searched_at.get(using, float("-inf")) < FORGET_INTERVAL:
        return 0
    _searched_at[using] = started
    rows = OutboxLabelSet.objects.using(using)
    page = list(rows.filter(pk__gt=_examined_to.get(using, 0)).order_by("pk")[:ROWS_PER_SEARCH])
    _examined_to[using] = page[-1].pk if len(page) == ROWS_PER_SEARCH else 0
    count = 0
    if page and has_label_index(using):
        pks = [row.pk for row in page]
        named = OutboxRecord.rows.filter(label_set_id=OuterRef("pk")).order_by()
        unnamed = rows.filter(pk__in=pks).filter(~Exists(named))
        rows.filter(pk__in=list(unnamed.filter(retired_at__isnull=True).values_list("pk", flat=True))).update(
            retired_at=now
        )
        count = _delete_sets(
            using, list(unnamed.filter(retired_at__lt=now - RETIRED).values_list("pk", flat=True))
        )
    return count + _delete_runs(using, now - runs_kept)


def _delete_sets(using: str, pks: list[int]) -> int:
    if pks:
        with transaction.atomic(using=using):
            OutboxLabel.objects.using(using).filter(label_set_id__in=pks)._raw_delete(using)
            OutboxLabelSet.objects.using(using).filter(pk__in=pks)._raw_delete(using)
    return len(pks)


def _delete_runs(using: str, before: datetime) -> int:
    """Delete runs that were started long ago and have no label set any more."""
    runs = OutboxRun.objects.using(using)
    sets = OutboxLabelSet.objects.filter(run_id=OuterRef("pk"))
    old = runs.filter(~Exists(sets), started_at__lt=before).order_by("pk")
    pks = list(old.values_list("pk", flat=True)[:ROWS_PER_SEARCH])
    if pks:
        runs.filter(pk__in=pks)._raw_delete(using)
    return len(pks)


def has_label_index(using: str) -> bool:
    """Return whether an index finds the records of a set. MySQL and MariaDB have it only after ``outbox_indexes``."""
    connection: Any = connections[using]
    if connection.features.supports_partial_indexes:
        return True
    with connection.cursor() as cursor:
        names = connection.introspection.get_constraints(cursor, OutboxRecord._meta.db_table)
    return "evermuse_record_labels" in names

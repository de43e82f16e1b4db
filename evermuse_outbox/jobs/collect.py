"""Collect the members of a job: page by page, each page in a short transaction, until the selection is complete.

It can be called several times: by a request that is loaded again, or by a command in a loop. The row of the job stores
how far it is. Rows that are added later have higher ids and are no members.

The ids are read in windows, because no index serves every filter in the order of ids. A window is a range of ids. It
grows while it has few matches, so that neither a dense nor a sparse selection needs a long statement.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from django.db import models, transaction
from django.db.models import Max, Min
from django.utils.translation import gettext as _

from ..delivery.context import Clock, retry_on_database_error
from ..models import (
    Decision,
    OperationState,
    OutboxOperation,
    OutboxOperationMember,
    disable_jit,
    process_user,
    start_operation,
)
from ..operations import NotPossible
from .estimate import Target, add_groups
from .kinds import Kind, Refusals, get_kind

LIMIT_SECONDS = 2.0
"""Seconds that one call collects, by default: a page of the admin may take this long."""

FIRST_WINDOW, GROWTH = 20_000, 4
"""Ids in the first window, and the factor by which it grows after a window with few matches."""

SLOW_WINDOW = 0.2
"""Seconds. A window that took longer does not grow."""

MAX_REASONS, MAX_EXAMPLES = 20, 20
"""Reasons of expected refusals that the row stores, and ids for each."""

OTHER_REASONS = "other reasons"

LIST = "list"
"""Option in which the admin stores the filter of a list, which may contain the address of a person."""


def create(
    using: str,
    kind: str,
    *,
    by: str = "",
    reason: str = "",
    selection: str = "",
    options: Mapping[str, Any] | None = None,
) -> OutboxOperation:
    """Insert a job without members. Nothing is changed before it is confirmed.

    Args:
        using: database alias.
        kind: name of a kind, for instance ``retry``.
        by: name of the person who decided it; empty for the user of this process.
        reason: why, in the person's words.
        selection: what was selected, in words.
        options: what the kind needs to know, as JSON.

    Raises:
        NotPossible: The kind is unknown, or it cannot work with these options.
    """
    chosen, stored = get_kind(kind), dict(options or {})
    chosen.prepare(using, stored)
    ends = chosen.model._base_manager.using(using).aggregate(first=Min("pk"), last=Max("pk"))
    return start_operation(
        using,
        kind=kind,
        by=by or process_user(),
        reason=reason,
        selection=selection,
        options=stored,
        max_id=ends["last"] or 0,
        collected_to=(ends["first"] or 1) - 1,
    )


def collect(
    job: OutboxOperation,
    rows: models.QuerySet[Any],
    *,
    limit_seconds: float = LIMIT_SECONDS,
    clock: Clock | None = None,
) -> bool:
    """Add the selected rows to the job for a limited time. Return whether the job is ready to be confirmed.

    Args:
        job: a job in the state ``collecting``; its columns are read again.
        rows: the selected rows of the model of the kind. It must be the same selection in each call.
        limit_seconds: time after which no further page begins.
        clock: the clock; by default the database's.

    Raises:
        NotPossible: ``rows`` are not of the model that this kind changes.
    """
    kind, using = get_kind(job.kind), job.using
    if rows.model is not kind.model:
        text = _("A job of kind %(kind)s changes %(rows)s.")
        raise NotPossible(text % {"kind": repr(kind.name), "rows": kind.model._meta.verbose_name_plural})
    clock = clock or Clock.of(using)
    deadline, window = clock.monotonic() + limit_seconds, FIRST_WINDOW
    rows = rows.using(using)
    while True:
        window, is_complete = retry_on_database_error(using, clock, _collect_page, job.pk, kind, rows, window)
        if is_complete or clock.monotonic() >= deadline:
            job.refresh_from_db(using=using)
            if job.state != OperationState.COLLECTING:
                forget_list(job)
            return job.state != OperationState.COLLECTING


def forget_list(job: OutboxOperation) -> None:
    """Delete the filter of a list from the options, if the kind hides it. Only collecting needs it."""
    if get_kind(job.kind).hides_selection and LIST in job.options:
        job.options = {name: value for name, value in job.options.items() if name != LIST}
        job.save(using=job.using, update_fields=["options"])


def _collect_page(pk: int, kind: Kind, rows: models.QuerySet[Any], window: int) -> tuple[int, bool]:
    """Collect one window. Return the size of the next window, and whether no other is needed."""
    using = rows.db
    with transaction.atomic(using=using):
        jobs = OutboxOperation.objects.using(using)
        job = jobs.lock(pk)
        if job is None or job.state != OperationState.COLLECTING:
            return window, True
        disable_jit(using)
        started, end = time.monotonic(), min(job.collected_to + window, job.max_id)
        targets = _read_targets(kind, rows, job.collected_to, end)
        if len(targets) == kind.page:
            end, window = targets[-1].pk, max(targets[-1].pk - job.collected_to, kind.page)
        elif time.monotonic() - started < SLOW_WINDOW:
            window *= GROWTH
        _add_members(job, kind, targets)
        job.collected_to = end
        job.save(using=using, update_fields=_COLLECTED)
        return window, end >= job.max_id and jobs.complete_collecting(pk)


_COLLECTED = ["collected_to", "total", "bytes", "groups", "expected", "workspace"]


def _read_targets(kind: Kind, rows: models.QuerySet[Any], after: int, end: int) -> list[Target]:
    in_window = rows.filter(pk__gt=after, pk__lte=end).order_by("pk")
    columns = in_window.values_list("pk", "workspace", *kind.columns)
    absent = ("", "", 0)[len(kind.columns) :]
    return [Target._make((*row, *absent)) for row in columns[: kind.page]]


def _add_members(job: OutboxOperation, kind: Kind, targets: list[Target]) -> None:
    if not targets:
        return
    pks = [target.pk for target in targets]
    OutboxOperationMember.objects.using(job.using).add(job, pks)
    refusals = kind.check(job.using, pks, job.options)
    add_expected(job.expected, refusals)
    job.groups = add_groups(job.groups, [target for target in targets if target.pk not in refusals])
    workspaces = {target.workspace for target in targets} | ({job.workspace} if job.total else set())
    job.workspace = workspaces.pop() if len(workspaces) == 1 else ""
    job.total += len(targets)
    job.bytes += sum(target.size for target in targets)


def add_expected(expected: dict[str, Any], refusals: Refusals) -> None:
    """Add refusals to the counts by reason: reason → ``{"count": …, "ids": […]}``, with the first ids."""
    for pk, refusal in refusals.items():
        is_known = refusal.reason in expected or len(expected) < MAX_REASONS
        entry = expected.setdefault(refusal.reason if is_known else OTHER_REASONS, {"count": 0, "ids": []})
        entry["count"] += 1
        if len(entry["ids"]) < MAX_EXAMPLES:
            entry["ids"].append(pk)


def decision_of(job: OutboxOperation) -> Decision:
    """Return the person behind a job and the reason."""
    return Decision(job.by, job.reason)

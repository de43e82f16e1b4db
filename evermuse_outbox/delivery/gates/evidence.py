"""Read from the attempt log what ``verdict`` needs. Only a failed POST and a probe cost these queries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db.models import Max, Min, Q, QuerySet

from ...evermuse.api import InDoubt, KeyRefused, NoCredits, Outcome
from ...models import BatchState, OutboxAttempt, OutboxBatch, OutboxRecord
from ..context import DeliveryContext
from .group_breaker import paused_groups
from .keys import only_of_key
from .verdict import Evidence, Failing, Failure, Judgement, RecentPost, failure_kind, judge

RECENT_POSTS = 200
"""Number of the latest POSTs of a workspace that are read: twenty seconds at the full rate limit."""

MAX_ATTEMPTS = 100_000
"""Number of the latest attempts of all workspaces that are searched for these POSTs. So a workspace that rarely sends
does not cost a search of the complete log."""


def judge_failure(context: DeliveryContext, batch: OutboxBatch, outcome: Outcome) -> Judgement | None:
    """Return what the outcome of a POST says about the batch and the workspace.

    Return None if the POST did not fail, or if no server was reached: then the network is the cause.

    Args:
        context: the delivery context.
        batch: the leased batch, as it was before the POST.
        outcome: what the answer means.
    """
    kind = failure_kind(outcome)
    if kind is None:
        return None
    failure = Failure(
        batch=batch.pk,
        family=batch.parent_id or batch.pk,
        group=(batch.type, batch.product_id),
        kind=kind,
        is_of_key=isinstance(outcome, KeyRefused | NoCredits),
        count=batch.failures + 1,
        records=batch.record_count,
        is_part=_is_tried_part(context, batch),
        is_unclear=isinstance(outcome, InDoubt),
        is_in_doubt=was_unanswered(context, batch),
    )
    # Of several keys, each is judged by what was sent with it alone.
    posts = only_of_key(context) if isinstance(outcome, KeyRefused) else {}
    return judge(failure, _read_evidence(context, batch, failure, posts))


def was_unanswered(context: DeliveryContext, batch: OutboxBatch) -> bool:
    """Return whether a POST of the batch had no answer, so that Evermuse may have accepted it.

    A later failure does not change that: a 403 of a firewall, for example, says nothing about the earlier request.
    """
    no_answer = (
        Q(outcome="lost") | Q(outcome="in_doubt", status=None) | Q(outcome="in_doubt", status__in=(502, 504))
    )
    return batch.in_doubt and _posts(context, batch.pk).filter(no_answer).exists()


def read_failing(context: DeliveryContext) -> Failing:
    """Return the groups and batches of the workspace that failed since a batch has passed."""
    return Failing.of(Evidence(tuple(_recent_posts(context, only_of_key(context)))).since_pass())


def _read_evidence(
    context: DeliveryContext, batch: OutboxBatch, failure: Failure, only: dict[str, str]
) -> Evidence:
    # An open batch has not passed, so all of its attempts have failed.
    failures = _posts(context, batch.pk).aggregate(first=Min("pk"), last=Max("pk"))
    has_origin = failure.is_part or batch.record_count == 1
    started = _posts(context, failure.family).aggregate(first=Min("pk")) if has_origin else failures
    return Evidence(
        recent=tuple(_recent_posts(context, only)),
        first_failure=started["first"],
        last_failure=failures["last"],
        paused_groups=frozenset(paused_groups(context)),
        has_untried=_has_untried(context),
    )


def _is_tried_part(context: DeliveryContext, batch: OutboxBatch) -> bool:
    """Return whether ``batch`` is the part that is tried of a batch that is isolated because of failures."""
    if batch.parent_id is None:
        return False
    rows = OutboxBatch.objects.using(context.using)
    parent = rows.filter(pk=batch.parent_id, state=BatchState.ISOLATING).first()
    return (
        parent is not None
        and parent.is_tried_part(batch)
        and bool((parent.isolation or {}).get("by_failures"))
    )


def _has_untried(context: DeliveryContext) -> bool:
    """Return whether the workspace has a batch that has not failed yet, or pending records."""
    batches = OutboxBatch.objects.using(context.using).sendable(context.workspace_name)
    pending = OutboxRecord.rows.using(context.using).pending().filter(workspace=context.workspace_name)
    return batches.filter(failures=0).exists() or pending.exists()


def _recent_posts(context: DeliveryContext, only: dict[str, str]) -> Iterator[RecentPost]:
    """Yield the latest POSTs, ``only`` those of one API key if it is a filter for them."""
    rows = OutboxAttempt.objects.using(context.using)
    latest = rows.aggregate(pk=Max("pk"))["pk"] or 0
    rows = rows.filter(
        pk__gt=latest - MAX_ATTEMPTS,
        workspace=context.workspace_name,
        call=OutboxAttempt.Call.INGEST,
        batch__isnull=False,
        **only,
    )
    columns: Any = ("pk", "batch", "batch__parent", "batch__type", "batch__product_id", "outcome")
    for attempt, batch, parent, kind, product, outcome in rows.order_by("-pk").values_list(*columns)[
        :RECENT_POSTS
    ]:
        yield RecentPost(attempt, batch, parent, (kind, product), outcome)


def _posts(context: DeliveryContext, batch: int) -> QuerySet[OutboxAttempt]:
    rows = OutboxAttempt.objects.using(context.using)
    return rows.filter(batch=batch, call=OutboxAttempt.Call.INGEST)

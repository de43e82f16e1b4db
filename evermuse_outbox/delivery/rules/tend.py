"""Tend standing rules, once a second: end those whose time is over, and release what ended rules held.

Each transaction changes at most ``RELEASED_AT_ONCE`` records, so a rule that held a million of them blocks nothing.
"""

from __future__ import annotations

from ...foreign_text import get_logger, log_ids
from ...models import OutboxDeferral, OutboxRule, RuleAction, RuleState
from ..context import Clock
from ..deferral import release_held
from .lock import wait_for_sealings
from .reading import affected_workspaces
from .withdraw import is_applied, withdraw_matching

logger = get_logger(__name__)

RELEASED_AT_ONCE = 1_000
"""Held records that one transaction makes due; ``apply_due`` makes them pending."""

RUN_SECONDS = 0.4
"""Duration of a run. After that, no further transaction begins; the next run goes on."""


def tend_rules(using: str, clock: Clock) -> int:
    """Do what standing rules need; return how many records were released. Without rules, this costs one small query."""
    deadline, count = clock.monotonic() + RUN_SECONDS, 0
    for row in OutboxRule.objects.using(using).exclude(state=RuleState.ENDED).order_by("pk"):
        if row.state == RuleState.ACTIVE:
            _tend_active(using, row, clock)
        else:
            count += _release(using, row, clock, deadline)
    return count


def _tend_active(using: str, row: OutboxRule, clock: Clock) -> None:
    rows, now = OutboxRule.objects.using(using).filter(pk=row.pk), clock.now()
    if rows.over(now).exists():
        rows.end(now)
        logger.info("%s has ended: its time was over", row, extra=log_ids(database=using))
    elif row.applied_at is None:
        # A worker held a batch when the rule was made, or the process that made the rule has died.
        for name in affected_workspaces(using, row.workspace):
            withdraw_matching(using, name, row, now)
        if is_applied(using, row):
            rows.note_applied(now)


def _release(using: str, row: OutboxRule, clock: Clock, deadline: float) -> int:
    """Make records due that an ended rule holds, and note that it is done when none is left. Return how many."""
    count = 0
    if row.action == RuleAction.HOLD:
        # They may still hold records by this rule.
        wait_for_sealings(using, affected_workspaces(using, row.workspace))
        while released := release_held(using, row.pk, clock.now(), RELEASED_AT_ONCE):
            count += released
            if clock.monotonic() >= deadline:
                return count
        if OutboxDeferral.objects.using(using).of_rule(row.pk).exists():
            return count  # they are due, and become pending within a second
    if OutboxRule.objects.using(using).filter(pk=row.pk).finish():
        logger.info("%s has ended and holds no record", row, extra=log_ids(database=using))
    return count

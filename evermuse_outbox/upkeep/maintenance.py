"""Run all upkeep on every database that workers use."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta

from django.db.models import Exists, OuterRef

from ..conf import get_settings
from ..delivery.context import Clock, isolate_database_errors, prepare_throttles, retry_on_database_error
from ..delivery.gates import CLEARED_FOR
from ..delivery.rules import tend_rules
from ..models import (
    GroupState,
    OutboxAction,
    OutboxGroup,
    OutboxImport,
    OutboxRecord,
    OutboxRule,
    OutboxRuleMatch,
    RuleState,
)
from ..monitoring import beat, forget, observe_sometimes
from ..pressure import observe_pressure
from ..runs import forget_labels, watch_runs
from ..search import index_records
from .future_times import correct_future_times_sometimes
from .operations import forget_operations
from .payloads import drop_payloads_one_run, payload_days
from .postgresql import analyze_unknown_tables
from .purge import purge_one_run
from .purge_progress import PurgeProgress
from .rejections import complete_signatures, correct_rejected_sometimes
from .rescue import rescue_batches

ACTIONS_KEPT = timedelta(days=365)
"""For how long manual actions are kept, if ``RETENTION_DAYS`` is shorter."""

ACTIONS_PER_RUN = 100
"""Manual actions that one run deletes."""

_progress: defaultdict[str, PurgeProgress] = defaultdict(PurgeProgress)
"""How far this process has purged, by database alias."""

_dropping: defaultdict[str, PurgeProgress] = defaultdict(PurgeProgress)
"""When this process has dropped payloads last, by database alias."""


def maintain_all(clock_of: Callable[[str], Clock] = Clock.of) -> None:
    """Do all upkeep on every database of the setting DATABASES, each part in bounded steps.

    ``clock_of`` returns the clock of a database alias.
    """
    settings = get_settings()
    retention = settings.retention_days
    kept = actions_kept(retention.longest)
    prepare_throttles(settings, time.monotonic())
    for using in settings.databases:
        clock, progress = clock_of(using), _progress[using]
        beat(using, "maintenance")
        with isolate_database_errors(using):
            retry_on_database_error(using, clock, rescue_batches, using, clock)
            retry_on_database_error(using, clock, tend_rules, using, clock)
            retry_on_database_error(using, clock, correct_future_times_sometimes, using, clock)
            retry_on_database_error(using, clock, purge_one_run, using, clock, retention, progress)
            days = payload_days(settings)
            if days is not None:
                retry_on_database_error(
                    using, clock, drop_payloads_one_run, using, clock, days, _dropping[using]
                )
            retry_on_database_error(using, clock, forget_groups, using, clock)
            retry_on_database_error(using, clock, forget_actions, using, clock, retention.longest)
            retry_on_database_error(using, clock, forget_operations, using, clock, retention.longest, kept)
            retry_on_database_error(using, clock, analyze_unknown_tables, using)
            retry_on_database_error(using, clock, correct_rejected_sometimes, using)
            retry_on_database_error(using, clock, complete_signatures, using)
            if settings.search_index:
                retry_on_database_error(using, clock, index_records, using, clock.monotonic)
            retry_on_database_error(using, clock, watch_runs, using, clock.now())
            retry_on_database_error(using, clock, forget_labels, using, clock.now(), kept)
            if retry_on_database_error(using, clock, observe_sometimes, using, clock):
                observe_pressure(using)
            retry_on_database_error(using, clock, forget, using, clock.now(), kept)


def forget_groups(using: str, clock: Clock) -> int:
    """Delete the rows of groups that need no attention any more; return how many.

    These are paused groups without pending records, and suspected or cleared groups whose ``since`` is longer ago than
    ``CLEARED_FOR``. A suspected group that is still refused then begins a new count. A group that a person holds stays.
    """
    rows = OutboxGroup.objects.using(using)
    outdated = rows.exclude(state__in=(GroupState.PAUSED, GroupState.HELD)).filter(
        since__lt=clock.now() - CLEARED_FOR
    )
    paused = rows.filter(state=GroupState.PAUSED)
    empty = [row.pk for row in paused if not _has_pending_records(using, row)]
    return outdated.resume() + paused.filter(pk__in=empty).resume()


def forget_actions(using: str, clock: Clock, retention_days: float) -> int:
    """Delete old manual actions, ended rules and the progress of old imports, a few in each run; return how many.

    Old means older than ``ACTIONS_KEPT`` and the retention. An import that can be continued stays, and a
    rule that a record names.
    """
    before = clock.now() - actions_kept(retention_days)
    actions = OutboxAction.objects.using(using).filter(at__lt=before).order_by("at")
    imports = OutboxImport.objects.using(using).filter(updated_at__lt=before, finished_at__isnull=False)
    count = 0
    rules = OutboxRule.objects.using(using).filter(state=RuleState.ENDED, ended_at__lt=before)
    # A discarded record that is kept longer still names its rule.
    rules = rules.filter(~Exists(OutboxRuleMatch.objects.filter(rule=OuterRef("pk"))))
    for rows in (actions, imports.order_by("pk"), rules.order_by("pk")):
        pks = list(rows.values_list("pk", flat=True)[:ACTIONS_PER_RUN])
        count += rows.model._default_manager.using(using).filter(pk__in=pks).delete()[0] if pks else 0
    return count


def actions_kept(retention_days: float) -> timedelta:
    """Return for how long manual actions and incidents are kept."""
    return max(ACTIONS_KEPT, timedelta(days=retention_days))


def _has_pending_records(using: str, row: OutboxGroup) -> bool:
    pending = OutboxRecord.rows.using(using).pending()
    return pending.group(row.workspace, row.type, row.product_id).exists()

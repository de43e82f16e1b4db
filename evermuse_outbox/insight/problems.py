"""What needs attention now: the first lines of the overview, ``outbox_status --check`` and the health view.

A problem says what is wrong, since when, whether it recovers by itself, and what to do. Finding them costs a few small
queries, so a health view may do it every few seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from django.db.models import Q
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ..conf import get_settings
from ..database_clock import database_now
from ..delivery.scanning import find_waiting_work
from ..foreign_text import clean_text
from ..indexing import unbuilt_indexes
from ..models import (
    GroupState,
    IncidentKind,
    OutboxGroup,
    OutboxIncident,
    OutboxRecord,
    OutboxRule,
    OutboxWorkspace,
    WorkspaceState,
)
from ..monitoring import (
    describe_versions,
    missing_workspaces,
    oldest_of_groups,
    unknown_features,
    versions_at_work,
    worker_silence,
)
from .explaining import (
    START_WORKER,
    describe_rule_title,
    explain_blocked_keys,
    explain_group,
    explain_rule,
    explain_workspace,
)

Kind = Literal["workers", "workspace", "group", "lag", "rule", "rejections", "indexes"]

KINDS: tuple[Kind, ...] = ("workers", "workspace", "group", "lag", "rule", "rejections", "indexes")
"""The kinds of problems, the most important first."""

MAX_GROUPS = 20
"""Paused groups that are listed. More at once have one cause."""

MAX_RULES = 20
"""Active standing rules that are listed: the oldest ones."""

MAX_COUNTED = 10_000
"""Rejected records that are counted."""

SHORT = (WorkspaceState.BACKING_OFF, WorkspaceState.THROTTLED)
"""States of a workspace that usually end with the next request. They are no failure until records wait too long."""

MIN_FAILURES = 2
"""Failures in a row from which a workspace in such a state is shown. A single failed request needs no attention."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that needs attention.

    ``subject`` is a name: the workspace, or the group. ``key`` is the primary key of its row, for a link.
    """

    kind: Kind
    workspace: str
    subject: str
    key: str
    since: datetime | None
    """None if it is not known."""
    title: str
    explanation: str
    """Why, whether it recovers by itself, and what to do."""
    is_failure: bool = True
    """Whether the delivery is disturbed. If not, a person has something to decide, or it ends by itself soon."""


def find_problems(using: str, max_lag: float | None = None, *, hidden: Collection[str] = ()) -> list[Problem]:
    """Return what needs attention in a database, the most important first; nothing if it is healthy.

    Args:
        using: Database alias.
        max_lag: Age in seconds of the oldest pending record above which it is a problem; ``MAX_LAG`` by default.
        hidden: Names of workspaces that are left out, because the person may not see them.
    """
    limit = get_settings().max_lag if max_lag is None else max_lag
    problems = [
        *_missing_workers(using),
        *_versions(using),
        *_blocked_workspaces(using),
        *_invalid_workspaces(),
        *_unknown_workspaces(using),
        *_paused_groups(using),
        *_old_records(using, limit),
        *_active_rules(using),
        *_rejected_records(using, hidden),
    ]
    visible = [problem for problem in problems if problem.workspace not in hidden]
    return sorted(visible, key=lambda problem: not problem.is_failure)


def _missing_workers(using: str) -> Iterator[Problem]:
    silence = worker_silence(using)
    if silence.is_missing:
        title = _("No worker seen for 3 minutes") if silence.last_seen_at else _("No worker was ever seen")
        text = _("Nothing is sent until one runs. Start one: %(celery)s with beat, or %(relay)s.")
        explanation = text % START_WORKER
        yield Problem("workers", "", "", "", silence.last_seen_at, title, explanation)


def _versions(using: str) -> Iterator[Problem]:
    versions = versions_at_work(using)
    features = unknown_features(using, versions)
    if len(versions) < 2 and not features:
        return
    title = _("%(count)s versions at work: %(versions)s") % {
        "count": len(versions),
        "versions": describe_versions(versions),
    }
    if features:
        text = _(
            "Workers of the old version do not know these features, which are in use: %(features)s. They may send "
            "what must not be sent. End the old workers now."
        ) % {"features": ", ".join(features)}
    else:
        text = _("During an upgrade this is right. When the last old worker has ended, use the new features.")
    yield Problem("workers", "", "", "", None, title, text, is_failure=bool(features))


def find_unbuilt_indexes(using: str) -> Iterator[Problem]:
    """Yield the indexes that are not built yet. It reads the catalogue, so a health view does not call it."""
    if names := [index.name for index in unbuilt_indexes(using)]:
        title = ngettext(
            "%(count)s index is not built yet", "%(count)s indexes are not built yet", len(names)
        )
        text = _("Missing: %(names)s. Some pages and searches are slow until then. Run %(command)s.") % {
            "names": ", ".join(names),
            "command": f"`manage.py outbox_indexes --database {using}`",
        }
        yield Problem("indexes", "", "", "", None, title % {"count": len(names)}, text, is_failure=False)


def _blocked_workspaces(using: str) -> Iterator[Problem]:
    rows = OutboxWorkspace.objects.using(using).filter(pk__in=list(get_settings().workspaces))
    is_first_failure = Q(state__in=SHORT, failures__lt=MIN_FAILURES)
    is_blocked = ~Q(state=WorkspaceState.ACTIVE) & ~is_first_failure
    blocked = rows.filter(is_blocked | Q(key_pool__isnull=False)).order_by("pk")
    listed = list(blocked.defer("run_queue", "arrival_rates"))
    since = _begin_of_incidents(using) if listed else {}
    for row in listed:
        if row.state == WorkspaceState.ACTIVE:
            yield from _blocked_keys(row)
            continue
        title = _("Workspace %(name)s: %(state)s") % {"name": row.pk, "state": row.get_state_display()}
        is_failure = row.state not in SHORT
        explanation = explain_workspace(row)
        yield Problem("workspace", row.pk, row.pk, row.pk, since.get(row.pk), title, explanation, is_failure)


def _blocked_keys(row: OutboxWorkspace) -> Iterator[Problem]:
    if sentences := list(explain_blocked_keys(row)):
        title = _("Workspace %(name)s: an API key cannot be used") % {"name": row.pk}
        yield Problem("workspace", row.pk, row.pk, row.pk, None, title, " ".join(sentences), is_failure=False)


def _begin_of_incidents(using: str) -> dict[str, datetime]:
    rows = OutboxIncident.objects.using(using).open().filter(kind=IncidentKind.WORKSPACE)
    return dict(rows.values_list("workspace", "started_at"))


def _invalid_workspaces() -> Iterator[Problem]:
    """Yield what is wrong with the result of the function of ``WORKSPACES``."""
    for name, wrong in get_settings().workspace_problems.items():
        title = (
            _("The settings of workspace %(name)s are not valid") % {"name": clean_text(name, 64)}
            if name
            else _("The function of WORKSPACES failed")
        )
        yield Problem("workspace", clean_text(name, 64), clean_text(name, 64), "", None, title, str(wrong))


def _unknown_workspaces(using: str) -> Iterator[Problem]:
    for name, rows in missing_workspaces(using).items():
        title = _("Workspace %(name)s is not in the settings") % {"name": name}
        explanation = _(
            "Its records wait: %(pending)s pending records and %(batches)s open batches. Put it back into WORKSPACES, "
            "or discard them: %(command)s."
        ) % {
            "pending": f"{rows['pending']:,}",
            "batches": f"{rows['open_batches']:,}",
            "command": f"`manage.py outbox_discard --workspace {name}`",
        }
        yield Problem("workspace", name, name, "", None, title, explanation)


def _paused_groups(using: str) -> Iterator[Problem]:
    contracts = {name: workspace.contract for name, workspace in get_settings().workspaces.items()}
    rows = OutboxGroup.objects.using(using).exclude(state__in=(GroupState.SUSPECTED, GroupState.CLEARED))
    for row in rows.filter(workspace__in=list(contracts)).order_by("since", "pk")[:MAX_GROUPS]:
        if row.state == GroupState.PAUSED and row.contract != contracts[row.workspace]:
            continue  # the pause ends, because the contract has changed
        title = _("Group %(name)s: %(state)s") % {"name": row, "state": row.get_state_display()}
        yield Problem("group", row.workspace, str(row), row.pk, row.since, title, explain_group(row))


def _old_records(using: str, limit: float) -> Iterator[Problem]:
    now = database_now(using)
    for name in sorted(find_waiting_work(using).pending & get_settings().workspaces.keys()):
        oldest = next(iter(oldest_of_groups(using, name)), None)
        if oldest is None or (now - oldest.enqueued_at).total_seconds() <= limit:
            continue
        group = f"{oldest.type} · {oldest.product_id}"
        values = {"name": name, "limit": f"{limit:,.0f}", "group": group}
        title = _("Records of workspace %(name)s wait for more than %(limit)s s") % values
        explanation = _(
            "The record that waits longest belongs to the group %(group)s. If nothing is blocked, the backlog shrinks "
            "as fast as the rate limit allows."
        )
        since = oldest.enqueued_at + timedelta(seconds=limit)
        yield Problem("lag", name, group, name, since, title, explanation % values)


def _active_rules(using: str) -> Iterator[Problem]:
    """Yield the standing rules: a person wanted them, and should know that they still apply."""
    for row in OutboxRule.objects.using(using).active().order_by("pk")[:MAX_RULES]:
        title, explanation = describe_rule_title(row), explain_rule(row)
        yield Problem("rule", row.workspace, str(row), str(row.pk), row.created_at, title, explanation, False)


def _rejected_records(using: str, hidden: Collection[str]) -> Iterator[Problem]:
    rows = OutboxRecord.rows.using(using).rejected().exclude(workspace__in=hidden).order_by().values("pk")
    count = rows[: MAX_COUNTED + 1].count()
    if not count:
        return
    number = f"{MAX_COUNTED:,}+" if count > MAX_COUNTED else f"{count:,}"
    title = ngettext("%(number)s record is rejected", "%(number)s records are rejected", count)
    explanation = ngettext(
        "It waits for a decision: correct the cause and retry it, or discard it.",
        "They wait for a decision: correct the cause and retry them, or discard them.",
        count,
    )
    yield Problem("rejections", "", "", "", None, title % {"number": number}, explanation, is_failure=False)

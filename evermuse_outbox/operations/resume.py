"""Pause and resume by hand: a person holds a workspace or a group, or lets it send again before its next probe."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.utils import timezone, translation
from django.utils.translation import gettext as _

from ..conf import get_settings
from ..delivery.context import Clock, open_throttle
from ..delivery.gates import withdraw_batches
from ..foreign_text import summarise_error
from ..models import (
    ActionKind,
    Decision,
    KeyPool,
    OutboxAction,
    OutboxBatch,
    OutboxGroup,
    OutboxWorkspace,
    WorkspaceState,
    group_key,
    process_user,
    unblock_keys,
)
from ..ratelimit import ThrottleUnavailable
from .refusal import NotPossible


@dataclass(frozen=True, slots=True)
class Resumed:
    """What a resume changed.

    Attributes:
        was: the former state in words.
        because: the reason of the former state.
    """

    was: str
    because: str


def resume_workspace(
    using: str, name: str, *, by: str = "", reason: str = "", force: bool = False, clock: Clock | None = None
) -> Resumed | None:
    """Make a workspace active, and make its waiting batches due. So the next request is sent at once.

    Args:
        using: database alias.
        name: name of the workspace.
        by: name of the person who decided it; empty for the user of this process.
        reason: why, in the person's words.
        force: end the ``retryAfter`` of a 429, too, in the row and in the throttle of the API key.
        clock: the clock; by default the database's.

    Return None if the workspace is active already.

    Raises:
        NotPossible: The workspace is throttled or restored, and this must not end it.
    """
    now = (clock or Clock.of(using)).now()
    rows = OutboxWorkspace.objects.using(using)
    row = rows.defer("run_queue", "arrival_rates").filter(pk=name).first()
    if row and row.state == WorkspaceState.RESTORED:
        raise NotPossible(
            _(
                "Workspace %(workspace)s stays held, because its database was restored. Compare it with Evermuse, and "
                "release it: %(command)s"
            )
            % {"workspace": name, "command": f"`manage.py outbox_reconcile --workspace {name} --release`"}
        )
    if force:
        _unblock_throttle(name)
    has_blocked_keys = row is not None and bool(KeyPool.of(row).blocks)
    if row is None or (row.state == WorkspaceState.ACTIVE and not force and not has_blocked_keys):
        return None
    with transaction.atomic(using=using):
        is_released = rows.end_hold(name, now)
        is_resumed = rows.force_resume(name) if force else (is_released or rows.resume(name, now))
        if has_blocked_keys:
            is_resumed = unblock_keys(rows, name, force=force) or is_resumed
        if not is_resumed and not force:
            row.refresh_from_db(using=using, fields=["state", "blocked_until"])
            if row.state == WorkspaceState.ACTIVE:
                return None
            raise NotPossible(_why_still_throttled(name, row.blocked_until))
        OutboxBatch.objects.using(using).filter(workspace=name).send_now(now)
        was = _in_english(row)
        OutboxAction.objects.using(using).log(
            ActionKind.FORCE_RESUME if force else ActionKind.RESUME,
            Decision(by, reason),
            workspace=name,
            target=f"workspace {name}",
            result=f"It was {was}. {row.reason}".strip(),
        )
    return Resumed(was, row.reason)


def resume_group(using: str, group: OutboxGroup, *, by: str = "", reason: str = "") -> Resumed | None:
    """Forget what was counted of a group, so that its records are sealed as usual. Return None if it has no row now."""
    with transaction.atomic(using=using):
        if not OutboxGroup.objects.using(using).filter(pk=group.pk).resume():
            return None
        was, because = _in_english(group), group.reason or group.error_signature
        OutboxAction.objects.using(using).log(
            ActionKind.RESUME,
            Decision(by, reason),
            workspace=group.workspace,
            target=f"group {group}",
            result=f"It was {was}. {because}",
        )
    return Resumed(was, because)


def pause_workspace(
    using: str, name: str, *, by: str = "", reason: str = "", clock: Clock | None = None
) -> None:
    """Hold a workspace: nothing is sent and no probe is made until a person resumes it. Accepted batches are polled.

    Args:
        using: database alias.
        name: name of the workspace.
        by: name of the person who decided it; empty for the user of this process.
        reason: why, in the person's words.
        clock: the clock; by default the database's.

    Raises:
        NotPossible: It is held already, or its database was restored.
    """
    now, rows = (clock or Clock.of(using)).now(), OutboxWorkspace.objects.using(using)
    with transaction.atomic(using=using):
        if not rows.hold(name, now, by or process_user(), reason):
            state = rows.get(pk=name).get_state_display()
            text = _(
                "Workspace %(workspace)s is %(state)s already, and sends nothing until a person decides."
            )
            raise NotPossible(text % {"workspace": name, "state": state})
        _log_pause(using, name, f"workspace {name}", Decision(by, reason))


def pause_group(
    using: str,
    workspace: str,
    group: tuple[str, str],
    *,
    by: str = "",
    reason: str = "",
    clock: Clock | None = None,
) -> OutboxGroup:
    """Hold a group: none of its records are sealed or sent until a person resumes it. Return its row.

    Records of sealed batches become pending again. A batch in doubt stays as it is, and is not sent again meanwhile. A
    request that is under way ends as usual.

    Args:
        using: database alias.
        workspace: name of the workspace.
        group: the ``_type`` and the ``_product_id`` of the group.
        by: name of the person who decided it; empty for the user of this process.
        reason: why, in the person's words.
        clock: the clock; by default the database's.

    Raises:
        NotPossible: It is held already.
    """
    now = (clock or Clock.of(using)).now()
    row = OutboxGroup(
        scope=group_key(workspace, *group),
        workspace=workspace,
        type=group[0],
        product_id=group[1],
        since=now,
        reason=reason,
        held_by=by or process_user(),
    )
    with transaction.atomic(using=using):
        OutboxWorkspace.objects.using(using).lock_for_sealing(workspace)
        if not OutboxGroup.objects.using(using).hold(row):
            text = _("Group %(group)s of workspace %(workspace)s is held already.")
            raise NotPossible(text % {"group": row, "workspace": workspace})
        withdraw_batches(using, row, now)
        _log_pause(using, workspace, f"group {row}", Decision(by, reason))
    return row


def _log_pause(using: str, workspace: str, target: str, decision: Decision) -> None:
    OutboxAction.objects.using(using).log(ActionKind.PAUSE, decision, workspace=workspace, target=target)


def _unblock_throttle(name: str) -> None:
    settings = get_settings()
    try:
        for workspace in settings.workspace(name).with_keys():
            open_throttle(workspace, settings).unblock()
    except ThrottleUnavailable as error:
        text = _("%(error)s. Nothing was changed; try again when it answers.")
        raise NotPossible(text % {"error": summarise_error(error)}) from error


def _why_still_throttled(name: str, until: datetime | None) -> str:
    at = timezone.localtime(until) if until and timezone.is_aware(until) else until
    text = _(
        "Workspace %(workspace)s stays throttled until %(time)s, because Evermuse sent a retryAfter. "
        "To end it now: %(command)s"
    )
    command = f"`manage.py outbox_resume --workspace {name} --force`"
    return text % {"workspace": name, "time": f"{at:%Y-%m-%d %H:%M:%S %Z}", "command": command}


def _in_english(row: OutboxWorkspace | OutboxGroup) -> str:
    """Return the state of a row as the log of actions keeps it, independent of the language of a person."""
    with translation.override(None):
        return str(row.get_state_display())

"""Explain in a few sentences why a row is in its state, and what happens next.

Each sentence is translated as a unit. Commands, and texts that a worker or Evermuse wrote, are inserted unchanged.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from django.db import DEFAULT_DB_ALIAS
from django.db.models import Q, QuerySet
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from ...conf import Workspace, get_settings
from ...database_clock import database_now
from ...delivery.isolation import IsolationTest
from ...delivery.scheduling import lingers_until
from ...models import (
    ALTERED,
    BatchState,
    GroupState,
    OutboxBatch,
    OutboxGroup,
    OutboxRecord,
    OutboxRejection,
    OutboxWorkspace,
    RecordState,
    WorkspaceState,
)
from ...monitoring import worker_silence
from .attachments import explain_attachments
from .deferral import explain_deferred, explain_expiry, explain_wait_for_newer
from .keys import explain_blocked_keys, explain_wait_for_key
from .rules import explain_discarded
from .text import join, sentence
from .times import format_time

START_WORKER = {"celery": "`celery worker`", "relay": "`manage.py outbox_relay`"}
"""Commands that start a worker."""


def explain_record(record: OutboxRecord) -> str:
    """Return why a record is in its state, and what happens next. This costs a few small queries."""
    match record.state:
        case RecordState.PENDING:
            return join(_explain_pending(record), explain_expiry(record))
        case RecordState.IN_FLIGHT if batch := record.read_batch():
            return join(_("In batch #%(batch)s.") % {"batch": batch.pk}, explain_batch(batch))
        case RecordState.DELIVERED if batch := record.read_batch():
            values = {"batch": batch.pk, "time": format_time(batch.finished_at)}
            text = _("Delivered with batch #%(batch)s; Evermuse completed it at %(time)s.") % values
            return join(text, explain_attachments(record))
        case RecordState.REJECTED:
            return _explain_rejected(record)
        case RecordState.SUPERSEDED:
            return _explain_superseded(record)
        case RecordState.SCHEDULED | RecordState.HELD:
            return explain_deferred(record)
        case RecordState.EXPIRED:
            return _("It was in no batch when it expired, so it will not be sent.")
        case _other:
            return explain_discarded(record)


def explain_batch(batch: OutboxBatch) -> str:
    """Return why a batch is in its state, and what happens next."""
    match batch.state:
        case BatchState.SEALED | BatchState.IN_DOUBT:
            return _explain_unsent(batch)
        case BatchState.SENDING:
            return _(
                "A worker is sending it or waits for a permit of the rate limit; its lease ends at %(time)s. "
                "After that, another worker sends it."
            ) % {"time": format_time(batch.leased_until)}
        case BatchState.ACCEPTED:
            return _explain_accepted(batch)
        case BatchState.COMPLETE:
            return _explain_complete(batch)
        case BatchState.REFUSED:
            return join(_("Evermuse refused it."), batch.message)
        case BatchState.SPLIT:
            return _explain_split(batch)
        case BatchState.ISOLATING:
            return _explain_isolating(batch)
        case BatchState.WITHDRAWN:
            return join(_("Withdrawn: it will not be sent."), batch.message)
        case _other:
            return _explain_failed(batch)


def explain_workspace(row: OutboxWorkspace) -> str:
    """Return "Active.", or why and until when the workspace does not send."""
    if row.state == WorkspaceState.ACTIVE:
        return join(_("Active."), *explain_blocked_keys(row))
    values = {
        "state": capfirst(row.get_state_display()),
        "until": format_time(row.blocked_until),
        "reason": sentence(row.reason),
    }
    if row.state == WorkspaceState.HELD:
        return _explain_hold(
            row, format_time(row.held_at), f"`manage.py outbox_resume --workspace {shlex.quote(row.pk)}`"
        )
    if row.state == WorkspaceState.RESTORED:
        return _("%(state)s. %(reason)s") % values
    if row.blocked_until is None:
        text = _("%(state)s because: %(reason)s The next worker tries again.")
    elif row.state == WorkspaceState.NO_CREDITS:
        text = _(
            "%(state)s: %(reason)s Buy credits at Evermuse. A request at %(until)s shows whether there are "
            "credits again."
        )
    else:
        text = _("%(state)s until %(until)s because: %(reason)s Then it is tried again.")
    return join(text % values, *explain_blocked_keys(row), _how_to_resume(row))


def _how_to_resume(row: OutboxWorkspace) -> str:
    force = " --force" if row.state == WorkspaceState.THROTTLED else ""
    return _("To try it now: %(command)s.") % {
        "command": f"`manage.py outbox_resume --workspace {row.pk}{force}`"
    }


def explain_group(row: OutboxGroup) -> str:
    """Return what Evermuse refused in a group, what happens next, and what an operator can do."""
    since, error = format_time(row.since), sentence(row.error_signature)
    if row.state == GroupState.SUSPECTED:
        text = _(
            "Batches refused in a row with the same error since %(time)s: %(batches)s. If this continues and no record "
            "is accepted, the group is paused."
        )
        return join(text % {"time": since, "batches": row.batches}, error)
    if row.state == GroupState.CLEARED:
        text = _(
            "Active again since %(time)s, when Evermuse accepted a record. Records that are still refused with this "
            "error are rejected one by one."
        )
        return join(text % {"time": since}, error)
    command = f"`manage.py outbox_resume --group {_quoted(row)} --workspace {row.workspace}`"
    if row.state == GroupState.HELD:
        return _explain_hold(row, since, command)
    return join(
        _("Paused because Evermuse has refused every record with the same error since %(time)s.")
        % {"time": since},
        sentence(row.reason),
        row.advice,
        _("The next record is tried at %(time)s.") % {"time": format_time(row.blocked_until)},
        _("To end the pause now: %(command)s.") % {"command": command},
    )


def _explain_hold(row: OutboxWorkspace | OutboxGroup, since: str, command: str) -> str:
    """Return which person holds a workspace or a group, since when and why, and how to end it."""
    values = {"by": row.held_by, "time": since, "reason": sentence(row.reason or _("No reason was given"))}
    return join(
        _("Held by %(by)s since %(time)s. Reason: %(reason)s") % values,
        _("Nothing is sent until a person resumes it: %(command)s.") % {"command": command},
    )


def _explain_held_group(batch: OutboxBatch) -> str:
    """Return the explanation of the group of a batch if a person holds it; otherwise an empty text."""
    rows = OutboxGroup.objects.using(batch._state.db)
    group = (
        rows.for_group(batch.workspace, batch.type, batch.product_id).filter(state=GroupState.HELD).first()
    )
    return join(_("Waiting, because its group is paused."), explain_group(group)) if group else ""


def _explain_pending(record: OutboxRecord) -> str:
    settings, using = get_settings(), record._state.db or DEFAULT_DB_ALIAS
    if record.workspace not in settings.workspaces:
        return _explain_unknown_workspace(record)
    if workspace := _explain_blocked_workspace(record):
        return workspace
    group = (record.type, record.product_id)
    contract = settings.workspace(record.workspace).contract  # the pause ends if the contract changes
    is_paused = Q(state=GroupState.PAUSED, contract=contract) | Q(state=GroupState.HELD)
    row = OutboxGroup.objects.using(using).for_group(record.workspace, *group).filter(is_paused).first()
    if row:
        return join(_("Waiting, because its group is paused."), explain_group(row))
    if blocker := _batch_with_older_version(record):
        return _(
            "Waiting for batch #%(batch)s, which contains an older version of the same record. "
            "It is sent when that batch has ended. To see why that batch waits: %(command)s."
        ) % {"batch": blocker.pk, "command": f"`manage.py outbox_batch {blocker.pk}`"}
    if wait := explain_wait_for_newer(record):
        return wait
    now = database_now(using)
    until = lingers_until(using, record.workspace, {group: record.enqueued_at}, now, settings.linger)[group]
    if until > now:
        text = _("Waiting until %(time)s for other records of its group (LINGER).")
        return text % {"time": format_time(until)}
    ready = _("Ready to send: the workers send as fast as the rate limit of the API key allows.")
    return explain_missing_workers(using) or join(ready, _explain_order(settings.workspace(record.workspace)))


def _explain_order(workspace: Workspace) -> str:
    """Return which records of a group go first, if the settings change it; an empty text if the oldest do."""
    shares = _("The values of the label %(label)s share the requests of its group (FAIR_SHARES).")
    newest = _("While the oldest records of its group wait too long, its newest go first (NEWEST_FIRST).")
    fair = shares % {"label": workspace.fair_shares.label} if workspace.fair_shares else ""
    return join(fair, newest if workspace.newest_first else "")


def explain_missing_workers(using: str | None) -> str:
    """Return that no worker runs; an empty text if one was seen lately."""
    silence = worker_silence(using or DEFAULT_DB_ALIAS)
    if not silence.is_missing:
        return ""
    start = _("Start one: %(celery)s with beat, or %(relay)s.") % START_WORKER
    if silence.last_seen_at is None:
        return join(_("Waiting for a worker: no worker was ever seen."), start)
    seen = {"time": format_time(silence.last_seen_at)}
    return join(_("Waiting for a worker: no worker was seen since %(time)s.") % seen, start)


def _explain_unknown_workspace(record: OutboxRecord) -> str:
    return _(
        "Waiting: the settings have no workspace %(workspace)s, so no worker sends this record. "
        "It is sent when WORKSPACES has that workspace again. To discard what waits: %(command)s."
    ) % {
        "workspace": repr(record.workspace),
        "command": f"`manage.py outbox_discard --workspace {record.workspace}`",
    }


def _explain_blocked_workspace(row: OutboxRecord | OutboxBatch) -> str:
    """Return that the workspace of a row does not send, and why; an empty text if it is active."""
    workspace = (
        OutboxWorkspace.objects.using(row._state.db)
        .filter(pk=row.workspace)
        .exclude(state=WorkspaceState.ACTIVE)
        .first()
    )
    if workspace is None:
        return ""
    return join(_("Waiting, because its workspace does not send."), explain_workspace(workspace))


def _batch_with_older_version(record: OutboxRecord) -> OutboxBatch | None:
    """Return the unfinished batch with an older version of a record, for which the record must wait."""
    row = OutboxRecord.rows.using(record._state.db).filter(pk=record.pk).with_versions().first()
    open_batches = OutboxBatch.objects.using(record._state.db).open()
    return open_batches.filter(pk=row.older_batch).first() if row and row.older_batch else None


def _explain_rejected(record: OutboxRecord) -> str:
    rejection = _rejections_of(record).order_by("-pk").first()
    advice = _("Correct the cause, then retry it.")
    if rejection is None:
        return join(_("Rejected; no reason was recorded."), advice)
    if rejection.code == ALTERED:
        advice = _("A retry does not help: enqueue the record again, or edit it.")
    values = {"batch": rejection.batch_id, "time": format_time(rejection.rejected_at)}
    text = (
        _("Rejected in batch #%(batch)s at %(time)s.") if rejection.batch_id else _("Rejected at %(time)s.")
    )
    error = sentence(f"{rejection.code}: {rejection.message}")
    return join(text % values, error, *_explain_older_versions(record), advice)


def _rejections_of(record: OutboxRecord) -> QuerySet[OutboxRejection]:
    return OutboxRejection.objects.using(record._state.db).filter(record=record.pk)


def _explain_older_versions(record: OutboxRecord) -> Iterator[str]:
    """Yield which older version will not be sent, and which one Evermuse still has."""
    older = OutboxRecord.rows.using(record._state.db).filter(identity=record.identity, pk__lt=record.pk)
    if superseded := older.filter(closed_as=RecordState.SUPERSEDED).order_by("-pk").first():
        yield _("The older version, record #%(record)s, was superseded and is not sent either.") % {
            "record": superseded.pk
        }
    if delivered := older.delivered().order_by("-pk").first():
        yield _("Evermuse still has an older version, record #%(record)s.") % {"record": delivered.pk}


def _explain_superseded(record: OutboxRecord) -> str:
    values = {"record": record.superseded_by}
    text = _("Superseded by a newer version, record #%(record)s.") % values
    if _rejections_of(record).exists():
        text = (
            _("It was rejected, and a newer version corrected it: record #%(record)s. Nothing is left to do.")
            % values
        )
    newer = OutboxRecord.rows.using(record._state.db).filter(identity=record.identity, pk__gt=record.pk)
    latest = newer.exclude(closed_as=RecordState.SUPERSEDED).order_by("-pk").first()
    if latest is None or latest.closed_as != RecordState.REJECTED:
        return text
    advice = _(
        "The latest version, record #%(record)s, was rejected: correct the cause and retry that record."
    )
    return join(text, advice % {"record": latest.pk})


def _explain_isolating(batch: OutboxBatch) -> str:
    test = IsolationTest.from_json(batch.isolation)
    part = OutboxBatch.objects.using(batch._state.db).filter(parent=batch.pk).order_by("-pk").first()
    tried = _("Batch #%(batch)s is tried now, and the other records wait here.")
    return join(
        _(
            "Evermuse refused it without naming the bad records, so its records are tried in smaller batches. "
            "Found bad so far: %(bad)s; accepted: %(good)s."
        )
        % {"bad": test.bad, "good": test.good},
        tried % {"batch": part.pk} if part else "",
        sentence(batch.message),
        _how_to_end(batch, "--retry-now", "--give-up"),
    )


def _explain_unsent(batch: OutboxBatch) -> str:
    doubt = _("Evermuse may have it already, so it is sent again with the same key and the same bytes.")
    last = _("Last attempt: %(message)s") % {"message": sentence(batch.message)}
    options = ("--retry-now", *(("--isolate",) if batch.record_count > 1 else ()), "--give-up")
    has_waited = batch.in_doubt or batch.failures
    return join(
        doubt if batch.in_doubt else "",
        explain_wait_for_key(batch),
        _explain_next_attempt(batch),
        last if batch.message else "",
        _how_to_end(batch, *options) if has_waited else "",
    )


def _how_to_end(batch: OutboxBatch, *options: str) -> str:
    """Return the command that ends the wait of a batch by hand."""
    return _("To end the wait by hand: %(command)s.") % {
        "command": f"`manage.py outbox_batch {batch.pk} {' | '.join(options)}`"
    }


def _quoted(row: OutboxGroup) -> str:
    """Return the type and the product of a group as arguments of a shell."""
    return f"{shlex.quote(row.type)} {shlex.quote(row.product_id)}"


def _explain_next_attempt(batch: OutboxBatch) -> str:
    if blocked := _explain_blocked_workspace(batch) or _explain_held_group(batch):
        return blocked
    at = {"time": format_time(batch.due_at)}
    if batch.due_at > database_now(batch._state.db):
        return _("To be sent at %(time)s.") % at
    if missing := explain_missing_workers(batch._state.db):
        return join(_("Due since %(time)s.") % at, missing)
    return _("Due since %(time)s: the workers send as fast as the rate limit of the API key allows.") % at


def _explain_accepted(batch: OutboxBatch) -> str:
    values = {"id": batch.remote_id, "state": batch.remote_status, "time": format_time(batch.next_poll_at)}
    if batch.remote_status:
        text = _("Evermuse accepted it as %(id)s and reports %(state)s; the next poll is at %(time)s.")
    else:
        text = _("Evermuse accepted it as %(id)s and reports no state yet; the next poll is at %(time)s.")
    message = sentence(batch.message) if batch.message else ""
    return join(text % values, message, _how_to_end(batch, "--retry-now", "--give-up"))


def _explain_complete(batch: OutboxBatch) -> str:
    text = _("Evermuse completed it at %(time)s.") % {"time": format_time(batch.finished_at)}
    if not batch.attachment_status:
        return text
    attachments = _("Attachments: %(state)s, %(complete)s of %(total)s fetched, %(failed)s failed.") % {
        "state": batch.attachment_status,
        "complete": batch.attachment_complete or 0,
        "total": batch.attachment_total or 0,
        "failed": batch.attachment_failed or 0,
    }
    return join(text, attachments)


def _explain_split(batch: OutboxBatch) -> str:
    if parts := _parts_of(batch):
        text = _("Its records that were neither rejected nor removed are in %(batches)s.")
    else:
        text = _("Its records that were neither rejected nor removed are in no other batch.")
    return join(text % {"batches": parts}, batch.message)


def _explain_failed(batch: OutboxBatch) -> str:
    if parts := _parts_of(batch):
        then = _("Sent again under a new key as %(batches)s.") % {"batches": parts}
    else:
        then = _("To send its records again, retry them.")
    return join(sentence(batch.message or _("Failed")), then)


def _parts_of(batch: OutboxBatch) -> str:
    """Return the numbers of the later batches with records of this batch."""
    parts = OutboxBatch.objects.using(batch._state.db).filter(parent=batch.pk)
    return ", ".join(f"#{pk}" for pk in parts.values_list("pk", flat=True))

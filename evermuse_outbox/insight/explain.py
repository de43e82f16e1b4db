"""Explain in a few sentences why a row is in its state, and what happens next."""

from __future__ import annotations

import shlex
from datetime import datetime, timedelta

from django.utils import timezone

from ..conf import get_settings
from ..database_clock import database_now
from ..delivery.isolation import IsolationTest
from ..models import (
    BatchState,
    GroupState,
    OutboxBatch,
    OutboxGroup,
    OutboxRecord,
    OutboxWorkspace,
    RecordState,
    WorkspaceState,
)

AS_FAST_AS_ALLOWED = "the workers send as fast as the rate limit of the API key allows"
AFTER_CORRECTION = "Correct the cause, then retry it."


def explain_record(record: OutboxRecord) -> str:
    """Return why a record is in its state, and what happens next. This costs a few small queries."""
    match record.state:
        case RecordState.PENDING:
            return _explain_pending(record)
        case RecordState.IN_FLIGHT if record.batch:
            return f"In batch #{record.batch.pk}. {explain_batch(record.batch)}"
        case RecordState.DELIVERED if record.batch:
            finished_at = format_time(record.batch.finished_at)
            return f"Delivered with batch #{record.batch.pk}; Evermuse completed it at {finished_at}."
        case RecordState.REJECTED:
            return _explain_rejected(record)
        case RecordState.SUPERSEDED:
            return _explain_superseded(record)
        case _:
            return "Discarded by an operator; it will not be sent."


def explain_batch(batch: OutboxBatch) -> str:
    """Return why a batch is in its state, and what happens next."""
    match batch.state:
        case BatchState.SEALED | BatchState.IN_DOUBT:
            return _explain_unsent(batch)
        case BatchState.SENDING:
            until = format_time(batch.leased_until)
            return (
                f"A worker is sending it or waits for a permit of the rate limit; its lease ends at {until}. "
                "After that, another worker sends it."
            )
        case BatchState.ACCEPTED:
            state, next_poll = batch.remote_status or "no state yet", format_time(batch.next_poll_at)
            text = f"Evermuse accepted it as {batch.remote_id} and reports {state}; the next poll is at {next_poll}."
            text = f"{text} {_sentence(batch.message)}" if batch.message else text
            return f"{text} {_exits(batch, '--retry-now', '--give-up')}"
        case BatchState.COMPLETE:
            return _explain_complete(batch)
        case BatchState.REFUSED:
            return f"Evermuse refused it. {batch.message}".strip()
        case BatchState.SPLIT:
            parts = _parts_of(batch) or "no other batch"
            rest = f"Its records that were neither rejected nor removed are in {parts}."
            return f"{rest} {batch.message}".strip()
        case BatchState.ISOLATING:
            return _explain_isolating(batch)
        case BatchState.WITHDRAWN:
            return f"Withdrawn: it will not be sent. {batch.message}".strip()
        case _:
            return _explain_failed(batch)


def explain_workspace(row: OutboxWorkspace) -> str:
    """Return "Active.", or why and until when the workspace does not send."""
    if row.state == WorkspaceState.ACTIVE:
        return "Active."
    state = row.get_state_display().capitalize()
    if row.state == WorkspaceState.RESTORED:
        return f"{state}. {_sentence(row.reason)}"
    force = " --force" if row.state == WorkspaceState.THROTTLED else ""
    command = f"To try it now: `manage.py outbox_resume --workspace {row.pk}{force}`."
    if row.blocked_until is None:
        return f"{state} because: {_sentence(row.reason)} The next worker tries again. {command}"
    until = format_time(row.blocked_until)
    if row.state == WorkspaceState.NO_CREDITS:
        return (
            f"{state}: {_sentence(row.reason)} Buy credits at Evermuse. A request at {until} shows whether "
            f"there are credits again. {command}"
        )
    return f"{state} until {until} because: {_sentence(row.reason)} Then it is tried again. {command}"


def explain_group(row: OutboxGroup) -> str:
    """Return what Evermuse refused in a group, what happens next, and what an operator can do."""
    since = format_time(row.since)
    if row.state == GroupState.SUSPECTED:
        return (
            f"Batches refused in a row with the same error since {since}: {row.batches}. If this continues and no "
            f"record is accepted, the group is paused. {_sentence(row.error_signature)}"
        )
    if row.state == GroupState.CLEARED:
        return (
            f"Active again since {since}, when Evermuse accepted a record. Records that are still refused with this "
            f"error are rejected one by one. {_sentence(row.error_signature)}"
        )
    return (
        f"Paused because Evermuse has refused every record with the same error since {since}. "
        f"{_sentence(row.reason)} {row.advice} The next record is tried at {format_time(row.blocked_until)}. "
        f"To end the pause now: `manage.py outbox_resume --group {_quoted(row)} --workspace {row.workspace}`."
    )


def _explain_pending(record: OutboxRecord) -> str:
    settings = get_settings()
    if record.workspace not in settings.workspaces:
        return (
            f"Waiting: the settings have no workspace {record.workspace!r}, so no worker sends this record. "
            "It is sent when WORKSPACES has that workspace again. "
            f"To discard what waits: `manage.py outbox_discard --workspace {record.workspace}`."
        )
    if workspace := _explain_blocked_workspace(record):
        return f"Waiting, because its workspace does not send. {workspace}"
    group = OutboxGroup.objects.using(record._state.db).for_group(
        record.workspace, record.type, record.product_id
    )
    contract = settings.workspace(record.workspace).contract  # the pause ends if the contract changes
    if paused := group.filter(state=GroupState.PAUSED, contract=contract).first():
        return f"Waiting, because its group is paused. {explain_group(paused)}"
    if blocker := _batch_with_older_version(record):
        return (
            f"Waiting for batch #{blocker.pk}, which contains an older version of the same record. "
            f"It is sent when that batch has ended. To see why that batch waits: `manage.py outbox_batch {blocker.pk}`."
        )
    lingers_until = record.enqueued_at + timedelta(seconds=settings.linger)
    if lingers_until > database_now(record._state.db):
        return f"Waiting until {format_time(lingers_until)} for other records of its group (LINGER)."
    return f"Ready to send: {AS_FAST_AS_ALLOWED}."


def _explain_blocked_workspace(row: OutboxRecord | OutboxBatch) -> str:
    """Return the explanation of the workspace of a row; an empty text if it is active."""
    workspace = (
        OutboxWorkspace.objects.using(row._state.db)
        .filter(pk=row.workspace)
        .exclude(state=WorkspaceState.ACTIVE)
        .first()
    )
    return explain_workspace(workspace) if workspace else ""


def _batch_with_older_version(record: OutboxRecord) -> OutboxBatch | None:
    """Return the unfinished batch with an older version of a record, for which the record must wait."""
    row = OutboxRecord.rows.using(record._state.db).filter(pk=record.pk).with_versions().first()
    batch_id = row.older_batch if row else None
    if not batch_id:
        return None
    return OutboxBatch.objects.using(record._state.db).open().filter(pk=batch_id).first()


def _explain_rejected(record: OutboxRecord) -> str:
    rejection = record.rejections.order_by("-pk").first()
    if rejection is None:
        return f"Rejected; no reason was recorded. {AFTER_CORRECTION}"
    where = f" in batch #{rejection.batch_id}" if rejection.batch_id else ""
    text = f"Rejected{where} at {format_time(rejection.rejected_at)}. {rejection.code}: {rejection.message}"
    return f"{_sentence(text)}{_explain_older_versions(record)} {AFTER_CORRECTION}"


def _explain_older_versions(record: OutboxRecord) -> str:
    """Return which older version will not be sent, and which one Evermuse still has."""
    older = OutboxRecord.rows.using(record._state.db).filter(identity=record.identity, pk__lt=record.pk)
    text = ""
    if superseded := older.filter(closed_as=RecordState.SUPERSEDED).order_by("-pk").first():
        text += f" The older version, record #{superseded.pk}, was superseded and is not sent either."
    if delivered := older.delivered().order_by("-pk").first():
        text += f" Evermuse still has an older version, record #{delivered.pk}."
    return text


def _explain_superseded(record: OutboxRecord) -> str:
    text = f"Superseded by a newer version, record #{record.superseded_by}."
    newer = OutboxRecord.rows.using(record._state.db).filter(identity=record.identity, pk__gt=record.pk)
    latest = newer.exclude(closed_as=RecordState.SUPERSEDED).order_by("-pk").first()
    if latest is None or latest.closed_as != RecordState.REJECTED:
        return text
    return f"{text} The latest version, record #{latest.pk}, was rejected: correct the cause and retry that record."


def _explain_isolating(batch: OutboxBatch) -> str:
    test = IsolationTest.from_json(batch.isolation)
    part = batch.parts.order_by("-pk").first()
    tried = f" Batch #{part.pk} is tried now, and the other records wait here." if part else ""
    return (
        "Evermuse refused it without naming the bad records, so its records are tried in smaller batches. "
        f"Found bad so far: {test.bad}; accepted: {test.good}.{tried} "
        f"{_sentence(batch.message)} {_exits(batch, '--retry-now', '--give-up')}"
    )


def _explain_unsent(batch: OutboxBatch) -> str:
    doubt = (
        "Evermuse may have it already, so it is sent again with the same key and the same bytes. "
        if batch.in_doubt
        else ""
    )
    last = f" Last attempt: {_sentence(batch.message)}" if batch.message else ""
    options = ("--retry-now", *(("--isolate",) if batch.record_count > 1 else ()), "--give-up")
    has_waited = batch.in_doubt or batch.failures
    exits = f" {_exits(batch, *options)}" if has_waited else ""
    return f"{doubt}{_explain_next_attempt(batch)}{last}{exits}"


def _exits(batch: OutboxBatch, *options: str) -> str:
    """Return the command that ends the wait of a batch by hand."""
    return f"To end the wait by hand: `manage.py outbox_batch {batch.pk} {' | '.join(options)}`."


def _quoted(row: OutboxGroup) -> str:
    """Return the type and the product of a group as arguments of a shell."""
    return f"{shlex.quote(row.type)} {shlex.quote(row.product_id)}"


def _explain_next_attempt(batch: OutboxBatch) -> str:
    if workspace := _explain_blocked_workspace(batch):
        return f"Waiting, because its workspace does not send. {workspace}"
    if batch.due_at > database_now(batch._state.db):
        return f"To be sent at {format_time(batch.due_at)}."
    return f"Due since {format_time(batch.due_at)}: {AS_FAST_AS_ALLOWED}."


def _explain_complete(batch: OutboxBatch) -> str:
    text = f"Evermuse completed it at {format_time(batch.finished_at)}."
    if not batch.attachment_status:
        return text
    return (
        f"{text} Attachments: {batch.attachment_status}, {batch.attachment_complete or 0} of "
        f"{batch.attachment_total or 0} fetched, {batch.attachment_failed or 0} failed."
    )


def _explain_failed(batch: OutboxBatch) -> str:
    parts = _parts_of(batch)
    then = f"Sent again under a new key as {parts}." if parts else "To send its records again, retry them."
    return f"{_sentence(batch.message or 'Failed')} {then}"


def _parts_of(batch: OutboxBatch) -> str:
    """Return the numbers of the later batches with records of this batch."""
    return ", ".join(f"#{pk}" for pk in batch.parts.values_list("pk", flat=True))


def _sentence(text: str) -> str:
    """Return ``text`` with a full stop."""
    return text if text.endswith((".", "!", "?")) else f"{text}."


def to_local_time(at: datetime) -> datetime:
    """Return ``at`` in the current time zone; unchanged if the project has none (``USE_TZ = False``)."""
    return timezone.localtime(at) if timezone.is_aware(at) else at


def format_time(at: datetime | None) -> str:
    """Return a time as operators read it: in the current time zone and in whole seconds."""
    return f"{to_local_time(at):%Y-%m-%d %H:%M:%S %Z}".strip() if at else "no known time"

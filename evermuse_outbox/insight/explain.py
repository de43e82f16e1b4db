"""Why a record or a batch is where it is, in a sentence for a person."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.utils import timezone

from ..conf import get_settings
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


def explain_record(record: OutboxRecord) -> str:
    """What is happening to ``record`` and why. A handful of small queries; for one row at a time."""
    match record.state:
        case RecordState.PENDING:
            return _pending(record)
        case RecordState.IN_FLIGHT if record.batch:
            return f"In batch #{record.batch.pk}. {explain_batch(record.batch)}"
        case RecordState.DELIVERED if record.batch:
            done_at = _at(record.batch.finished_at)
            return f"Delivered with batch #{record.batch.pk}; Evermuse completed it at {done_at}."
        case RecordState.REJECTED:
            return _rejected(record)
        case RecordState.SUPERSEDED:
            return _superseded(record)
        case _:
            return "Discarded by a person; it will not be sent."


def explain_batch(batch: OutboxBatch) -> str:
    """What is happening to ``batch`` and why."""
    match batch.state:
        case BatchState.SEALED | BatchState.IN_DOUBT:
            return _sendable(batch)
        case BatchState.SENDING:
            until = _at(batch.leased_until)
            return f"A worker is sending it, or waits for its slot; its lease runs until {until}."
        case BatchState.ACCEPTED:
            said = batch.remote_status or "nothing yet"
            again = _at(batch.next_poll_at)
            told = f"Evermuse has it as {batch.remote_id} and says {said}; asked again at {again}."
            return f"{told} {_sentence(batch.message)}" if batch.message else told
        case BatchState.COMPLETE:
            return _complete(batch)
        case BatchState.REFUSED:
            return f"Evermuse refused all of it. {batch.message}".strip()
        case BatchState.SPLIT:
            parts = ", ".join(f"#{pk}" for pk in batch.parts.values_list("pk", flat=True))
            return f"Refused in part; the others went on in {parts or 'no batch'}. {batch.message}".strip()
        case BatchState.ISOLATING:
            return _isolating(batch)
        case BatchState.WITHDRAWN:
            return f"Withdrawn: it will not be sent. {batch.message}".strip()
        case _:
            return _failed(batch)


def explain_workspace(row: OutboxWorkspace) -> str:
    """What holds the workspace back, if anything."""
    if row.state == WorkspaceState.ACTIVE:
        return "Open."
    until = f"until {_at(row.blocked_until)}, then it is tried again" if row.blocked_until else "for now"
    return f"{row.get_state_display().capitalize()} {until}: {row.reason}"


def explain_group(row: OutboxGroup) -> str:
    """What is held against a group, and how to go on."""
    if row.state == GroupState.SUSPECTED:
        return (
            f"Batches refused alike in a row since {_at(row.since)}: {row.batches}. More of the same, with no record "
            f"accepted, will pause the group. {_sentence(row.error_signature)}"
        )
    if row.state == GroupState.CLEARED:
        return (
            f"Out of trouble since {_at(row.since)}, when a record of it was accepted. What is still refused alike "
            f"is rejected record by record. {_sentence(row.error_signature)}"
        )
    return (
        f"Paused, as everything is refused alike since {_at(row.since)}. {_sentence(row.reason)} {row.advice} "
        f"The next record is tried at {_at(row.blocked_until)}."
    )


def _pending(record: OutboxRecord) -> str:
    if record.workspace not in get_settings().workspaces:
        return f"Waiting: the settings know no workspace {record.workspace!r}, so no worker looks for it."
    held = _hold_of(record)
    if held:
        return f"Waiting, as its workspace is held. {held}"
    group = OutboxGroup.objects.using(record._state.db).for_group(
        record.workspace, record.type, record.product_id
    )
    contract = get_settings().workspace(record.workspace).contract  # another one ends the pause
    if paused := group.filter(state=GroupState.PAUSED, contract=contract).first():
        return f"Waiting, as its group is held. {explain_group(paused)}"
    fence = _fence(record)
    if fence:
        return f"Waiting behind batch #{fence.pk}, which carries an older version of the same identity."
    lingers_until = record.enqueued_at + timedelta(seconds=get_settings().linger)
    if lingers_until > timezone.now():
        return f"Lingering until {_at(lingers_until)} for company of its group."
    return "Waiting for its turn: the workers send as fast as the limit of the key allows."


def _hold_of(row_of_it: OutboxRecord | OutboxBatch) -> str:
    row = (
        OutboxWorkspace.objects.using(row_of_it._state.db)
        .filter(pk=row_of_it.workspace)
        .exclude(state=WorkspaceState.ACTIVE)
        .first()
    )
    return explain_workspace(row) if row else ""


def _fence(record: OutboxRecord) -> OutboxBatch | None:
    found = OutboxRecord.rows.using(record._state.db).filter(pk=record.pk).with_versions().first()
    older = found.older_batch if found else None
    return OutboxBatch.objects.using(record._state.db).open().filter(pk=older).first() if older else None


def _rejected(record: OutboxRecord) -> str:
    rejection = record.rejections.order_by("-pk").first()
    if rejection is None:
        return "Nobody has left a reason."
    where = f" in batch #{rejection.batch_id}" if rejection.batch_id else ""
    told = f"Rejected{where} at {_at(rejection.rejected_at)}. {rejection.code}: {rejection.message}"
    older = _older_versions(record)
    return f"{_sentence(told)}{older}" if older else told


def _older_versions(record: OutboxRecord) -> str:
    """What a rejected version leaves behind: those that it overtook, and the one that Evermuse still has."""
    older = OutboxRecord.rows.using(record._state.db).filter(identity=record.identity, pk__lt=record.pk)
    told = ""
    if overtaken := older.filter(closed_as=RecordState.SUPERSEDED).order_by("-pk").first():
        told += f" An older version, record #{overtaken.pk}, was set aside for it and is not sent either."
    if held := older.delivered().order_by("-pk").first():
        told += f" Evermuse still has an older version, record #{held.pk}."
    return told


def _superseded(record: OutboxRecord) -> str:
    told = f"A newer version, record #{record.superseded_by}, took its place."
    later = OutboxRecord.rows.using(record._state.db).filter(identity=record.identity, pk__gt=record.pk)
    last = later.exclude(closed_as=RecordState.SUPERSEDED).order_by("-pk").first()
    if last is None or last.closed_as != RecordState.REJECTED:
        return told
    return f"{told} The last version, record #{last.pk}, was rejected: mend its cause and retry that one."


def _isolating(batch: OutboxBatch) -> str:
    search = batch.isolation or {}
    part = batch.parts.order_by("-pk").first()
    tried = f" Batch #{part.pk} is tried now, and the others wait here." if part else ""
    return (
        f"Evermuse refused it and did not say for whose sake: its records are tried part by part. Found bad until "
        f"now: {search.get('found', 0)}; accepted: {search.get('cleared', 0)}.{tried} "
        f"{_sentence(batch.message)}"
    )


def _sendable(batch: OutboxBatch) -> str:
    doubt = (
        "Evermuse may have it or not; it is asked again with the same key and bytes. "
        if batch.in_doubt
        else ""
    )
    last = f" Last time: {_sentence(batch.message)}" if batch.message else ""
    return f"{doubt}{_turn(batch)}{last}"


def _turn(batch: OutboxBatch) -> str:
    held = _hold_of(batch)
    if held:
        return f"Waiting, as its workspace is held. {_sentence(held)}"
    if batch.due_at > timezone.now():
        return f"To be sent at {_at(batch.due_at)}."
    return f"Due since {_at(batch.due_at)}: the workers send as fast as the limit of the key allows."


def _complete(batch: OutboxBatch) -> str:
    told = f"Evermuse completed it at {_at(batch.finished_at)}."
    if not batch.attachment_status:
        return told
    return (
        f"{told} Attachments: {batch.attachment_status}, {batch.attachment_complete or 0} of "
        f"{batch.attachment_total or 0} fetched, {batch.attachment_failed or 0} failed."
    )


def _failed(batch: OutboxBatch) -> str:
    parts = ", ".join(f"#{pk}" for pk in batch.parts.values_list("pk", flat=True))
    then = (
        f"Sent again under a new key as {parts}." if parts else "It waits for a person to retry its records."
    )
    return f"{_sentence(batch.message or 'Failed')} {then}"


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def local(moment: datetime) -> datetime:
    """``moment`` in the current time zone; as it is where the project has none (``USE_TZ = False``)."""
    return timezone.localtime(moment) if timezone.is_aware(moment) else moment


def _at(moment: datetime | None) -> str:
    return f"{local(moment):%Y-%m-%d %H:%M:%S %Z}".strip() if moment else "no known time"

"""Rows in each state, with the longest names that the columns allow.

Foreign text is Greek, so that a test of translations can tell it from the texts of the outbox.
"""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timedelta

from django.apps import apps
from django.db import connection, models
from django.utils import timezone

from evermuse_outbox import outbox
from evermuse_outbox.delivery.isolation import IsolationTest
from evermuse_outbox.jobs.records import HAS_NEWER
from evermuse_outbox.models import (
    ActionKind,
    BatchState,
    Decision,
    GroupState,
    IncidentKind,
    MemberResult,
    OperationState,
    OutboxAction,
    OutboxBatch,
    OutboxIncident,
    OutboxLabelSet,
    OutboxOperation,
    OutboxOperationMember,
    OutboxRecord,
    OutboxRule,
    OutboxRun,
    OutboxWorker,
    OutboxWorkspace,
    RecordState,
    WorkspaceState,
)
from tests.admin import rows
from tests.rows import group

GREEK = "Άγνωστο προϊόν."
LONG_PRODUCT = "prod-" + "x" * 123
LONG_REMOTE_ID = "r" * 128
LONG_VENDOR_ID = "T-" + "y" * 200
FIRST_ID = 1_234_501
"""The lowest id of all tables, so that an id with a thousand separator is recognised."""

WORKSPACES = {
    name: {"API_KEY": "em_sk_test"} for name in ("default", *(f"ws-{state}" for state in WorkspaceState))
}
"""The setting WORKSPACES: one workspace in each state, and one without a row."""

OUTCOMES = (
    "accepted", "read", "refused", "too_large", "key_refused", "no_credits", "throttled", "in_doubt", "unavailable",
    "lost",
)  # fmt: skip


def create_rows() -> None:
    """Create the rows of every state, in the database ``default``, which must be SQLite."""
    start_ids_high()
    for workspace in WorkspaceState:
        _create_workspace(workspace)
    for batch in BatchState:
        _create_batch(batch)
    for number, state in enumerate(GroupState):
        _create_group(state, f"prod-{number}")
    _create_group(GroupState.PAUSED, LONG_PRODUCT)
    _create_records()
    for state in OperationState:
        _create_job(state)
    an_hour_ago = timezone.now() - timedelta(hours=1)
    for kind in IncidentKind:
        _create_incident(kind, an_hour_ago)
    _create_runs()
    for kind in ActionKind:
        decision = Decision("anna", GREEK)
        OutboxAction.objects.using("default").log(
            kind, decision, workspace="default", target="batch #1234567", records=12_345
        )


def _create_runs() -> None:
    """Create an open run, a closed one, a finished one, and one with rejected records. One has records."""
    at = timezone.now() - timedelta(hours=2)
    made = [outbox.start_run(f"{GREEK} {number}", using="default") for number in range(4)]
    label_set = OutboxLabelSet.objects.using("default").add(uuid.uuid4(), {}, made[0].id)
    rows.record(label_set_id=label_set)
    for run in made[1:]:
        run.close()
    rows_of = OutboxRun.objects.using("default")
    rows_of.filter(pk=made[1].id).update(started_at=at, counts={"pending": 12_345, "delivered": 67_890})
    rows_of.filter(pk=made[2].id).update(
        finished_at=timezone.now(), counts={"delivered": 9}, history=[[0, 0, 4], [60, 2, 9], [90, 9, 9]]
    )
    rows_of.filter(pk=made[3].id).update(
        finished_at=timezone.now(), needs_person_since=at, counts={"rejected": 654_321}, expected=654_321
    )


def heartbeat(at: datetime) -> None:
    """Create the row of a worker that was seen last at a time."""
    OutboxWorker.objects.create(
        host="web-1",
        pid=7,
        version="0.1.0",
        command="celery",
        started_at=at,
        last_seen_at=at,
        activity="send",
    )


def start_ids_high() -> None:
    """Let the ids of each table start at ``FIRST_ID``, in the database ``default``, which must be SQLite."""
    with connection.cursor() as cursor:
        for model in apps.get_app_config("evermuse_outbox").get_models():
            if isinstance(model._meta.pk, models.AutoField):
                table = model._meta.db_table
                cursor.execute("DELETE FROM sqlite_sequence WHERE name = %s", [table])
                cursor.execute(
                    "INSERT INTO sqlite_sequence (name, seq) VALUES (%s, %s)", [table, FIRST_ID - 1]
                )


def _create_workspace(state: WorkspaceState) -> None:
    is_active = state == WorkspaceState.ACTIVE
    OutboxWorkspace.objects.create(
        name=f"ws-{state}",
        state=state,
        reason="" if is_active else GREEK,
        blocked_until=None if is_active else timezone.now() + timedelta(hours=1),
        failures=0 if is_active else 3,
        run_queue={"next": [["message", LONG_PRODUCT, "full"]]},
    )


def _create_group(state: GroupState, product: str) -> None:
    group("default", state, product_id=product, error_signature=GREEK, reason=GREEK, advice=GREEK)


def _create_batch(state: BatchState) -> None:
    """Create two batches: a small one, and one with long texts, attempts and records in each workspace."""
    rows.record(rows.batch(state, product_id=LONG_PRODUCT), product_id=LONG_PRODUCT)
    large = rows.batch(
        state,
        record_count=1_000,
        message=GREEK,
        failures=3,
        in_doubt=state == BatchState.IN_DOUBT,
        isolation=IsolationTest(bad=2, good=30).to_json() if state == BatchState.ISOLATING else None,
        errors=[{"index": 0, "code": "BAD", "message": GREEK}],
        total_error_count=12_345,
        rejected_count=12,
        **_remote_columns(state),
    )
    member = rows.record(large)
    rows.batch(
        BatchState.SEALED, parent=large, workspace="ws-paused", due_at=timezone.now() + timedelta(hours=1)
    )
    for outcome in OUTCOMES:
        rows.attempt(large, outcome=outcome, detail=f'{{"m": "{GREEK}"}}')
    rows.attempt(large, call="status", outcome="in_doubt", status=None, seconds=None)
    rows.record(identity=member.identity)


def _create_job(state: OperationState) -> None:
    """Create a job of a superuser, with a member that was not changed."""
    now = timezone.now()
    is_new = state in (OperationState.COLLECTING, OperationState.READY)
    job = OutboxOperation.objects.create(
        kind="discard" if state == OperationState.READY else "retry",
        state=state,
        by="admin",
        reason=GREEK,
        selection="all records with state = rejected",
        created_at=now,
        confirmed_at=None if is_new else now,
        started_at=None if is_new else now,
        busy_seconds=0 if is_new else 7,
        total=12_345,
        bytes=1_234_567,
        groups=[["ws-active", "message", LONG_PRODUCT, 12_345, 1_234_567, 0]],
        expected={HAS_NEWER: {"count": 30, "ids": [FIRST_ID]}},
        changed=0 if is_new else 1_234,
        refused=0 if is_new else 30,
        failed=0 if is_new else 1,
        message="" if is_new else GREEK,
    )
    for target, result in enumerate(MemberResult, FIRST_ID):
        note = f"{HAS_NEWER}: #{FIRST_ID}"
        OutboxOperationMember.objects.create(operation=job, target=target, result=result, note=note)


def _create_incident(kind: IncidentKind, at: datetime) -> None:
    """Create an incident that has ended, and an open one."""
    for subject, ended_at in (("", timezone.now()), (LONG_PRODUCT, None)):
        row = OutboxIncident(
            kind=kind,
            workspace="ws-paused",
            subject=subject,
            started_at=at,
            reason=GREEK,
            ended_at=ended_at,
            peak=7.5,
        )
        OutboxIncident.objects.using("default").begin(row, at)
        if ended_at:
            OutboxIncident.objects.using("default").end(row.pk, ended_at)


def _remote_columns(state: BatchState) -> dict[str, object]:
    if state not in (BatchState.ACCEPTED, BatchState.COMPLETE):
        return {}
    is_open = {
        "next_poll_at": timezone.now(),
        "finished_at": timezone.now() if state == BatchState.COMPLETE else None,
    }
    attachments = {"attachment_total": 12_345, "attachment_complete": 1_200, "attachment_failed": 4}
    return {
        "remote_id": LONG_REMOTE_ID,
        "remote_status": "LANDED",
        "attachment_status": "IN_PROGRESS",
        **attachments,
        **is_open,
    }


def _create_records() -> None:
    """Create the records that no batch of :func:`_create_batch` contains."""
    long_payload = rows.line(LONG_VENDOR_ID, GREEK)
    for workspace in ("gone", *WORKSPACES):
        rows.record(workspace=workspace, product_id=LONG_PRODUCT, payload=long_payload)
    rows.record(product_id="prod-1")  # its group is paused
    OutboxRule.objects.create(
        action="hold", type="email", reason="ticket", by="anna", created_at=timezone.now()
    )
    rows.record(closed_as=RecordState.DISCARDED)
    older = rows.record(OutboxBatch.objects.filter(state=BatchState.COMPLETE).first())
    superseded = rows.record(
        closed_as=RecordState.SUPERSEDED, identity=older.identity, superseded_by=FIRST_ID
    )
    rejected = rows.rejected(product_id=LONG_PRODUCT, payload=long_payload, identity=older.identity)
    rejected.rejections.update(message=GREEK)
    type(rejected).rows.filter(pk=superseded.pk).update(superseded_by=rejected.pk)
    corrected = rows.rejected()
    corrected.rejections.update(message=GREEK)
    correction = rows.record(corrected.batch, identity=corrected.identity)
    type(rejected).rows.filter(pk=corrected.pk).update(closed_as="superseded", superseded_by=correction.pk)
    OutboxBatch.objects.filter(pk=corrected.batch_id).update(state=BatchState.COMPLETE, remote_id="remote-0")
    without_reason = rows.rejected(payload=rows.line("T-1", "ß" * 100_001))
    without_reason.rejections.all().delete()
    for row in OutboxRecord.rows.rejected():  # they can be edited, so they are complete
        payload = json.dumps(json.loads(row.payload) | {"_project_id": "proj"}, ensure_ascii=False)
        OutboxRecord.rows.filter(pk=row.pk).update(payload=payload)
    OutboxBatch.objects.filter(errors__isnull=False).update(
        errors=[{"index": 0, "code": "BAD", "message": GREEK}]
    )

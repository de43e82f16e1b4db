"""The explanations: sentences for each state, with the reason and the next step."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from evermuse_outbox import outbox
from evermuse_outbox.database_clock import database_now
from evermuse_outbox.delivery.isolation import IsolationTest
from evermuse_outbox.delivery.scheduling import RunQueue
from evermuse_outbox.insight import explain_batch, explain_group, explain_record, explain_workspace
from evermuse_outbox.models import (
    BatchState,
    GroupState,
    OutboxRecord,
    OutboxRejection,
    OutboxWorker,
    OutboxWorkspace,
    WorkspaceState,
)
from tests.records import record
from tests.rows import batch_in, group, record_in

AT = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
SHOWN = "2026-03-01 12:30:00 UTC"
FUTURE = datetime(2999, 1, 1, tzinfo=UTC)


def block(alias, state=WorkspaceState.PAUSED, until=AT, reason="401: the key is wrong"):
    return OutboxWorkspace.objects.using(alias).create(
        name="default", state=state, blocked_until=until, reason=reason
    )


def reject(alias, row, batch=None, message="data is required"):
    OutboxRejection.objects.using(alias).create(
        record=row, batch=batch, code="INVALID", message=message, rejected_at=AT
    )


def worker_seen(alias, at=None):
    at = at or database_now(alias)
    OutboxWorker.objects.using(alias).create(host="h", pid=1, command="c", started_at=at, last_seen_at=at)


# --- pending ------------------------------------------------------------------------------------------


def test_pending_and_ready_to_send(alias):
    worker_seen(alias)
    assert explain_record(record_in(alias, "pending")).startswith("Ready to send: the workers send")


def test_pending_without_any_worker(alias):
    assert explain_record(record_in(alias, "pending")) == (
        "Waiting for a worker: no worker was ever seen. Start one: `celery worker` with beat, or "
        "`manage.py outbox_relay`."
    )


def test_pending_while_workers_are_missing(alias):
    worker_seen(alias, at=AT)
    text = explain_record(record_in(alias, "pending"))
    assert text.startswith(f"Waiting for a worker: no worker was seen since {SHOWN}.")


def test_pending_and_lingering(alias, outbox_settings):
    outbox_settings(LINGER=600)
    row = record_in(alias, "pending")
    worker_seen(alias)
    assert explain_record(row).startswith("Ready to send: the workers send")
    queue = RunQueue(sealed_at={(row.type, row.product_id): row.enqueued_at.timestamp() - 60})
    workspace = OutboxWorkspace.objects.using(alias).ensure_row(row.workspace)
    workspace.run_queue = queue.to_json()
    workspace.save(using=alias)
    until = timezone.localtime(row.enqueued_at + timedelta(seconds=540)).strftime("%Y-%m-%d %H:%M:%S UTC")
    assert explain_record(row) == f"Waiting until {until} for other records of its group (LINGER)."


def test_pending_while_an_older_version_is_sent(alias):
    older = outbox.enqueue(record(1), using=alias)
    blocker = batch_in(alias, BatchState.IN_DOUBT)
    OutboxRecord.rows.using(alias).filter(pk=older.pk).update(batch=blocker)
    newer = outbox.enqueue(record(1), using=alias)
    expected = (
        f"Waiting for batch #{blocker.pk}, which contains an older version of the same record. "
        f"It is sent when that batch has ended. To see why that batch waits: `manage.py outbox_batch {blocker.pk}`."
    )
    assert explain_record(newer) == expected
    type(blocker).objects.using(alias).filter(pk=blocker.pk).update(state=BatchState.SPLIT)
    assert "older version" not in explain_record(newer)


def test_pending_in_a_paused_workspace(alias):
    block(alias)
    assert explain_record(record_in(alias, "pending")) == (
        f"Waiting, because its workspace does not send. Paused until {SHOWN} because: 401: the key is wrong. "
        "Then it is tried again. To try it now: `manage.py outbox_resume --workspace default`."
    )


def test_pending_in_a_workspace_that_is_not_in_the_settings(alias):
    row = record_in(alias, "pending", workspace="gone")
    assert explain_record(row) == (
        "Waiting: the settings have no workspace 'gone', so no worker sends this record. "
        "It is sent when WORKSPACES has that workspace again. "
        "To discard what waits: `manage.py outbox_discard --workspace gone`."
    )


# --- the other states of a record ---------------------------------------------------------------------


def test_in_flight(alias):
    batch = batch_in(alias, BatchState.SENDING, leased_until=AT)
    assert explain_record(record_in(alias, "pending", batch)) == (
        f"In batch #{batch.pk}. A worker is sending it or waits for a permit of the rate limit; "
        f"its lease ends at {SHOWN}. After that, another worker sends it."
    )


def test_delivered(alias):
    batch = batch_in(alias, BatchState.COMPLETE, finished_at=AT)
    assert explain_record(record_in(alias, "pending", batch)) == (
        f"Delivered with batch #{batch.pk}; Evermuse completed it at {SHOWN}."
    )


def test_rejected_with_the_latest_message(alias):
    batch = batch_in(alias, BatchState.REFUSED)
    row = record_in(alias, "rejected", batch)
    reject(alias, row, message="the first time")
    reject(alias, row, batch)
    assert explain_record(row) == (
        f"Rejected in batch #{batch.pk} at {SHOWN}. INVALID: data is required. Correct the cause, then retry it."
    )


def test_rejected_without_a_request(alias):
    row = record_in(alias, "rejected")
    reject(alias, row)
    assert explain_record(row) == (
        f"Rejected at {SHOWN}. INVALID: data is required. Correct the cause, then retry it."
    )


def test_rejected_with_its_batch(alias):
    batch = batch_in(alias, BatchState.FAILED)
    row = record_in(alias, "rejected", batch)
    reject(alias, row, batch, message="Evermuse reports FAILED: disk full")
    assert explain_record(row).startswith(f"Rejected in batch #{batch.pk} at {SHOWN}. ")
    assert explain_record(row).endswith(
        "Evermuse reports FAILED: disk full. Correct the cause, then retry it."
    )


def test_rejected_without_a_reason(alias):
    assert explain_record(record_in(alias, "rejected")) == (
        "Rejected; no reason was recorded. Correct the cause, then retry it."
    )


def test_superseded(alias):
    row = record_in(alias, "superseded", superseded_by=77)
    assert explain_record(row) == "Superseded by a newer version, record #77."


def test_discarded(alias):
    assert explain_record(record_in(alias, "discarded")) == "Discarded by an operator; it will not be sent."


# --- batches ------------------------------------------------------------------------------------------


def test_sealed_for_later(alias):
    batch = batch_in(alias, BatchState.SEALED, due_at=FUTURE, message="HTTP 503")
    assert explain_batch(batch) == "To be sent at 2999-01-01 00:00:00 UTC. Last attempt: HTTP 503."


def test_sealed_and_due(alias):
    worker_seen(alias)
    assert explain_batch(batch_in(alias, BatchState.SEALED, due_at=AT)) == (
        f"Due since {SHOWN}: the workers send as fast as the rate limit of the API key allows."
    )


def test_sealed_in_a_throttled_workspace(alias):
    block(alias, WorkspaceState.THROTTLED, reason="HTTP 429.")
    assert explain_batch(batch_in(alias, BatchState.SEALED, due_at=AT)) == (
        f"Waiting, because its workspace does not send. Throttled until {SHOWN} because: HTTP 429. "
        "Then it is tried again. To try it now: `manage.py outbox_resume --workspace default --force`."
    )


def test_in_doubt(alias):
    batch = batch_in(alias, BatchState.IN_DOUBT, in_doubt=True, due_at=FUTURE, message="timed out.")
    assert explain_batch(batch) == (
        "Evermuse may have it already, so it is sent again with the same key and the same bytes. "
        "To be sent at 2999-01-01 00:00:00 UTC. Last attempt: timed out. "
        f"To end the wait by hand: `manage.py outbox_batch {batch.pk} --retry-now | --give-up`."
    )


def test_accepted(alias):
    batch = batch_in(alias, BatchState.ACCEPTED, next_poll_at=AT)
    assert explain_batch(batch) == (
        f"Evermuse accepted it as remote-1 and reports no state yet; the next poll is at {SHOWN}. "
        f"To end the wait by hand: `manage.py outbox_batch {batch.pk} --retry-now | --give-up`."
    )
    batch.remote_status, batch.next_poll_at = "LANDED", None
    expected = "Evermuse accepted it as remote-1 and reports LANDED; the next poll is at no known time."
    assert explain_batch(batch).startswith(expected)


def test_complete_with_and_without_attachments(alias):
    batch = batch_in(alias, BatchState.COMPLETE, finished_at=AT)
    assert explain_batch(batch) == f"Evermuse completed it at {SHOWN}."
    batch.attachment_status, batch.attachment_total, batch.attachment_complete = "IN_PROGRESS", 7, 3
    assert explain_batch(batch).endswith("Attachments: IN_PROGRESS, 3 of 7 fetched, 0 failed.")


def test_refused(alias):
    assert explain_batch(batch_in(alias, BatchState.REFUSED)) == "Evermuse refused it."
    batch = batch_in(alias, BatchState.REFUSED, message="400: bad data")
    assert explain_batch(batch) == "Evermuse refused it. 400: bad data"


@pytest.mark.parametrize(
    ("state", "alone", "with_parts"),
    [
        (
            BatchState.SPLIT,
            "Its records that were neither rejected nor removed are in no other batch. Why.",
            "Its records that were neither rejected nor removed are in {}. Why.",
        ),
        (
            BatchState.FAILED,
            "Why. To send its records again, retry them.",
            "Why. Sent again under a new key as {}.",
        ),
    ],
)
def test_batches_with_later_batches(alias, state, alone, with_parts):
    batch = batch_in(alias, state, message="Why.")
    assert explain_batch(batch) == alone
    parts = [batch_in(alias, BatchState.SEALED, parent=batch) for _ in range(2)]
    assert explain_batch(batch) == with_parts.format(", ".join(f"#{part.pk}" for part in parts))


def test_failed_without_a_reason(alias):
    assert explain_batch(batch_in(alias, BatchState.FAILED)).startswith("Failed. To send its records again")


# --- workspaces ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "word"), [("paused", "Paused"), ("backing_off", "Backing off"), ("throttled", "Throttled")]
)
def test_a_workspace_that_does_not_send(alias, state, word):
    row = block(alias, state)
    force = " --force" if state == "throttled" else ""
    command = f"To try it now: `manage.py outbox_resume --workspace default{force}`."
    assert explain_workspace(row) == (
        f"{word} until {SHOWN} because: 401: the key is wrong. Then it is tried again. {command}"
    )
    row.blocked_until = None
    expected = f"{word} because: 401: the key is wrong. The next worker tries again. {command}"
    assert explain_workspace(row) == expected


def test_a_workspace_without_credits(alias):
    row = block(alias, WorkspaceState.NO_CREDITS, reason="HTTP 402.")
    assert explain_workspace(row) == (
        f"Without credits: HTTP 402. Buy credits at Evermuse. A request at {SHOWN} shows whether there are credits "
        "again. To try it now: `manage.py outbox_resume --workspace default`."
    )


def test_an_active_workspace(alias):
    assert explain_workspace(block(alias, WorkspaceState.ACTIVE)) == "Active."


# --- groups, isolation, rejected versions ----------------------------------------------------------------


def test_pending_in_a_paused_group(alias):
    group(alias, since=AT, blocked_until=FUTURE)
    text = explain_record(record_in(alias, "pending"))
    assert text.startswith(
        "Waiting, because its group is paused. "
        f"Paused because Evermuse has refused every record with the same error since {SHOWN}."
    )
    assert "Look at the project id." in text


def test_a_suspected_group(alias):
    text = explain_group(group(alias, GroupState.SUSPECTED, since=AT))
    assert text.startswith(f"Batches refused in a row with the same error since {SHOWN}: 3.")
    assert text.endswith("no such project.")


def test_in_a_batch_that_is_isolated(alias):
    isolated = batch_in(
        alias, BatchState.ISOLATING, isolation=IsolationTest(bad=2, good=30).to_json(), message="HTTP 400: no"
    )
    part = batch_in(alias, BatchState.SENDING, parent=isolated)
    text = explain_record(record_in(alias, "pending", isolated))
    assert text.startswith(f"In batch #{isolated.pk}. Evermuse refused it without naming the bad records")
    assert "Found bad so far: 2; accepted: 30." in text
    assert f"Batch #{part.pk} is tried now" in text
    assert "HTTP 400: no. To end the wait by hand" in text


def test_a_withdrawn_batch(alias):
    text = explain_batch(batch_in(alias, BatchState.WITHDRAWN, message="Its group was paused."))
    assert text == "Withdrawn: it will not be sent. Its group was paused."


def test_a_rejected_version_is_explained_on_both_records(alias):
    delivered, older, newer = (outbox.enqueue(record(1, data={"v": v}), using=alias) for v in range(3))
    rows = OutboxRecord.rows.using(alias)
    rows.filter(pk=delivered.pk).update(batch=batch_in(alias, BatchState.COMPLETE))
    rows.supersede({older.pk: newer.pk})
    rows.filter(pk=newer.pk).update(closed_as="rejected")
    reject(alias, newer)
    of = OutboxRecord.objects.using(alias)
    assert explain_record(of.get(pk=older.pk)) == (
        f"Superseded by a newer version, record #{newer.pk}. The latest version, record #{newer.pk}, was rejected: "
        "correct the cause and retry that record."
    )
    assert explain_record(of.get(pk=newer.pk)).endswith(
        f"data is required. The older version, record #{older.pk}, was superseded and is not sent either. "
        f"Evermuse still has an older version, record #{delivered.pk}. Correct the cause, then retry it."
    )


# --- attachments --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("complete", "failed", "expected"),
    [
        (
            36,
            4,
            "4 of 40 attachments failed in this batch. This record has 2. Evermuse does not report which failed.",
        ),
        (40, 0, "All 40 attachments of this batch were fetched."),
        (3, 0, "3 of 40 attachments of this batch were fetched so far. This record has 2."),
    ],
)
def test_attachments_are_explained_as_far_as_evermuse_reports_them(alias, complete, failed, expected):
    batch = batch_in(
        alias,
        BatchState.COMPLETE,
        attachment_total=40,
        attachment_complete=complete,
        attachment_failed=failed,
    )
    row = record_in(alias, "delivered", batch, attachments=2)
    assert explain_record(row).endswith(expected)
    without = record_in(alias, "delivered", batch)
    assert "attachments" not in explain_record(without)


def test_a_rejected_record_that_was_corrected(alias):
    row = record_in(alias, "superseded", superseded_by=7)
    reject(alias, row)
    assert (
        explain_record(row)
        == "It was rejected, and a newer version corrected it: record #7. Nothing is left to do."
    )


def test_a_pending_record_says_that_its_group_has_another_order(alias, outbox_settings):
    worker_seen(alias)
    outbox_settings(FAIR_SHARES={"label": "customer"}, NEWEST_FIRST={"after": 600})
    text = explain_record(record_in(alias, "pending"))
    assert "The values of the label customer share the requests of its group (FAIR_SHARES)." in text
    assert "its newest go first (NEWEST_FIRST)" in text

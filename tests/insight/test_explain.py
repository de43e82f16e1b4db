"""Why a record or a batch is where it is: a sentence for each state, each time with its reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from evermuse_outbox import outbox
from evermuse_outbox.insight.explain import explain_batch, explain_group, explain_record, explain_workspace
from evermuse_outbox.models import (
    BatchState,
    GroupState,
    OutboxRecord,
    OutboxRejection,
    OutboxWorkspace,
    WorkspaceState,
)
from tests.insight.test_status import batch_in, group, record_in
from tests.records import record

AT = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
SHOWN = "2026-03-01 12:30:00 UTC"
FUTURE = datetime(2999, 1, 1, tzinfo=UTC)


def hold(alias, state=WorkspaceState.PAUSED, until=AT, reason="401: the key is wrong"):
    return OutboxWorkspace.objects.using(alias).create(
        name="default", state=state, blocked_until=until, reason=reason
    )


def reject(alias, row, batch=None, message="data is required"):
    OutboxRejection.objects.using(alias).create(
        record=row, batch=batch, code="INVALID", message=message, rejected_at=AT
    )


# --- pending ------------------------------------------------------------------------------------------


def test_pending_and_its_turn_will_come(alias):
    assert explain_record(record_in(alias, "pending")).startswith("Waiting for its turn: the workers send")


def test_pending_and_lingering(alias, outbox_settings):
    outbox_settings(LINGER=600)
    row = record_in(alias, "pending")
    until = timezone.localtime(row.enqueued_at + timedelta(seconds=600)).strftime("%Y-%m-%d %H:%M:%S UTC")
    assert explain_record(row) == f"Lingering until {until} for company of its group."


def test_pending_behind_an_older_version(alias):
    older = outbox.enqueue(record(1), using=alias)
    fence = batch_in(alias, BatchState.IN_DOUBT)
    OutboxRecord.rows.using(alias).filter(pk=older.pk).update(batch=fence)
    newer = outbox.enqueue(record(1), using=alias)
    told = explain_record(newer)
    assert told.startswith(f"Waiting behind batch #{fence.pk}, which carries an older version")
    type(fence).objects.using(alias).filter(pk=fence.pk).update(state=BatchState.SPLIT)
    assert "behind" not in explain_record(newer)


def test_pending_in_a_held_workspace(alias):
    hold(alias)
    assert explain_record(record_in(alias, "pending")) == (
        f"Waiting, as its workspace is held. Paused until {SHOWN}, then it is tried again: 401: the key is wrong"
    )


def test_pending_in_a_workspace_that_is_no_more(alias):
    row = record_in(alias, "pending", workspace="gone")
    assert explain_record(row) == (
        "Waiting: the settings know no workspace 'gone', so no worker looks for it."
    )


# --- the other states of a record ---------------------------------------------------------------------


def test_in_flight(alias):
    batch = batch_in(alias, BatchState.SENDING, leased_until=AT)
    assert explain_record(record_in(alias, "pending", batch)) == (
        f"In batch #{batch.pk}. A worker is sending it, or waits for its slot; its lease runs until {SHOWN}."
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
    assert explain_record(row) == f"Rejected in batch #{batch.pk} at {SHOWN}. INVALID: data is required"


def test_rejected_without_a_request(alias):
    row = record_in(alias, "rejected")
    reject(alias, row)
    assert explain_record(row) == f"Rejected at {SHOWN}. INVALID: data is required"


def test_rejected_with_its_batch(alias):
    batch = batch_in(alias, BatchState.FAILED)
    row = record_in(alias, "rejected", batch)
    reject(alias, row, batch, message="Evermuse says FAILED: disk full")
    assert explain_record(row).startswith(f"Rejected in batch #{batch.pk} at {SHOWN}. ")
    assert explain_record(row).endswith("Evermuse says FAILED: disk full")


def test_rejected_without_a_word(alias):
    assert explain_record(record_in(alias, "rejected")) == "Nobody has left a reason."


def test_superseded(alias):
    row = record_in(alias, "superseded", superseded_by=77)
    assert explain_record(row) == "A newer version, record #77, took its place."


def test_discarded(alias):
    assert explain_record(record_in(alias, "discarded")) == "Discarded by a person; it will not be sent."


# --- batches ------------------------------------------------------------------------------------------


def test_sealed_for_later(alias):
    batch = batch_in(alias, BatchState.SEALED, due_at=FUTURE, message="HTTP 503")
    assert explain_batch(batch) == "To be sent at 2999-01-01 00:00:00 UTC. Last time: HTTP 503."


def test_sealed_and_due(alias):
    assert explain_batch(batch_in(alias, BatchState.SEALED, due_at=AT)) == (
        f"Due since {SHOWN}: the workers send as fast as the limit of the key allows."
    )


def test_sealed_in_a_held_workspace(alias):
    hold(alias, WorkspaceState.THROTTLED, reason="HTTP 429.")
    assert explain_batch(batch_in(alias, BatchState.SEALED, due_at=AT)) == (
        f"Waiting, as its workspace is held. Throttled until {SHOWN}, then it is tried again: HTTP 429."
    )


def test_in_doubt(alias):
    batch = batch_in(alias, BatchState.IN_DOUBT, in_doubt=True, due_at=FUTURE, message="timed out.")
    assert explain_batch(batch) == (
        "Evermuse may have it or not; it is asked again with the same key and bytes. "
        "To be sent at 2999-01-01 00:00:00 UTC. Last time: timed out."
    )


def test_accepted(alias):
    batch = batch_in(alias, BatchState.ACCEPTED, next_poll_at=AT)
    assert explain_batch(batch) == (
        f"Evermuse has it as remote-1 and says nothing yet; asked again at {SHOWN}."
    )
    batch.remote_status, batch.next_poll_at = "LANDED", None
    assert (
        explain_batch(batch) == "Evermuse has it as remote-1 and says LANDED; asked again at no known time."
    )


def test_complete_with_and_without_attachments(alias):
    batch = batch_in(alias, BatchState.COMPLETE, finished_at=AT)
    assert explain_batch(batch) == f"Evermuse completed it at {SHOWN}."
    batch.attachment_status, batch.attachment_total, batch.attachment_complete = "IN_PROGRESS", 7, 3
    assert explain_batch(batch).endswith("Attachments: IN_PROGRESS, 3 of 7 fetched, 0 failed.")


def test_refused(alias):
    assert explain_batch(batch_in(alias, BatchState.REFUSED)) == "Evermuse refused all of it."
    batch = batch_in(alias, BatchState.REFUSED, message="400: bad data")
    assert explain_batch(batch) == "Evermuse refused all of it. 400: bad data"


@pytest.mark.parametrize(
    ("state", "alone", "with_parts"),
    [
        (
            BatchState.SPLIT,
            "Refused in part; the others went on in no batch. Why.",
            "Refused in part; the others went on in {}. Why.",
        ),
        (
            BatchState.FAILED,
            "Why. It waits for a person to retry its records.",
            "Why. Sent again under a new key as {}.",
        ),
    ],
)
def test_what_went_on_in_other_batches(alias, state, alone, with_parts):
    batch = batch_in(alias, state, message="Why.")
    assert explain_batch(batch) == alone
    parts = [batch_in(alias, BatchState.SEALED, parent=batch) for _ in range(2)]
    assert explain_batch(batch) == with_parts.format(", ".join(f"#{part.pk}" for part in parts))


def test_failed_without_a_word(alias):
    assert explain_batch(batch_in(alias, BatchState.FAILED)).startswith("Failed. It waits for a person")


# --- workspaces ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "word"), [("paused", "Paused"), ("backing_off", "Backing off"), ("throttled", "Throttled")]
)
def test_a_held_workspace(alias, state, word):
    row = hold(alias, state)
    assert explain_workspace(row) == f"{word} until {SHOWN}, then it is tried again: 401: the key is wrong"
    row.blocked_until = None
    assert explain_workspace(row) == f"{word} for now: 401: the key is wrong"


def test_an_open_workspace(alias):
    assert explain_workspace(hold(alias, WorkspaceState.ACTIVE)) == "Open."


# --- groups, dividing, versions that were rejected --------------------------------------------------------


def test_pending_in_a_paused_group(alias):
    group(alias, since=AT, blocked_until=FUTURE)
    told = explain_record(record_in(alias, "pending"))
    assert told.startswith(
        f"Waiting, as its group is held. Paused, as everything is refused alike since {SHOWN}."
    )
    assert "Look at the project id." in told


def test_a_suspected_group(alias):
    told = explain_group(group(alias, GroupState.SUSPECTED, since=AT))
    assert told.startswith(f"Batches refused alike in a row since {SHOWN}: 3.")
    assert told.endswith("no such project.")


def test_in_a_batch_that_is_divided(alias):
    divided = batch_in(
        alias, BatchState.ISOLATING, isolation={"found": 2, "cleared": 30}, message="HTTP 400: no"
    )
    part = batch_in(alias, BatchState.SENDING, parent=divided)
    told = explain_record(record_in(alias, "pending", divided))
    assert told.startswith(f"In batch #{divided.pk}. Evermuse refused it and did not say for whose sake")
    assert "Found bad until now: 2; accepted: 30." in told
    assert f"Batch #{part.pk} is tried now" in told
    assert told.endswith("HTTP 400: no.")


def test_a_withdrawn_batch(alias):
    told = explain_batch(batch_in(alias, BatchState.WITHDRAWN, message="Its group was paused."))
    assert told == "Withdrawn: it will not be sent. Its group was paused."


def test_a_rejected_version_is_seen_on_both(alias):
    held, older, newer = (outbox.enqueue(record(1, data={"v": v}), using=alias) for v in range(3))
    rows = OutboxRecord.rows.using(alias)
    rows.filter(pk=held.pk).update(batch=batch_in(alias, BatchState.COMPLETE))
    rows.supersede({older.pk: newer.pk})
    rows.filter(pk=newer.pk).update(closed_as="rejected")
    reject(alias, newer)
    of = OutboxRecord.objects.using(alias)
    assert explain_record(of.get(pk=older.pk)) == (
        f"A newer version, record #{newer.pk}, took its place. The last version, record #{newer.pk}, was rejected: "
        "mend its cause and retry that one."
    )
    assert explain_record(of.get(pk=newer.pk)).endswith(
        f"data is required. An older version, record #{older.pk}, was set aside for it and is not sent either. "
        f"Evermuse still has an older version, record #{held.pk}."
    )

"""Discard what is pending, in a workspace or a group, and record it once."""

from __future__ import annotations

from evermuse_outbox import outbox
from evermuse_outbox.insight import missing_workspaces
from evermuse_outbox.models import OutboxAction, OutboxRecord, OutboxWorkspace, process_user
from evermuse_outbox.operations import discard, discard_pending
from tests.delivery.helpers import state_of
from tests.records import record
from tests.rows import batch_in, record_in


def actions(alias):
    columns = ("kind", "by", "workspace", "target", "records", "reason")
    return list(OutboxAction.objects.using(alias).order_by("pk").values_list(*columns))


def test_only_pending_records_of_the_group_are_discarded(alias, monkeypatch):
    monkeypatch.setattr(discard, "RECORDS_PER_STEP", 2)
    mine = [outbox.enqueue(record(number), using=alias) for number in range(5)]
    other = outbox.enqueue(record(9) | {"_product_id": "prod-ABC"}, using=alias)
    rejected, taken = record_in(alias, "rejected"), record_in(alias, "in_flight")
    assert discard_pending(alias, "default", ("message", "prod-abc"), by="ada", reason="left") == 5
    assert {state_of(row) for row in mine} == {"discarded"}
    assert [state_of(row) for row in (other, rejected, taken)] == ["pending", "rejected", "in_flight"]
    target = "pending records of group message · prod-abc"
    assert actions(alias) == [("discard", "ada", "default", target, 5, "left")]


def test_records_of_a_workspace_that_is_missing_in_the_settings(alias):
    row = outbox.enqueue(record(1), using=alias)
    OutboxRecord.rows.using(alias).filter(pk=row.pk).update(workspace="gone")
    batch_in(alias, "sealed", workspace="gone")
    OutboxWorkspace.objects.using(alias).ensure_row("gone")
    assert missing_workspaces(alias) == {"gone": {"pending": 1, "open_batches": 1}}
    assert discard_pending(alias, "gone", reason="customer has left") == 1
    assert state_of(row) == "discarded"
    assert missing_workspaces(alias) == {"gone": {"pending": 0, "open_batches": 1}}


def test_nothing_to_discard_is_not_recorded(alias):
    assert discard_pending(alias, "default") == 0
    assert actions(alias) == []


def test_a_call_of_discard_is_recorded_with_the_user_of_the_process(alias):
    rows = [outbox.enqueue(record(number), using=alias) for number in range(2)]
    assert OutboxRecord.objects.using(alias).all().discard(reason="duplicates") == 2
    target = f"records #{rows[0].pk}, #{rows[1].pk}"
    assert actions(alias) == [("discard", process_user(), "default", target, 2, "duplicates")]
    assert OutboxRecord.objects.using(alias).all().discard() == 0
    assert len(actions(alias)) == 1

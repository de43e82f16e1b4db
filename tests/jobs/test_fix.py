"""Bulk fix and edit-and-retry: new versions are valid, and their originals are kept and superseded."""

from __future__ import annotations

from datetime import timedelta

import pytest

from evermuse_outbox import InvalidRecord, jobs, outbox
from evermuse_outbox.delivery.loop import poll, relay
from evermuse_outbox.models import OutboxAction, OutboxOperationMember, OutboxRecord
from evermuse_outbox.operations import NotPossible, edit_record, select_records
from tests.delivery.helpers import state_of
from tests.records import enqueue, record


@pytest.fixture
def fixes(outbox_settings, context):
    """Let the setting FIXES name a function; the other settings are those of the context."""
    outbox_settings(
        API_URL=context.workspace.api_url, API_KEY="em_sk_sandbox", FIXES={"nature": "tests.fixes.nature"}
    )


def rejected(context, alias, *numbers):
    rows = enqueue(alias, *numbers, invalid=numbers)
    relay(context, 60)
    assert {state_of(row) for row in rows} == {"rejected"}
    return rows


def fixed(alias, rows):
    job = jobs.create(alias, "fix", by="anna", reason="renamed", options={"fix": "nature"})
    while not jobs.collect(job, select_records(alias, ids=tuple(row.pk for row in rows))):
        pass
    jobs.confirm(job)
    jobs.run_operations(alias, 60)
    job.refresh_from_db()
    return job


def test_fixed_records_are_sent_as_new_versions(context, alias, sandbox, clock, fixes):
    rows = rejected(context, alias, 1, 2, "skip", "raise", "invalid")
    examples = jobs.preview_fix(OutboxRecord.rows.using(alias).rejected(), "nature")
    assert '-  "_nature": "nonsense",' in examples[0].diff
    assert '+  "_nature": "evidence",' in examples[0].diff
    assert {state_of(row) for row in rows} == {"rejected"}
    job = fixed(alias, rows)
    assert (job.state, job.changed, job.refused) == ("finished", 2, 3)
    assert {reason: entry["count"] for reason, entry in job.expected.items()} == {
        "The function leaves it as it is": 1,
        "The function raises an exception": 1,
        "Its new version would be rejected": 1,
    }
    notes = [m.note for m in OutboxOperationMember.objects.using(alias).not_changed(job)]
    assert "LookupError" in notes[1]
    assert "no customer" in notes[1]
    assert "_nature" in notes[2]
    assert [state_of(row) for row in rows] == ["superseded", "superseded", "rejected", "rejected", "rejected"]
    for _ in range(2):
        relay(context, 60)
        clock.move(60)
        poll(context, 60)
    for row in rows[:2]:
        row.refresh_from_db()
        newer = OutboxRecord.objects.using(alias).get(pk=row.superseded_by)
        assert (newer.identity, newer.state) == (row.identity, "delivered")
    action = OutboxAction.objects.using(alias).get()
    assert (action.kind, action.by, action.records) == ("fix", "anna", 2)


def test_a_record_with_a_scheduled_newer_version_is_neither_fixed_nor_edited(context, alias, sandbox, fixes):
    (row,) = rejected(context, alias, 1)
    newer = outbox.enqueue(record(1), using=alias, send_after=timedelta(hours=1))
    assert (newer.identity, newer.state) == (row.identity, "scheduled")
    job = fixed(alias, [row])
    assert (job.changed, job.refused) == (0, 1)
    with pytest.raises(NotPossible, match=f"#{newer.pk}"):
        edit_record(alias, row.pk, record(1), reason="x")
    assert state_of(row) == "rejected"


def test_a_record_whose_line_was_cut_off_is_refused_and_the_others_are_fixed(context, alias, sandbox, fixes):
    cut, whole = rejected(context, alias, 1, 2)
    OutboxRecord.rows.using(alias).filter(pk=cut.pk).update(payload='{"_type": "mess')
    examples = jobs.preview_fix(OutboxRecord.rows.using(alias).rejected(), "nature")
    assert [bool(each.refusal) for each in examples] == [True, False]
    job = fixed(alias, [cut, whole])
    assert (job.changed, job.refused) == (1, 1)
    assert [state_of(row) for row in (cut, whole)] == ["rejected", "superseded"]


def test_a_fix_that_the_settings_do_not_have_is_refused_and_a_job_with_it_fails(
    alias, fixes, context, outbox_settings
):
    with pytest.raises(NotPossible, match="no function 'other'; known: nature"):
        jobs.create(alias, "fix", options={"fix": "other"})
    rows = rejected(context, alias, 1)
    outbox_settings(FIXES={})
    with pytest.raises(NotPossible, match="known: none"):
        fixed(alias, rows)
    outbox_settings(FIXES={"nature": "tests.fixes.missing"})
    with pytest.raises(NotPossible, match="cannot be imported"):
        fixed(alias, rows)


def test_an_edited_record_is_validated_and_supersedes_the_original(context, alias, sandbox, clock):
    (row,) = rejected(context, alias, 1)
    with pytest.raises(InvalidRecord, match="_nature"):
        edit_record(alias, row.pk, record(1, _nature="wrong"))
    assert state_of(row) == "rejected"
    newer = edit_record(alias, row.pk, record(1), by="anna", reason="typo")
    assert (state_of(row), newer.state) == ("superseded", "pending")
    action = OutboxAction.objects.using(alias).get()
    assert (action.kind, action.by, action.reason, action.target) == (
        "edit",
        "anna",
        "typo",
        f"record #{row.pk}",
    )
    with pytest.raises(NotPossible, match="Only rejected records are edited"):
        edit_record(alias, row.pk, record(1))
    relay(context, 60)
    clock.move(60)
    poll(context, 60)
    assert state_of(newer) == "delivered"


def test_a_record_with_a_newer_version_is_not_edited(context, alias, sandbox):
    (row,) = rejected(context, alias, 1)
    (newer,) = enqueue(alias, 1)
    with pytest.raises(NotPossible, match=f"newer version, record #{newer.pk}"):
        edit_record(alias, row.pk, record(1))
    with pytest.raises(NotPossible, match="No record #999999"):
        edit_record(alias, 999999, record(1))


def test_a_record_that_failed_again_is_told_apart(context, alias, sandbox):
    first, second = rejected(context, alias, 1, 2)
    job = jobs.create(alias, "retry")
    jobs.collect(job, select_records(alias, ids=(first.pk,)))
    jobs.confirm(job)
    jobs.run_operations(alias, 60)
    relay(context, 60)
    assert state_of(first) == "rejected"
    again = select_records(alias, state="rejected", failed_again=True)
    assert list(again.values_list("pk", flat=True)) == [first.pk]
    assert second.pk != first.pk

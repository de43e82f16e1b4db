"""Rejected records that a newer version has corrected, and signatures of older rejections, on every database."""

from __future__ import annotations

from evermuse_outbox import outbox
from evermuse_outbox.delivery.loop import poll, relay
from evermuse_outbox.models import OutboxRecord, OutboxRejection
from evermuse_outbox.upkeep import (
    CorrectionCursor,
    complete_signatures,
    correct_rejected,
    purge_old_rows,
    rejections,
)
from tests.records import make_invalid, record


def reject(context, *numbers):
    """Let Evermuse reject the first version of these records."""
    rows = [outbox.enqueue(record(number), using=context.using) for number in numbers]
    make_invalid(*rows)
    relay(context, 60)
    return rows


def send_corrected(context, *numbers):
    return [outbox.enqueue(record(number, data={"version": 2}), using=context.using) for number in numbers]


def deliver(context, clock):
    relay(context, 60)
    clock.move(5)
    poll(context, 60)


def state_of(row):
    return OutboxRecord.objects.using(row._state.db).get(pk=row.pk).state


def test_a_delivered_newer_version_corrects_a_rejected_record(alias, context, clock, only_legal_changes):
    (rejected, other) = reject(context, 1, 2)
    (newer,) = send_corrected(context, 1)
    assert correct_rejected(alias, CorrectionCursor()) == 0  # not delivered yet
    deliver(context, clock)
    assert correct_rejected(alias, CorrectionCursor()) == 1
    row = OutboxRecord.objects.using(alias).get(pk=rejected.pk)
    assert (row.state, row.superseded_by) == ("superseded", newer.pk)
    assert row.rejections.count() == 1
    assert state_of(other) == "rejected"
    clock.move(15 * 86_400)
    OutboxRecord.rows.using(alias).update(enqueued_at=clock.now())
    purge_old_rows(alias, context.clock, 14)
    assert not OutboxRecord.rows.using(alias).filter(pk__in=[rejected.pk, newer.pk]).exists()


def test_a_newer_version_that_was_rejected_too_corrects_nothing(alias, context, clock):
    reject(context, 1)
    reject(context, 1)
    deliver(context, clock)
    assert correct_rejected(alias, CorrectionCursor()) == 0


def test_each_run_examines_a_part_of_the_rejected_records(alias, context, clock, monkeypatch):
    monkeypatch.setattr(rejections, "RECORDS_PER_RUN", 2)
    reject(context, *range(5))
    send_corrected(context, *range(5))
    deliver(context, clock)
    cursor = CorrectionCursor()
    counts = [correct_rejected(alias, cursor, now=100.0) for _ in range(3)]
    assert counts == [2, 2, 1]
    assert (cursor.after, cursor.rests_until) == (0, 100.0 + rejections.PASS_INTERVAL)


def test_a_rejection_has_a_signature(alias, context):
    (row,) = reject(context, 1)
    assert row.rejections.get().signature
    message = 'Product "abc-7" is unknown.'
    stored = OutboxRejection.objects.using(alias).create(
        record=row, code="BAD", message=message, rejected_at=row.enqueued_at
    )
    assert stored.signature == "product … is unknown."


def test_rejections_that_were_stored_without_a_signature_get_one(alias, context):
    (row,) = reject(context, 1)
    rows = OutboxRejection.objects.using(alias)
    expected = row.rejections.get().signature
    rows.update(signature="")
    assert complete_signatures(alias) == 1
    assert row.rejections.get().signature == expected
    assert complete_signatures(alias) == 0
    rows.update(signature="", message="")
    assert complete_signatures(alias) == 1
    assert complete_signatures(alias) == 0  # an empty message does not return in each run

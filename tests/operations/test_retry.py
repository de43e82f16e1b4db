"""What a person may ask for, and what must be refused, on every database."""

from __future__ import annotations

from evermuse_outbox import outbox
from evermuse_outbox.delivery.loop import poll, relay
from evermuse_outbox.models import OutboxRecord
from evermuse_outbox.operations import retry_records
from evermuse_outbox.sandbox import Fault
from evermuse_outbox.upkeep import purge_old_rows
from tests.delivery.helpers import state_of
from tests.records import make_invalid, record, store_line


def rejected(context, alias, number, **changes):
    row = outbox.enqueue(record(number, **changes), using=alias)
    make_invalid(row)
    relay(context, 60)
    assert state_of(row) == "rejected"
    return row


def work(context, clock):
    for _ in range(20):
        relay(context, 60)
        clock.move(60)
        poll(context, 60)


def test_a_retried_record_is_pending_and_then_delivered(context, alias, sandbox, clock):
    row = rejected(context, alias, 1)
    store_line(row, row.payload.replace("nonsense", "evidence"))
    assert retry_records(alias, [row.pk]).reopened == (row.pk,)
    assert state_of(row) == "pending"
    relay(context, 60)
    clock.move(5)
    poll(context, 60)
    assert state_of(row) == "delivered"
    assert row.rejections.count() == 1


def test_only_rejected_records_are_retried(context, alias, sandbox):
    pending = outbox.enqueue(record(1), using=alias)
    assert retry_records(alias, [pending.pk, 10**9]) == retry_records(alias, [])


def test_an_older_version_is_refused_while_a_newer_one_is_pending_or_delivered(context, alias, sandbox):
    row = rejected(context, alias, 1)
    newer = outbox.enqueue(record(1, data={"version": 2}), using=alias)
    assert retry_records(alias, [row.pk]).refused == {row.pk: newer.pk}
    relay(context, 60)
    assert retry_records(alias, [row.pk]).refused == {row.pk: newer.pk}


def test_an_older_version_is_refused_after_a_newer_one_was_accepted_and_failed(
    context, alias, sandbox, clock
):
    row = rejected(context, alias, 1)
    newer = outbox.enqueue(record(1, data={"version": 2}), using=alias)
    sandbox.fail_next(Fault(batch_fails=True), count=None)
    work(context, clock)
    assert state_of(newer) == "rejected"
    assert retry_records(alias, [row.pk]).refused == {row.pk: newer.pk}
    # Nor does it help to take the newer one back, before its own retry or after it.
    assert retry_records(alias, [newer.pk]).reopened == (newer.pk,)
    assert OutboxRecord.objects.using(alias).filter(pk=newer.pk).discard() == 1
    assert retry_records(alias, [row.pk]).refused == {row.pk: newer.pk}
    clock.move(400 * 86_400)
    purge_old_rows(alias, context.clock, 14)
    assert retry_records(alias, [row.pk]).refused == {row.pk: newer.pk}


def test_an_older_version_is_refused_after_an_accepted_one_was_superseded_by_a_rejected_one(
    context, alias, sandbox, clock
):
    row = rejected(context, alias, 1)
    accepted = outbox.enqueue(record(1, data={"version": 2}), using=alias)
    sandbox.fail_next(Fault(batch_fails=True))
    relay(context, 60)
    last = outbox.enqueue(record(1, data={"version": 3}), using=alias)
    make_invalid(last)
    work(context, clock)
    assert (state_of(accepted), state_of(last)) == ("superseded", "rejected")
    assert retry_records(alias, [row.pk]).refused == {row.pk: accepted.pk}
    clock.move(400 * 86_400)
    purge_old_rows(alias, context.clock, 14)
    assert retry_records(alias, [row.pk]).refused == {row.pk: accepted.pk}


def test_a_newer_version_that_was_never_accepted_stands_in_nobodys_way(context, alias, sandbox):
    row = rejected(context, alias, 1)
    rejected(context, alias, 1, data={"version": 2})
    assert retry_records(alias, [row.pk]).reopened == (row.pk,)


def test_what_a_batch_has_taken_is_not_taken_out_by_a_late_retry(context, alias, sandbox):
    row = outbox.enqueue(record(1), using=alias)
    relay(context, 60)
    assert OutboxRecord.rows.using(alias).reopen([row.pk]) == 0
    assert state_of(row) == "in_flight"


def test_discarding_takes_back_what_no_batch_has_taken(context, alias, sandbox):
    failed = rejected(context, alias, 1)
    flying = outbox.enqueue(record(2), using=alias)
    relay(context, 60)
    waiting = outbox.enqueue(record(3), using=alias)
    assert OutboxRecord.objects.using(alias).all().discard() == 2
    assert [state_of(row) for row in (failed, flying, waiting)] == ["discarded", "in_flight", "discarded"]

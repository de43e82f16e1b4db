"""Rejections: the errors of an answer are assigned to records by position, and stored with their messages."""

from __future__ import annotations

from evermuse_outbox.delivery.isolation import (
    errors_to_json,
    locate_errors,
    open_members,
    reject_open_members,
)
from evermuse_outbox.delivery.loop import relay, seal_next
from evermuse_outbox.evermuse import limits
from evermuse_outbox.evermuse.api import Accepted, RecordError
from evermuse_outbox.models import BatchState, OutboxRecord, OutboxRejection
from tests.delivery.helpers import batches, deliver, sent_keys, settle_with, state_of
from tests.records import enqueue


def test_the_records_that_a_202_names_are_rejected(context, alias, sandbox, clock):
    rows = enqueue(alias, *range(10), invalid=(3, 4))
    relay(context, 1)
    assert [state_of(row) for row in rows] == ["in_flight"] * 3 + ["rejected"] * 2 + ["in_flight"] * 5
    deliver(context, clock)
    assert [state_of(row) for row in rows] == ["delivered"] * 3 + ["rejected"] * 2 + ["delivered"] * 5
    assert len(sent_keys(sandbox)) == 1
    rejection = rows[3].rejections.get()
    assert rejection.position == 3
    assert "_nature" in rejection.message


def test_an_answer_with_more_errors_than_rejected_records_rejects_none_of_them(context, alias):
    rows = enqueue(alias, 1, 2, 3)
    errors = tuple(RecordError(index, "BAD", "bad or not") for index in (0, 1))
    settle_with(context, seal_next(context), Accepted("remote", 2, 1, 2, errors))
    assert [state_of(row) for row in rows] == ["in_flight"] * 3
    assert [batch.state for batch in batches(alias)] == [BatchState.ISOLATING, BatchState.SEALED]


def test_all_errors_of_a_record_are_joined():
    errors = [
        RecordError(1, "FIRST", "no text"),
        RecordError(0, "OTHER", "x"),
        RecordError(1, "SECOND", "no id"),
    ]
    assert locate_errors([7, 8], errors) == {
        1: RecordError(1, "FIRST", "no text\nno id"),
        0: RecordError(0, "OTHER", "x"),
    }


def test_an_error_at_a_position_that_was_not_sent_is_ignored():
    assert locate_errors([7, 8], [RecordError(2, "BAD", "x")]) == {}


def test_open_members_are_rejected_with_one_reason(context, alias):
    first, second = enqueue(alias, 1, 2)
    batch = seal_next(context).batch
    OutboxRecord.rows.using(alias).reject(
        [OutboxRejection.local(first.pk, "BAD", "its own", context.clock.now())]
    )
    reject_open_members(context, batch, "NOT_SENDABLE", "the reason")
    rejections = OutboxRejection.objects.using(alias).order_by("record")
    assert list(rejections.values_list("record", "code", "message")) == [
        (first.pk, "BAD", "its own"),
        (second.pk, "NOT_SENDABLE", "the reason"),
    ]
    assert open_members(context, batch) == ()


def test_no_more_errors_are_stored_than_evermuse_lists():
    errors = [RecordError(index, "BAD", "x") for index in range(limits.MAX_LISTED_ERRORS + 1)]
    stored = errors_to_json(errors)
    assert len(stored) == limits.MAX_LISTED_ERRORS
    assert stored[0] == {"index": 0, "code": "BAD", "message": "x"}

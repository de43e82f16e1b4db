"""Rejections: the errors of an answer are assigned to records by position, and stored with their messages."""

from __future__ import annotations

from evermuse_outbox.delivery.loop import relay, seal_next
from evermuse_outbox.evermuse.api import Accepted, RecordError
from evermuse_outbox.models import BatchState
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

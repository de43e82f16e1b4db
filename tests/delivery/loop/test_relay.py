"""One batch through the relay: which batch is sent first, and the steps that send none."""

from __future__ import annotations

import pytest

from evermuse_outbox.delivery.gates import block_for_retry_after
from evermuse_outbox.delivery.loop import Step, seal_next, send_next
from evermuse_outbox.delivery.sealing import pages
from evermuse_outbox.delivery.sending import give_back
from evermuse_outbox.models import BatchState, OutboxRecord
from evermuse_outbox.ratelimit import Reservation
from tests.delivery.helpers import batches, state_of
from tests.records import enqueue


def sent_messages(sandbox):
    """Return the ids of the messages at the sandbox, in the order of their arrival."""
    return [stored.record["_vendor_ids"]["message_id"] for stored in sandbox.records()]


@pytest.mark.parametrize(
    ("prefer_new", "expected"), [(False, ["msg-1", "msg-2"]), (True, ["msg-2", "msg-1"])]
)
def test_the_sealed_batch_is_sent_before_a_new_one_unless_new_ones_are_preferred(
    context, alias, sandbox, prefer_new, expected
):
    enqueue(alias, 1)
    give_back(context, seal_next(context))
    enqueue(alias, 2)
    steps = [send_next(context, prefer_new=prefer_new) for _ in range(3)]
    assert steps == [Step.SENT, Step.SENT, Step.IDLE]
    assert sent_messages(sandbox) == expected


def test_no_batch_is_sealed_while_the_workspace_is_blocked(context, alias, sandbox):
    block_for_retry_after(context, 60, "HTTP 429")
    (row,) = enqueue(alias, 1)
    assert send_next(context) is Step.BLOCKED
    assert state_of(row) == "pending"


def test_no_batch_is_sealed_while_enough_senders_wait_for_a_permit(context, alias, sandbox, monkeypatch):
    (row,) = enqueue(alias, 1)
    monkeypatch.setattr(context.throttle, "wait", lambda: 60.0)
    assert send_next(context) is Step.CROWDED
    assert state_of(row) == "pending"


def test_a_batch_without_a_permit_is_given_back(context, alias, sandbox, monkeypatch):
    enqueue(alias, 1)
    monkeypatch.setattr(context.throttle, "reserve", lambda patience: Reservation(60.0, taken=False))
    assert send_next(context) is Step.BLOCKED
    assert sandbox.arrivals == []
    (batch,) = batches(alias)
    assert (batch.state, batch.lease_token, batch.failures) == (BatchState.SEALED, None, 0)


def test_a_race_during_the_sealing_is_tried_again_later(context, alias, sandbox, monkeypatch):
    first, second = enqueue(alias, 1, 2)
    read_page = pages.read_page

    def read_and_discard(*arguments):
        page = read_page(*arguments)
        OutboxRecord.rows.using(alias).filter(pk=first.pk).discard()
        return page

    with monkeypatch.context() as patch:
        patch.setattr(pages, "read_page", read_and_discard)
        assert send_next(context) is Step.BLOCKED
    assert (batches(alias), state_of(second)) == ([], "pending")
    assert send_next(context) is Step.SENT
    assert state_of(second) == "in_flight"

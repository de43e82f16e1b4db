"""Signals of settled batches and records: after the commit, in bulk, and only for what this process has changed."""

from __future__ import annotations

import logging

import pytest
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext

from evermuse_outbox import signals
from evermuse_outbox.models import OutboxBatch, OutboxRecord, OutboxRejection
from evermuse_outbox.models.batch import TRANSITIONS
from evermuse_outbox.sandbox import Fault
from tests.delivery.helpers import batches, deliver
from tests.models.rows import NOW, add_batch, add_record
from tests.models.test_batch import CHANGES
from tests.records import enqueue

SETTLING = {
    "accept",
    "refuse",
    "split_changed",
    "complete",
    "fail_accepted",
    "refuse_accepted",
    "abandon",
    "withdraw",
}
"""Transitions that end sending or polling. The others leave the batch open, or follow one of these."""


@pytest.fixture
def connect():
    """Return a function that connects a receiver until the end of the test. It gets the arguments of each call."""
    connected = []

    def connect_until_the_end(signal, receive):
        def receiver(sender, signal, **arguments):
            receive(sender, arguments)

        signal.connect(receiver, weak=False)
        connected.append((signal, receiver))

    yield connect_until_the_end
    for signal, receiver in connected:
        signal.disconnect(receiver)


@pytest.fixture
def received(connect):
    """The calls of both signals, in order: the model, and the arguments."""
    calls = []
    for signal in (signals.batch_settled, signals.records_settled):
        connect(signal, lambda sender, arguments: calls.append((sender, arguments)))
    return calls


def about_records(received):
    return [arguments for sender, arguments in received if sender is OutboxRecord]


def outcomes_of(received, batch):
    return [
        arguments["outcome"]
        for sender, arguments in received
        if sender is OutboxBatch and arguments["batch_id"] == batch.pk
    ]


@pytest.mark.commits
def test_a_delivery_sends_each_result_once(context, alias, clock, received):
    good, bad, last = enqueue(alias, 1, 2, 3, invalid=[2])
    deliver(context, clock)
    (batch,) = batches(alias)
    common = {"using": alias, "workspace": "default", "batch_id": batch.pk}
    of_batch = {"type": "message", "product_id": "prod-abc", "record_count": 3} | common
    assert received == [
        (OutboxBatch, of_batch | {"outcome": "accepted"}),
        (OutboxRecord, common | {"outcome": "rejected", "record_ids": (bad.pk,)}),
        (OutboxBatch, of_batch | {"outcome": "complete"}),
        (OutboxRecord, common | {"outcome": "delivered", "record_ids": (good.pk, last.pk)}),
    ]


@pytest.mark.commits
def test_batches_that_are_completed_by_one_read_send_one_call_each(context, alias, clock, received):
    rows = [enqueue(alias, 1)[0], enqueue(alias, 2, _product_id="prod-2")[0]]
    deliver(context, clock)
    delivered = [arguments["record_ids"] for arguments in about_records(received)]
    assert sorted(delivered) == [(row.pk,) for row in rows]


@pytest.mark.commits
def test_a_batch_in_doubt_is_not_settled(context, alias, sandbox, clock, received):
    enqueue(alias, 1)
    sandbox.fail_next(Fault.drop_after())
    deliver(context, clock)
    (batch,) = batches(alias)
    assert outcomes_of(received, batch) == ["accepted", "complete"]


@pytest.mark.commits
def test_a_refused_batch_and_those_its_records_go_on_in(context, alias, sandbox, clock, received):
    enqueue(alias, 1, 2)
    sandbox.fail_next(
        Fault(status=413, body={"error": {"code": "PAYLOAD_TOO_LARGE", "message": "too large"}})
    )
    deliver(context, clock)
    parent, *halves = batches(alias)
    assert outcomes_of(received, parent) == ["refused"]
    assert [outcomes_of(received, half) for half in halves] == [["accepted", "complete"]] * 2


@pytest.mark.commits
@pytest.mark.parametrize("method", TRANSITIONS)
def test_a_transition_sends_its_target_if_it_ends_sending_or_polling(alias, received, method):
    batch = add_batch(alias, TRANSITIONS[method].sources[0])
    CHANGES[method](OutboxBatch.objects.using(alias), batch)
    expected = [str(TRANSITIONS[method].target)] if method in SETTLING else []
    assert outcomes_of(received, batch) == expected


@pytest.mark.commits
def test_a_change_that_changes_nothing_sends_nothing(alias, received):
    batch = add_batch(alias, "sealed")
    rows = OutboxBatch.objects.using(alias)
    assert not rows.complete([batch.pk])
    assert not rows.fail_accepted(batch)
    assert not rows.accept(batch)
    assert received == []


@pytest.mark.commits
def test_only_batches_that_this_process_has_completed_are_sent(alias, received):
    first, second = add_batch(alias, "accepted"), add_batch(alias, "accepted")
    rows = OutboxBatch.objects.using(alias)
    rows.complete([first.pk], finished_at=NOW)
    received.clear()
    rows.complete([first.pk, second.pk], finished_at=NOW.replace(year=NOW.year + 1))
    assert [arguments["batch_id"] for _, arguments in received] == [second.pk, second.pk]


@pytest.mark.commits
def test_a_transaction_that_is_rolled_back_sends_nothing(alias, received, caplog):
    batch, record = add_batch(alias, "accepted"), add_record(alias)
    with pytest.raises(ZeroDivisionError), transaction.atomic(using=alias):
        OutboxBatch.objects.using(alias).complete([batch.pk], finished_at=NOW)
        OutboxRecord.rows.using(alias).reject([OutboxRejection.local(record.pk, "NO", "no", NOW)])
        1 / 0  # noqa: B018
    assert received == []
    assert caplog.records == []


@pytest.mark.commits
def test_a_receiver_reads_committed_rows_outside_of_the_transaction(context, alias, clock, connect):
    seen = []

    def receive(sender, arguments):
        state = OutboxBatch.objects.using(alias).get(pk=arguments["batch_id"]).state
        seen.append((arguments["outcome"], state, connections[alias].in_atomic_block))

    connect(signals.batch_settled, receive)
    enqueue(alias, 1)
    deliver(context, clock)
    assert seen == [("accepted", "accepted", False), ("complete", "complete", False)]


@pytest.mark.commits
def test_a_receiver_that_fails_is_logged_and_the_delivery_goes_on(
    context, alias, clock, connect, received, caplog
):
    def fail(sender, arguments):
        raise RuntimeError("a defect of the host")

    connect(signals.batch_settled, fail)
    connect(signals.records_settled, fail)
    (row,) = enqueue(alias, 1)
    deliver(context, clock)
    row.refresh_from_db()
    assert row.state == "delivered"
    assert [arguments["outcome"] for _, arguments in received] == ["accepted", "complete", "delivered"]
    assert [record.levelno for record in caplog.records if record.name == "django.dispatch"] == [
        logging.ERROR
    ] * 3


@pytest.mark.commits
def test_without_a_receiver_nothing_is_read(alias, connect):
    def statements():
        batch = add_batch(alias, "accepted")
        with CaptureQueriesContext(connections[alias]) as captured:
            OutboxBatch.objects.using(alias).complete([batch.pk], finished_at=NOW)
        return len(captured)

    assert statements() == 1
    connect(signals.records_settled, lambda sender, arguments: None)
    assert statements() == 3  # the batches, and the records of the only one


@pytest.mark.commits
def test_a_host_that_commits_by_hand_gets_no_signal(alias, received):
    batch = add_batch(alias, "accepted")
    connections[alias].set_autocommit(False)
    try:
        OutboxBatch.objects.using(alias).complete([batch.pk], finished_at=NOW)
        connections[alias].commit()
    finally:
        connections[alias].set_autocommit(True)
    assert received == []


def test_every_signal_is_documented():
    documented = signals.__dict__.keys() & {
        "batch_settled",
        "records_settled",
        "incident_opened",
        "incident_closed",
        "workspace_failing",
        "workspace_exhausted",
        "workspace_recovered",
        "group_failing",
        "group_exhausted",
        "group_recovered",
        "run_finished",
        "run_needs_person",
        "pressure_changed",
    }
    defined = {name for name, value in vars(signals).items() if isinstance(value, signals.Signal)}
    assert documented == defined

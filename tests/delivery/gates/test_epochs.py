"""A restored database is noticed before anything is sent from it, and a normal crash raises no alarm."""

from __future__ import annotations

import dataclasses
import logging
import sys

import pytest

from evermuse_outbox.delivery.context import CLOSED, EpochStoreUnavailable, epoch_name
from evermuse_outbox.delivery.context.epochs import MemoryEpochs
from evermuse_outbox.delivery.gates import is_current, record_sealed
from evermuse_outbox.delivery.loop import Step, seal_next, send_next
from evermuse_outbox.models import BatchState, OutboxBatch, OutboxWorkspace, WorkspaceState
from tests.backup import restore_backup, take_backup
from tests.delivery.helpers import batches, deliver, posts, workspace
from tests.records import enqueue


@pytest.fixture
def context(context):
    return dataclasses.replace(context, epochs=MemoryEpochs())


@pytest.fixture
def restored(context, alias, clock):
    """Return a function that restores the outbox as it was before so many batches were sealed and sent."""

    def restore(lost, backlog=()):
        enqueue(alias, 1, 2, 3)
        deliver(context, clock)
        enqueue(alias, *backlog) if backlog else None
        backup = take_backup(alias)
        for number in range(lost):
            enqueue(alias, f"lost-{number}")
            deliver(context, clock)
        restore_backup(alias, backup)

    return restore


@pytest.mark.parametrize("lost", [1, 2, 5])
def test_nothing_new_is_sent_from_a_restored_database(context, alias, clock, sandbox, restored, lost):
    restored(lost)
    sent = len(posts(sandbox))
    enqueue(alias, *range(10, 20))
    assert send_next(context) is Step.BLOCKED
    row = workspace(alias)
    assert (row.state, row.blocked_until) == (WorkspaceState.RESTORED, None)
    assert "outbox_reconcile" in row.reason
    clock.move(3_600)
    deliver(context, clock)
    assert len(posts(sandbox)) == sent


def test_a_batch_of_the_backup_is_not_sent_again(context, alias, clock, sandbox, restored):
    enqueue(alias, "old")
    sealed = seal_next(context)
    OutboxBatch.objects.using(alias).mark_in_doubt(sealed.batch, due_at=clock.now())
    backup = take_backup(alias)
    context.epochs.record(epoch_name(sealed.epoch, "default"), sealed.number, sealed.batch.key)
    deliver(context, clock)
    enqueue(alias, "newer")
    deliver(context, clock)
    sent = len(posts(sandbox))
    restore_backup(alias, backup)
    assert send_next(context) is Step.BLOCKED
    assert [row.state for row in batches(alias)] == [BatchState.IN_DOUBT]
    assert (workspace(alias).state, len(posts(sandbox))) == (WorkspaceState.RESTORED, sent)


def test_senders_that_seal_while_the_database_is_replaced_notice_it_together(context, alias, clock, restored):
    """They all passed the circuit before, and together they seal as many batches as were lost."""
    restored(2)
    enqueue(alias, 10)
    first = seal_next(context)
    enqueue(alias, 11)
    second = seal_next(context)
    assert workspace(alias).batch_count == context.epochs.latest(epoch_name(first.epoch, "default"))
    for sealed in (second, first):
        assert not record_sealed(context, sealed.epoch, sealed.number, sealed.batch.key)


def test_a_backup_after_which_nothing_was_sealed_goes_on(context, alias, clock, sandbox, restored):
    restored(0, backlog=(8, 9))
    deliver(context, clock)
    assert workspace(alias).state == WorkspaceState.ACTIVE
    assert len(sandbox.records()) == 5


def test_senders_may_record_in_another_order_than_they_sealed(context, alias, clock):
    enqueue(alias, 1)
    first = seal_next(context)
    enqueue(alias, 2)
    second = seal_next(context)
    for sealed in (second, first, second, first):
        assert record_sealed(context, sealed.epoch, sealed.number, sealed.batch.key)
    assert is_current(context, first.epoch)


def test_a_sealing_that_is_rolled_back_uses_no_number(context, alias, clock, monkeypatch):
    def fail(*_):
        raise RuntimeError("killed before the COMMIT")

    enqueue(alias, 1)
    with monkeypatch.context() as patched, pytest.raises(RuntimeError):
        patched.setattr(sys.modules["evermuse_outbox.delivery.loop.relay"], "save_run_queue", fail)
        seal_next(context)
    deliver(context, clock)
    assert (workspace(alias).state, workspace(alias).batch_count) == (WorkspaceState.ACTIVE, 1)


def test_a_worker_that_dies_between_sealing_and_recording_raises_no_alarm(context, alias, clock, sandbox):
    enqueue(alias, 1)
    dead = seal_next(context)
    enqueue(alias, 2)
    deliver(context, clock)
    assert OutboxBatch.objects.using(alias).mark_in_doubt(dead.batch, due_at=clock.now())
    deliver(context, clock)
    assert workspace(alias).state == WorkspaceState.ACTIVE
    assert len(sandbox.records()) == 2


def test_a_store_that_was_emptied_blocks_nothing_and_is_logged(context, alias, clock, sandbox, caplog):
    enqueue(alias, 1)
    deliver(context, clock)
    emptied = dataclasses.replace(context, epochs=MemoryEpochs())
    enqueue(alias, 2)
    with caplog.at_level(logging.WARNING):
        deliver(emptied, clock)
    assert "begins at batch number 2" in caplog.text
    assert len(sandbox.records()) == 2


def test_workspaces_and_databases_have_epochs_of_their_own(context, alias, clock):
    enqueue(alias, 1)
    deliver(context, clock)
    rows = OutboxWorkspace.objects.using(alias)
    other = rows.create(name="other")
    assert other.epoch != workspace(alias).epoch
    assert is_current(
        dataclasses.replace(context, workspace=dataclasses.replace(context.workspace, name="other")),
        other.epoch,
    )


def test_a_row_that_was_deleted_begins_a_new_epoch(context, alias, clock, sandbox):
    enqueue(alias, 1)
    deliver(context, clock)
    OutboxWorkspace.objects.using(alias).all().delete()
    enqueue(alias, 2)
    deliver(context, clock)
    assert workspace(alias).state == WorkspaceState.ACTIVE
    assert len(sandbox.records()) == 2


def test_a_database_whose_epoch_was_ended_is_older_for_certain(context, alias, clock):
    enqueue(alias, 1)
    deliver(context, clock)
    context.epochs.record(epoch_name(workspace(alias).epoch, "default"), CLOSED, "closed")
    enqueue(alias, 2)
    assert send_next(context) is Step.BLOCKED
    assert workspace(alias).state == WorkspaceState.RESTORED


def test_without_the_store_nothing_is_sent_and_the_batch_is_given_back(context, alias, clock, sandbox):
    class Broken(MemoryEpochs):
        def record(self, *_):
            raise EpochStoreUnavailable("Redis holds the epochs and does not answer")

    enqueue(alias, 1)
    assert send_next(dataclasses.replace(context, epochs=Broken())) is Step.BLOCKED
    assert workspace(alias).state == WorkspaceState.BACKING_OFF
    assert [row.state for row in batches(alias)] == [BatchState.SEALED]
    assert posts(sandbox) == []
    clock.move(60)
    deliver(context, clock)
    assert len(sandbox.records()) == 1


def test_a_batch_costs_one_call_of_the_store(context, alias, clock):
    class Counting(MemoryEpochs):
        calls = 0

        def record(self, *arguments):
            self.calls += 1
            return super().record(*arguments)

        def latest(self, *arguments):
            self.calls += 1
            return super().latest(*arguments)

    store = Counting()
    enqueue(alias, *range(5))
    assert send_next(dataclasses.replace(context, epochs=store)) is Step.SENT
    assert store.calls == 1

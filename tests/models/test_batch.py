"""Changes of state of batches, on every database: each starts from its source states only, and holds its fence."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest

from evermuse_outbox.models import BatchState, OutboxBatch, UnexpectedState
from evermuse_outbox.models.batch import TRANSITIONS
from tests.models.rows import NOW, add_batch

LATER = NOW + timedelta(minutes=1)

CHANGES = {
    "lease": lambda rows, batch: rows.lease(batch, LATER),
    "requeue": lambda rows, batch: rows.requeue(batch),
    "mark_in_doubt": lambda rows, batch: rows.mark_in_doubt(batch),
    "accept": lambda rows, batch: rows.accept(batch, remote_id="remote"),
    "refuse": lambda rows, batch: rows.refuse(batch),
    "split_changed": lambda rows, batch: rows.split_changed(batch),
    "complete": lambda rows, batch: rows.complete([batch.pk]),
    "fail_accepted": lambda rows, batch: rows.fail_accepted(batch),
    "refuse_accepted": lambda rows, batch: rows.refuse_accepted(batch),
    "isolate": lambda rows, batch: rows.isolate(batch, {"suspects": 1}),
    "split": lambda rows, batch: rows.split(batch, NOW),
    "abandon": lambda rows, batch: rows.abandon(batch, NOW, "discarded"),
    "withdraw": lambda rows, batch: rows.withdraw(batch, NOW, "paused"),
}
RAISING = ("isolate", "split")


def state_of(alias, batch):
    return OutboxBatch.objects.using(alias).get(pk=batch.pk).state


def test_every_transition_has_a_method_that_is_tested_here():
    assert set(CHANGES) == set(TRANSITIONS)
    assert all(hasattr(OutboxBatch.objects, name) for name in TRANSITIONS)


@pytest.mark.parametrize("method", CHANGES)
@pytest.mark.parametrize("state", list(BatchState))
def test_a_change_starts_from_its_source_states_only(alias, method, state):
    batch = add_batch(alias, state)
    rows, transition = OutboxBatch.objects.using(alias), TRANSITIONS[method]
    if state in transition.sources:
        assert CHANGES[method](rows, batch) in (True, 1, None)
        assert state_of(alias, batch) == transition.target
    else:
        if method in RAISING:
            with pytest.raises(UnexpectedState, match=f"batch {batch.pk} is not"):
                CHANGES[method](rows, batch)
        else:
            assert not CHANGES[method](rows, batch)
        assert state_of(alias, batch) == state


@pytest.mark.parametrize("method", ["requeue", "mark_in_doubt", "accept", "refuse", "split_changed"])
def test_a_lease_that_was_taken_over_settles_nothing(alias, method):
    batch = add_batch(alias, "sending")
    rows = OutboxBatch.objects.using(alias)
    rows.update(lease_token=uuid.uuid4())
    assert not CHANGES[method](rows, batch)
    assert state_of(alias, batch) == BatchState.SENDING


def test_a_settled_batch_has_no_lease_in_the_row_or_in_memory(alias):
    batch = add_batch(alias, "sending")
    assert OutboxBatch.objects.using(alias).accept(batch, remote_id="remote")
    stored = OutboxBatch.objects.using(alias).get()
    for row in (batch, stored):
        assert (row.state, row.lease_token, row.leased_until) == (BatchState.ACCEPTED, None, None)
        assert row.remote_id == "remote"


def test_a_batch_that_was_rescheduled_meanwhile_is_not_leased(alias):
    """Another worker may have leased it and given it back with a later time since it was read."""
    batch = add_batch(alias)
    rows = OutboxBatch.objects.using(alias)
    rows.update(due_at=LATER)
    assert not rows.lease(batch, LATER)
    assert state_of(alias, batch) == BatchState.SEALED
    assert batch.state == BatchState.SEALED


def test_a_batch_is_leased_once(alias):
    first = add_batch(alias)
    rows = OutboxBatch.objects.using(alias)
    second = rows.get()
    assert rows.lease(first, LATER)
    assert not rows.lease(second, LATER)


@pytest.mark.parametrize(("was_in_doubt", "state"), [(False, BatchState.SEALED), (True, BatchState.IN_DOUBT)])
def test_give_back_keeps_a_batch_in_doubt(alias, was_in_doubt, state):
    batch = add_batch(alias, "sending", in_doubt=was_in_doubt)
    assert OutboxBatch.objects.using(alias).give_back(batch)
    assert (state_of(alias, batch), batch.in_doubt) == (state, was_in_doubt)


def test_a_lease_is_renewed_by_its_holder_only(alias):
    batch = add_batch(alias, "sending")
    rows = OutboxBatch.objects.using(alias)
    assert rows.renew_lease(batch, LATER)
    assert rows.get().leased_until == LATER
    batch.lease_token = uuid.uuid4()
    assert not rows.renew_lease(batch, LATER)


def test_a_status_is_written_only_to_batches_that_are_polled_and_in_the_state_that_was_read(alias):
    accepted = add_batch(alias, "accepted")
    complete = add_batch(alias, "complete")
    unpolled = add_batch(alias, "accepted", next_poll_at=None)
    rows = OutboxBatch.objects.using(alias)
    ids = [accepted.pk, complete.pk, unpolled.pk]
    assert rows.update_status(ids, BatchState.ACCEPTED, remote_status="PROCESSING") == 1
    changed = rows.exclude(remote_status="").get()
    assert (changed.pk, changed.polls) == (accepted.pk, 1)


def test_polls_are_postponed_only_if_they_are_still_due(alias):
    due = add_batch(alias, "accepted")
    rescheduled = add_batch(alias, "accepted", next_poll_at=LATER)
    rows = OutboxBatch.objects.using(alias)
    much_later = LATER + timedelta(minutes=1)
    assert rows.postpone_polls([due.pk, rescheduled.pk], NOW, much_later) == 1
    assert dict(rows.values_list("pk", "next_poll_at")) == {due.pk: much_later, rescheduled.pk: LATER}


def test_duration_is_the_time_from_sealing_to_the_end(alias):
    batch = add_batch(alias)
    assert batch.duration is None
    batch.finished_at = LATER
    assert batch.duration == timedelta(minutes=1)

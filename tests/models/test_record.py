"""Changes of state of records, on every database: each starts from its source states only."""

from __future__ import annotations

import pytest

from evermuse_outbox.models import OutboxRecord, OutboxRejection, RecordState
from evermuse_outbox.models.record_states import TRANSITIONS
from tests.models.rows import NOW, add_batch, add_record

STATES = [state for state in RecordState if state != RecordState.DELIVERED]
"""A delivered record is in flight, and its batch is complete."""

CHANGES = {
    "take_into": lambda rows, row, batch: rows.take_into(batch, [row.pk]),
    "release": lambda rows, row, batch: rows.release(row.batch or batch),
    "reject": lambda rows, row, batch: rows.reject([OutboxRejection.local(row.pk, "BAD", "bad", NOW)]),
    "supersede": lambda rows, row, batch: rows.supersede({row.pk: row.pk + 1}),
    "correct": lambda rows, row, batch: rows.correct({row.pk: row.pk + 1}),
    "replace": lambda rows, row, batch: rows.replace({row.pk: row.pk + 1}),
    "discard": lambda rows, row, batch: rows.filter(pk=row.pk).discard(),
    "coalesce": lambda rows, row, batch: rows.coalesce({row.pk: row.pk + 1}),
    "hold": lambda rows, row, batch: rows.hold([row.pk]),
    "make_due": lambda rows, row, batch: rows.make_due([row.pk]),
    "expire": lambda rows, row, batch: rows.expire([row.pk]),
    "reopen": lambda rows, row, batch: rows.reopen([row.pk]),
}


def add(alias, state):
    """Add a record in ``state``."""
    batch = add_batch(alias) if state == RecordState.IN_FLIGHT else None
    return add_record(alias, state, batch=batch)


def state_of(alias, row):
    return OutboxRecord.objects.using(alias).get(pk=row.pk).state


def test_every_transition_has_a_method_that_is_tested_here():
    assert set(CHANGES) == set(TRANSITIONS)
    assert all(hasattr(OutboxRecord.rows, name) for name in TRANSITIONS)


@pytest.mark.parametrize("method", CHANGES)
@pytest.mark.parametrize("state", STATES)
def test_a_change_starts_from_its_source_states_only(alias, method, state):
    row, batch = add(alias, state), add_batch(alias)
    transition = TRANSITIONS[method]
    is_legal = state in transition.sources
    assert CHANGES[method](OutboxRecord.rows.using(alias), row, batch) == int(is_legal)
    assert state_of(alias, row) == (transition.target if is_legal else state)


def test_a_record_moves_only_from_its_batch(alias):
    first, second, third = (add_batch(alias) for _ in range(3))
    row = add_record(alias, batch=first)
    rows = OutboxRecord.rows.using(alias)
    assert rows.move([row.pk], second, third) == 0
    assert rows.move([row.pk], first, third) == 1
    assert rows.get().batch == third


def test_a_rejected_record_keeps_its_batch_until_it_is_reopened(alias):
    batch = add_batch(alias)
    row = add_record(alias, batch=batch)
    rows = OutboxRecord.rows.using(alias)
    rows.reject(
        [OutboxRejection(record=row, batch=batch, position=0, code="BAD", message="bad", rejected_at=NOW)]
    )
    assert rows.get().batch == batch
    assert rows.reopen([row.pk]) == 1
    assert (rows.get().batch, state_of(alias, row)) == (None, "pending")
    assert OutboxRejection.objects.using(alias).get().message == "bad"


@pytest.mark.parametrize("state", list(RecordState))
def test_each_state_is_annotated_derived_and_found_alike(alias, state):
    batch = {"in_flight": "sending", "delivered": "complete"}.get(state)
    row = add_record(alias, state, batch=add_batch(alias, batch) if batch else None)
    assert OutboxRecord.objects.using(alias).get().state == state
    assert OutboxRecord.rows.using(alias).get().state == state
    for other in RecordState:
        matches = OutboxRecord.rows.using(alias).in_state(other)
        assert list(matches) == ([row] if other == state else [])


def test_versions_of_an_identity_know_each_other(alias):
    batch = add_batch(alias)
    older = add_record(alias, batch=batch)
    newer = add_record(alias, identity=older.identity)
    single = add_record(alias)
    rows = OutboxRecord.rows.using(alias)
    assert list(rows.sole_versions()) == [single]
    versions = {row.pk: (row.newer, row.older_batch) for row in rows.with_versions()}
    assert versions == {older.pk: (newer.pk, None), newer.pk: (None, batch.pk), single.pk: (None, None)}


@pytest.mark.parametrize(
    ("state", "code", "blocks"),
    [
        ("pending", None, True),
        ("superseded", None, False),
        ("superseded", "BAD", True),
        ("discarded", None, False),
        ("rejected", "BAD", False),
        ("rejected", "FAILED", True),
        ("discarded", "NOT_SENDABLE", True),
    ],
)
def test_a_version_that_evermuse_may_have_blocks_older_ones(alias, state, code, blocks):
    row = add_record(alias, state)
    if code:
        rejection = OutboxRejection.local(row.pk, code, "bad", NOW)
        rejection.save(using=alias)
    assert list(OutboxRecord.rows.using(alias).versions_that_block_older()) == ([row] if blocks else [])

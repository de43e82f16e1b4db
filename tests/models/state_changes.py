"""Record every change of state that a test makes, and compare them with the transitions of the models.

Triggers in SQLite write the changes down, so nothing escapes them: no raw SQL, no bulk update, no other thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from django.db import connections, models

from evermuse_outbox.models import (
    OutboxBatch,
    OutboxGroup,
    OutboxRecord,
    OutboxWorkspace,
    batch,
    group,
    record_states,
)
from evermuse_outbox.models import workspace as workspaces
from evermuse_outbox.models.transitions import NO_ROW, Transition


class Machine(NamedTuple):
    """A model, its transitions, and SQL for the state of a row."""

    model: type[models.Model]
    transitions: Mapping[str, Transition]
    state: str = "{row}.state"


# A delivered record is in flight here: its own row does not change when its batch is complete.
RECORD_STATE = """
    CASE WHEN {row}.closed_as IS NOT NULL THEN {row}.closed_as
    WHEN {row}.batch_id IS NULL THEN 'pending' ELSE 'in_flight' END"""

MACHINES = {
    machine.model.__name__: machine
    for machine in (
        Machine(OutboxRecord, record_states.TRANSITIONS, RECORD_STATE),
        Machine(OutboxBatch, batch.TRANSITIONS),
        Machine(OutboxGroup, group.TRANSITIONS),
        Machine(OutboxWorkspace, workspaces.TRANSITIONS),
    )
}

Change = tuple[str, str, str]
"""Name of the model, state before, state after."""


def start_recording(alias: str) -> None:
    """Create the table of changes and the triggers that fill it."""
    _execute(alias, "CREATE TABLE state_changes (model TEXT, before TEXT, after TEXT)")
    for name, event, before, after in _triggers():
        _execute(
            alias,
            f"CREATE TRIGGER {name}_{event} AFTER {event} ON {MACHINES[name].model._meta.db_table} "
            f"WHEN ({before}) <> ({after}) "
            f"BEGIN INSERT INTO state_changes VALUES ('{name}', {before}, {after}); END",
        )


def stop_recording(alias: str) -> set[Change]:
    """Drop the triggers and return the committed changes."""
    changes = set(_execute(alias, "SELECT DISTINCT model, before, after FROM state_changes"))
    for name, event, *_ in _triggers():
        _execute(alias, f"DROP TRIGGER {name}_{event}")
    _execute(alias, "DROP TABLE state_changes")
    return changes


def illegal_changes(changes: set[Change]) -> set[Change]:
    """Return the changes that no transition allows."""
    return {
        (name, before, after)
        for name, before, after in changes
        if not any(transition.is_legal(before, after) for transition in MACHINES[name].transitions.values())
    }


def _triggers() -> list[tuple[str, str, str, str]]:
    """Return model, event, and the SQL of the states before and after.

    INSERT is not recorded, because tests create rows in any state. Only groups end by a DELETE that is a transition.
    """
    state = {name: machine.state.format for name, machine in MACHINES.items()}
    updates = [(name, "UPDATE", state[name](row="OLD"), state[name](row="NEW")) for name in MACHINES]
    return [*updates, ("OutboxGroup", "DELETE", "OLD.state", f"'{NO_ROW}'")]


def _execute(alias: str, sql: str) -> list[tuple[str, ...]]:
    with connections[alias].cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else []

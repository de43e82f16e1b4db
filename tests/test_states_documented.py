"""The tables of state changes in ``docs/reference/states.md`` match the transitions of the models."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from evermuse_outbox.models import (
    BatchState,
    GroupState,
    OperationState,
    RecordState,
    RuleState,
    WorkspaceState,
    batch,
    group,
    record_states,
    workspace,
)
from evermuse_outbox.models.history import operation
from evermuse_outbox.models.rules import rule

PAGE = (Path(__file__).resolve().parent.parent / "docs/reference/states.md").read_text(encoding="utf-8")
MODELS = {
    "Record": (record_states.TRANSITIONS, RecordState),
    "Batch": (batch.TRANSITIONS, BatchState),
    "Workspace": (workspace.TRANSITIONS, WorkspaceState),
    "Group": (group.TRANSITIONS, GroupState),
    "Job": (operation.TRANSITIONS, OperationState),
    "Rule": (rule.TRANSITIONS, RuleState),
}


def section(title: str) -> str:
    """Return the part of the page below a heading."""
    return PAGE.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def cells(line: str) -> list[str]:
    return [cell.strip().replace("`", "") for cell in line.strip("|").split("|")]


def documented_changes(title: str) -> dict[str, tuple[set[str], str]]:
    """Return method → (source states, target state), as the table says."""
    table = section(title).split("| change | from | to | when |\n", 1)[1].split("\n\n", 1)[0]
    rows = [cells(line) for line in table.splitlines()[1:]]
    return {method: (set(sources.split(", ")), target) for method, sources, target, _ in rows}


@pytest.mark.parametrize("title", MODELS)
def test_the_table_of_changes_has_every_transition_of_the_model(title):
    transitions, _ = MODELS[title]
    expected = {name: ({*change.sources}, change.target) for name, change in transitions.items()}
    assert documented_changes(title) == expected


@pytest.mark.parametrize("title", MODELS)
def test_the_table_of_states_has_every_state_of_the_model(title):
    table = re.split(r"\| change \|", section(title))[0]
    assert set(re.findall(r"(?m)^\| `(\w+)` \|", table)) == set(MODELS[title][1].values)


@pytest.mark.parametrize("title", ["Record", "Batch"])
def test_the_diagram_names_every_state_and_every_change(title):
    diagram = section(title).split("```text\n", 1)[1].split("```", 1)[0]
    words = set(re.findall(r"\w+", diagram))
    transitions, states = MODELS[title]
    assert {*transitions, *states.values} <= words

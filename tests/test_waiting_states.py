"""The table of waiting states in the docs has every such state, and its tests and commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.core.management import load_command_class

from evermuse_outbox.models import DEFERRED, GroupState, RecordState, WorkspaceState
from evermuse_outbox.models.batch import OPEN

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/reference/waiting-states.md").read_text(encoding="utf-8")
COLUMNS = ["what", "state", "automatic", "manual", "test"]
ROWS = [
    dict(zip(COLUMNS, [cell.strip() for cell in line.strip("|").split("|")], strict=True))
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith(("| what", "| ---"))
]

WAITING = {
    "batch": set(OPEN),
    "workspace": set(WorkspaceState) - {WorkspaceState.ACTIVE},
    "group": {GroupState.PAUSED, GroupState.HELD},
    "record": {RecordState.PENDING, RecordState.IN_FLIGHT, RecordState.REJECTED, *DEFERRED},
}
"""Kind of row → the states in which it waits."""


@pytest.mark.parametrize("kind", WAITING)
def test_every_waiting_state_is_in_the_table(kind):
    documented = {
        re.findall(r"`(\w+)`", row["state"])[0]
        for row in ROWS
        if row["what"].startswith(kind) and "`" in row["state"]
    }
    assert {str(state) for state in WAITING[kind]} <= documented


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['what']}: {row['state']}")
def test_the_named_test_exists(row):
    file, name = row["test"].strip("`").split("::")
    assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['what']}: {row['state']}")
def test_the_named_commands_and_options_exist(row):
    parser = None
    for code in re.findall(r"`([^`]+)`", row["manual"]):
        words = code.split()
        if words[0].startswith("outbox_"):
            command = load_command_class("evermuse_outbox", words[0])
            parser = command.create_parser("manage.py", words[0])
            assert parser._option_string_actions["--reason"]
        for option in (word for word in words if word.startswith("--")):
            assert parser, code
            assert option in parser._option_string_actions, code
    has_exit = re.search(r"outbox_\w+|discard\(\)|LINGER|lease", row["manual"])
    assert has_exit, "name the command that ends it"

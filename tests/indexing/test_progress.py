"""The progress of a build is read from the database that builds, and shown on a terminal or in a log."""

from __future__ import annotations

import sys
import threading
import time

import pytest
from django.core.management import call_command
from django.db import connections

from evermuse_outbox.indexing import BuildProgress, progress, read_progress
from evermuse_outbox.management.commands import outbox_indexes
from tests.indexing.test_build import NAME, TABLE, drop

pytestmark = pytest.mark.commits


def test_there_is_no_progress_without_a_build(alias):
    assert read_progress(alias, TABLE) is None


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("row", "percent", "phase"),
    [
        ((7, "building index: scanning table", 50, 100, 0, 0, None), 25.0, "building index: scanning table"),
        ((7, "building index: loading tuples in tree", 9, 9, 0, 10, None), 55.0, None),
        ((7, "index validation: scanning table", 0, 0, 3, 4, None), 88.0, None),
        ((7, "waiting for old snapshots", 0, 0, 0, 0, 41), 99.0, "waiting for old snapshots: process 41"),
        ((7, "initializing", 0, 0, 0, 0, None), None, "initializing"),
    ],
)
def test_the_phases_of_postgresql_are_shares_of_the_build(row, percent, phase):
    assert progress._of_postgresql(row) == BuildProgress(7, percent, phase or row[1])


def test_mariadb_counts_hundredths_of_a_percent():
    assert progress._of_mariadb(7, "altering table", "3750") == BuildProgress(7, 37.5, "altering table")
    assert progress._of_mariadb(7, None, None) == BuildProgress(7, None, "")


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_progress_is_shown_while_an_index_is_built(alias, monkeypatch, capsys, is_terminal):
    if connections[alias].vendor == "sqlite":
        pytest.skip("SQLite does not say how far it is")
    is_shown = threading.Event()

    def look(using, table):
        if threading.current_thread().name == "progress":
            is_shown.set()
            return BuildProgress(7, 37.5, "scanning")
        return None  # the builder itself looks for another process

    monkeypatch.setattr(outbox_indexes, "TERMINAL_INTERVAL", 0.01)
    monkeypatch.setattr(outbox_indexes, "LOG_INTERVAL", 0.01)
    monkeypatch.setattr(outbox_indexes, "read_progress", look)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal, raising=False)
    execute = outbox_indexes.build

    def build(using, before, **options):
        def wait(step):
            before(step)
            assert is_shown.wait(60)
            time.sleep(0.05)  # until it is printed

        return execute(using, wait, **options)

    monkeypatch.setattr(outbox_indexes, "build", build)
    drop(alias)
    call_command("outbox_indexes", database=alias)
    output = capsys.readouterr()
    assert f"index {NAME} is ready" in output.out
    assert ("38 %, scanning" in output.err) != is_terminal
    assert (f"{NAME}:  38 %" in output.err) == is_terminal

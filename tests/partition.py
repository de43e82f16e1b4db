"""Which tests one version of Python and Django proves for all, and in which order the tests begin.

``.ci/run`` runs the suite on the oldest and on the newest version. Two markers, set here by rule, say what need not run
on both:

* ``servers``: the test uses PostgreSQL or MariaDB. It runs on the oldest version only.
* ``once``: the test uses neither, and is in no folder of ``REPEATED``. It runs on the newest version only.

Together with ``e2e`` and ``long``, which run on the oldest version only, each test has at least one version.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

REPEATED = (
    "tests/admin/any_admin/test_walk.py",
    "tests/admin/jobs/",
    "tests/admin/lists/",
    "tests/admin/pages/",
    "tests/conf/",
    "tests/evermuse/records/",
    "tests/models/",
    "tests/test_checks.py",
    "tests/test_commands.py",
    "tests/test_life_of_a_record.py",
    "tests/test_migrations.py",
    "tests/test_outbox.py",
    "tests/test_process_state.py",
    "tests/test_public_api.py",
    "tests/test_tasks.py",
    "tests/testing/",
)
"""Folders and files that depend on what Python and Django change: the ORM, the admin, commands, settings, typing."""

FIRST = (
    "tests/hosts/",
    "tests/e2e/",
    "tests/browser/test_every_page.py",
    "tests/test_crash_points.py",
    "tests/admin/any_admin/",
    "tests/test_versions.py",
    "tests/delivery/isolation/",
    "tests/delivery/test_failures.py",
    "tests/test_races.py",
    "tests/test_database_errors.py",
    "tests/test_writing_style.py",
    "tests/delivery/gates/",
)
"""Folders and files that take longest. They begin first, so that no process works alone in the end."""

SERVERS = ("postgres", "mariadb")


def mark_and_sort(items: list[pytest.Item]) -> None:
    """Add the markers, and put the longest files first. Tests of a file keep their order."""
    for item in items:
        if marker := marker_of(item.nodeid, {mark.name for mark in item.iter_markers()}):
            item.add_marker(marker)
    items.sort(key=lambda item: position(item.nodeid, FIRST))


def marker_of(test: str, markers: set[str]) -> str:
    """Return ``servers``, ``once`` or no marker for a test with these other markers."""
    if any(name in test.lower() for name in SERVERS):
        return "servers"
    if markers & {"e2e", "long"} or position(test, REPEATED) < len(REPEATED):
        return ""
    return "once"


def position(test: str, beginnings: Sequence[str]) -> int:
    """Return the index of the first text with which the test's id begins; the number of texts if there is none."""
    found = (index for index, text in enumerate(beginnings) if test.startswith(text))
    return next(found, len(beginnings))

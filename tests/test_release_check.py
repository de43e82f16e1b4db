"""The release checklist refuses what must not be released."""

from __future__ import annotations

import datetime
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TODAY = datetime.date(2026, 3, 1)


@pytest.fixture(scope="module")
def checklist():
    specification = importlib.util.spec_from_file_location("release_check", ROOT / ".ci/release_check.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_a_heading_with_version_and_date_is_accepted(checklist):
    assert checklist.dated_heading("# Changelog\n\n## 1.2.0 (2026-03-01)\n", "1.2.0", TODAY)


@pytest.mark.parametrize(
    "heading", ["## 1.2.0 (unreleased)", "## 1.1.0 (2026-03-01)", "## 1.2.0 (2026-02-28)", ""]
)
def test_another_heading_is_refused_with_the_right_one(checklist, heading):
    with pytest.raises(checklist.Failure, match=r"Make it '## 1\.2\.0 \(2026-03-01\)'"):
        checklist.dated_heading(f"# Changelog\n\n{heading}\n", "1.2.0", TODAY)


def test_the_files_of_a_wheel(checklist):
    names = [f"evermuse_outbox/{name}" for name in checklist.NEEDED] + [
        "evermuse_outbox-0.1.0.dist-info/METADATA"
    ]
    assert checklist.check_names(names) == f"{len(names)} files"
    for wrong in (names[1:], [*names, "tests/conftest.py"], [*names, "evermuse_outbox/__pycache__/x.pyc"]):
        with pytest.raises(checklist.Failure):
            checklist.check_names(wrong)


def test_the_files_that_the_checklist_needs_exist(checklist):
    assert [name for name in checklist.NEEDED if not (ROOT / "evermuse_outbox" / name).is_file()] == []
    assert [name for name in checklist.UPGRADE_TESTS if not (ROOT / name).is_file()] == []


def test_a_command_that_fails_shows_what_it_printed(checklist):
    with pytest.raises(checklist.Failure, match="no-such-revision"):
        checklist.output("git", "rev-parse", "--verify", "no-such-revision")

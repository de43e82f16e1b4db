"""The lock files agree with each other, and name no package index."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def locked(name: str) -> set[str]:
    """Return the packages of a lock file, each with version and condition."""
    return set(re.findall(r"^(\S+==\S+(?: ; [^\\\n]*)?)", (ROOT / name).read_text(), re.MULTILINE))


def test_the_demo_gets_the_versions_that_the_tests_get():
    demo = {line.partition(" ;")[0] for line in locked("requirements-demo.lock")}
    assert demo - {line.partition(" ;")[0] for line in locked("requirements.lock")} == set()
    assert len(demo) < len(locked("requirements.lock")) / 2


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-demo.lock"])
def test_each_package_has_hashes_and_no_index_is_named(name):
    text = (ROOT / name).read_text()
    assert "://" not in text
    packages = re.split(r"^(?=\S)", text, flags=re.MULTILINE)[1:]
    assert packages
    assert [package for package in packages if "--hash=sha256:" not in package] == []

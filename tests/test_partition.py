"""Each test runs on at least one version of Python and Django, and what depends on the version runs on both."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.partition import FIRST, REPEATED, marker_of

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("test", "markers", "marker"),
    [
        ("tests/delivery/test_x.py::test_a[sqlite]", set(), "once"),
        ("tests/delivery/test_x.py::test_a[postgres]", set(), "servers"),
        ("tests/delivery/test_x.py::test_a[mariadb-1]", {"long"}, "servers"),
        ("tests/models/test_x.py::test_a[sqlite]", set(), ""),
        ("tests/models/test_x.py::test_a[mariadb]", set(), "servers"),
        ("tests/e2e/test_x.py::test_a", {"e2e"}, ""),
        ("tests/test_x.py::test_a", {"long"}, ""),
    ],
)
def test_marker_of_a_test(test, markers, marker):
    assert marker_of(test, markers) == marker


@pytest.mark.parametrize("path", [*REPEATED, *FIRST])
def test_each_named_path_exists(path):
    assert (ROOT / path).exists()


def selections() -> list[set[str]]:
    """Return for each run of the suite in CI the markers that it leaves out."""
    expressions = re.findall(r'-m "(not e2e[^"]*)"', (ROOT / ".ci/run").read_text())
    return [set(re.findall(r"not (\w+)", expression)) for expression in expressions]


@pytest.mark.parametrize(
    ("test", "markers"),
    [("tests/a.py::a", set()), ("tests/a.py::a[postgres]", set()), ("tests/a.py::a", {"long"})],
)
def test_some_run_of_ci_selects_each_test(test, markers):
    markers = markers | {marker_of(test, markers)}
    assert any(not markers & left_out for left_out in selections())

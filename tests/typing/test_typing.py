"""What mypy and pyright find in a host's code: each mistake of ``mistakes.py``, and nothing in ``correct.py``.

basedpyright is pyright in a package that needs no download at its first start.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FILES = ("mistakes.py", "correct.py")
EXPECTED = re.compile(r"# expect: (\S+) / (\S+)$")


def expected(position):
    """Return the file, line and code of each mistake; ``position`` is 1 for mypy and 2 for pyright."""
    return {
        (name, number, match[position])
        for name in FILES
        for number, line in enumerate((HERE / name).read_text(encoding="utf-8").splitlines(), 1)
        if (match := EXPECTED.search(line))
    }


def run(*command):
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


def found_by_mypy():
    """Return the errors that mypy reports without a plugin, because a host may have none."""
    options = [
        "--config-file=",
        "--strict",
        "--follow-imports=silent",
        "--ignore-missing-imports",
        "--no-pretty",
    ]
    output = run("mypy", *options, "--output=json", *(f"tests/typing/{name}" for name in FILES))
    errors = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return {
        (Path(each["file"]).name, each["line"], each["code"])
        for each in errors
        if each["severity"] == "error"
    }


def found_by_pyright():
    output = run(
        "basedpyright",
        "-p",
        "tests/typing/pyrightconfig.json",
        "--pythonpath",
        sys.executable,
        "--outputjson",
    )
    return {
        (Path(each["file"]).name, each["range"]["start"]["line"] + 1, each["rule"])
        for each in json.loads(output)["generalDiagnostics"]
        if each["severity"] == "error"
    }


@pytest.mark.parametrize(
    ("position", "find_errors"), [(1, found_by_mypy), (2, found_by_pyright)], ids=["mypy", "pyright"]
)
def test_each_mistake_is_found_and_nothing_else(position, find_errors):
    assert find_errors() == expected(position)
    assert len(expected(position)) > 15

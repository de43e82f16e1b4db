"""The hosts as their files declare them. This module reads the files without Django."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECTS = Path(__file__).parent / "projects"

DECLARATIONS = {
    "NEEDS": [],
    "WORKER": ["-P", "threads", "-c", "2"],
    "EXPECTED_CHECKS": [],
    "EXPECTED_LOG": "",
}
"""What a file may say of its host, with default values:

``NEEDS``: names of services in ``services.py``, of packages and of programs. The host is skipped if one is missing.
``WORKER``: options of ``celery worker``. An empty list stands for ``outbox_relay``, without Celery.
``EXPECTED_CHECKS``: ids of the system checks that report something.
``EXPECTED_LOG``: a regular expression of the warnings that are expected in the logs.

The process of the host also calls the functions ``before_migrate()``, ``after_migrate()`` and ``verify(pages)`` of the
file: the last one after the pages of the admin were opened.
"""


@dataclass(frozen=True)
class Host:
    """A host project: the name of its file, and what the file declares."""

    name: str
    summary: str
    needs: tuple[str, ...]
    worker: tuple[str, ...]
    expected_checks: tuple[str, ...]
    expected_log: str

    @property
    def settings(self) -> str:
        """Return the name of its settings module."""
        return f"tests.hosts.projects.{self.name}"


def find_hosts() -> list[Host]:
    """Return the host of each file in ``projects``. The files are parsed and not imported: they are settings."""
    return [read_host(path) for path in sorted(PROJECTS.glob("[!_]*.py"))]


def read_host(path: Path) -> Host:
    """Return what a file declares."""
    tree = ast.parse(path.read_text("utf-8"))
    found: dict[str, Any] = dict(DECLARATIONS)
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in DECLARATIONS:
            found[ast.unparse(node.targets[0])] = ast.literal_eval(node.value)
    return Host(
        name=path.stem,
        summary=(ast.get_docstring(tree) or "").partition("\n")[0],
        needs=tuple(found["NEEDS"]),
        worker=tuple(found["WORKER"]),
        expected_checks=tuple(found["EXPECTED_CHECKS"]),
        expected_log=found["EXPECTED_LOG"],
    )

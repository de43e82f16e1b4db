"""Create the virtual environment of the other packages, which can need other versions of the same dependencies."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
HOME = ROOT / ".venv-peers"
REQUIREMENTS = Path(__file__).parent / "requirements.txt"
PYTHON = HOME / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
DEPENDENCIES = ("Django", "celery[redis]", "requests", "psycopg[binary]")


def prepare(packages: list[str]) -> dict[str, str]:
    """Create the environment if it is missing or outdated. Return {package: error} of the failed installations.

    Each package is installed separately, at its version in ``requirements.txt``. So a failed installation does not
    affect the other packages.
    """
    stamp = HOME / "ready.json"
    wanted = {"requirements": REQUIREMENTS.read_text(), "packages": packages, "python": sys.version}
    known = json.loads(stamp.read_text()) if stamp.exists() else {}
    if {name: known.get(name) for name in wanted} != wanted:
        venv.create(HOME, with_pip=True, clear=True)
        refused = {name: error for name in (*DEPENDENCIES, *packages) if (error := _install(name))}
        known = wanted | {"refused": refused}
        stamp.write_text(json.dumps(known))
    return known["refused"]


def versions() -> dict[str, str]:
    """Return {package: version} of all packages in the environment."""
    code = "import json; from importlib.metadata import distributions as d"
    code += "; print(json.dumps({package.name: package.version for package in d()}))"
    return json.loads(subprocess.run([PYTHON, "-c", code], capture_output=True, text=True).stdout)


PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet")


def _install(package: str) -> str:
    """Install a package. Return the error message of pip, or "" if it succeeded."""
    process = subprocess.run(
        [PYTHON, *PIP, "install", "-c", REQUIREMENTS, package], capture_output=True, text=True
    )
    return "" if process.returncode == 0 else last_line(process.stderr) or "pip failed"


def last_line(text: str) -> str:
    """Return the last line of a process's output, which usually names the error."""
    return (text.strip().splitlines() or [""])[-1][:200]

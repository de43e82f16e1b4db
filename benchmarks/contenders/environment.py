"""The environment of the peers: a venv beside ours, for they may want other versions of the same packages."""

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
NEEDED = ("Django", "celery[redis]", "requests", "psycopg[binary]")


def prepare(packages: list[str]) -> dict[str, str]:
    """Makes the environment where it is missing or stale; returns the packages that would not go in, and why.

    Each goes in by itself, at the version of ``requirements.txt``, so that one cannot keep out another.
    """
    stamp = HOME / "ready.json"
    wanted = {"requirements": REQUIREMENTS.read_text(), "packages": packages, "python": sys.version}
    known = json.loads(stamp.read_text()) if stamp.exists() else {}
    if {name: known.get(name) for name in wanted} != wanted:
        venv.create(HOME, with_pip=True, clear=True)
        refused = {name: why for name in (*NEEDED, *packages) if (why := _install(name))}
        known = wanted | {"refused": refused}
        stamp.write_text(json.dumps(known))
    return known["refused"]


def versions() -> dict[str, str]:
    """Of all packages in it."""
    asked = "import json; from importlib.metadata import distributions as d"
    asked += "; print(json.dumps({each.name: each.version for each in d()}))"
    return json.loads(subprocess.run([PYTHON, "-c", asked], capture_output=True, text=True).stdout)


PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet")


def _install(package: str) -> str:
    """Why it would not go in; empty where it did."""
    done = subprocess.run(
        [PYTHON, *PIP, "install", "-c", REQUIREMENTS, package], capture_output=True, text=True
    )
    return "" if done.returncode == 0 else last_line(done.stderr) or "pip failed"


def last_line(text: str) -> str:
    """What a process said last, which names its error."""
    return (text.strip().splitlines() or [""])[-1][:200]

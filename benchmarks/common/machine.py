"""What was measured on: the machine and the versions, told with every figure."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

PACKAGES = ("django", "celery", "redis", "requests", "pydantic", "psycopg", "pymysql")


def facts() -> dict[str, Any]:
    """Cores, memory, system, versions, and the commit that was measured."""
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "commit": _commit(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def told(known: dict[str, Any]) -> str:
    """The facts in one paragraph."""
    packages = ", ".join(f"{name} {found}" for name, found in known["packages"].items())
    return (
        f"{known['cores']} cores ({known['processor']}), {known['memory_gib']} GiB, load {known['load_before']} "
        f"before the run; Python {known['python']}, {packages}; commit {known['commit']}"
    )


def _processor() -> str:
    names = [line for line in _read("/proc/cpuinfo").splitlines() if line.startswith("model name")]
    return names[0].split(":", 1)[1].strip() if names else platform.processor() or platform.machine()


def _read(path: str) -> str:
    return Path(path).read_text() if Path(path).exists() else ""


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str:
    told = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True)
    return told.stdout.strip() or "unknown"

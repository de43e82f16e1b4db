"""Facts about the machine that a benchmark runs on, and a meter for the CPU time of its processes."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

PACKAGES = ("django", "celery", "redis", "requests", "pydantic", "psycopg", "pymysql")


def facts() -> dict[str, Any]:
    """Return the cores, memory, system, versions of packages, and the measured commit."""
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: installed for name in PACKAGES if (installed := _version(name))},
        "commit": _commit(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def describe(machine: dict[str, Any]) -> str:
    """Return the result of :func:`facts` as one sentence."""
    packages = ", ".join(f"{name} {installed}" for name, installed in machine["packages"].items())
    return (
        f"{machine['cores']} cores ({machine['processor']}), {machine['memory_gib']} GiB, "
        f"load {machine['load_before']} before the run; Python {machine['python']}, {packages}; "
        f"commit {machine['commit']}"
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
    process = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True)
    return process.stdout.strip() or "unknown"


class CpuMeter:
    """Measures the CPU time of processes and all their children, by role, since its creation."""

    def __init__(self, **roles: list[int]) -> None:
        """Start measuring. ``roles`` maps names to process ids.

        Without the roles ``postgres`` and ``redis``, these are all servers of that name on the machine.
        """
        self._roles = {"postgres": _pids_of("postgres"), "redis": _pids_of("redis-server")} | roles
        self._before = self._now()
        self._busy_before, self._started = _busy(), time.monotonic()

    def add(self, **roles: list[int]) -> None:
        """Add processes that were started later. All of their CPU time counts."""
        self._roles |= roles

    def read(self) -> dict[str, float]:
        """Return the CPU seconds of each role, and their sum as ``all``.

        ``machine`` is the busy share of all cores, from 0 to 1, of all processes on the machine.
        """
        spent = {role: now - self._before.get(role, 0.0) for role, now in self._now().items()}
        cores = (time.monotonic() - self._started) * (os.cpu_count() or 1)
        return spent | {"all": sum(spent.values()), "machine": (_busy() - self._busy_before) / cores}

    def _now(self) -> dict[str, float]:
        return {role: sum(map(_spent, pids)) for role, pids in self._roles.items()}


def _pids_of(name: str) -> list[int]:
    """Return the processes of that name without their children, which the meter finds by itself."""
    named = [process for process in psutil.process_iter(["name", "ppid"]) if process.info["name"] == name]
    pids = {process.pid for process in named}
    return [process.pid for process in named if process.info["ppid"] not in pids]


def _spent(pid: int) -> float:
    """Return the CPU seconds of a process and its children. Children that have ended count, too."""
    total = 0.0
    try:
        process = psutil.Process(pid)
        for member in [process, *process.children(recursive=True)]:
            used = member.cpu_times()
            total += used.user + used.system + used.children_user + used.children_system
    except psutil.NoSuchProcess:
        pass
    return total


def _busy() -> float:
    """Return the CPU seconds that all cores together have spent since the start of the machine."""
    used = psutil.cpu_times()
    return sum(used) - used.idle - used.iowait - used.guest - used.guest_nice

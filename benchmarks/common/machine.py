"""What was measured on: the machine and the versions, told with every figure."""

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


class CpuMeter:
    """CPU seconds by role since it was made: processes with all their children, ended ones too."""

    def __init__(self, **roles: list[int]) -> None:
        """``roles`` names the processes of each; ``postgres`` and ``redis`` are found by their names."""
        self._roles = roles | {"postgres": _pids_of("postgres"), "redis": _pids_of("redis-server")}
        self._before = self._now()
        self._machine, self._since = _busy(), time.monotonic()

    def add(self, **roles: list[int]) -> None:
        """More processes, started since: all that they have used counts."""
        self._roles |= roles

    def read(self) -> dict[str, float]:
        """Seconds by role, ``all`` of these together, and ``machine``: the busy share of all cores, 0 to 1."""
        spent = {role: now - self._before.get(role, 0.0) for role, now in self._now().items()}
        cores = (time.monotonic() - self._since) * (os.cpu_count() or 1)
        return spent | {"all": sum(spent.values()), "machine": (_busy() - self._machine) / cores}

    def _now(self) -> dict[str, float]:
        return {role: sum(map(_spent, pids)) for role, pids in self._roles.items()}


def _pids_of(name: str) -> list[int]:
    """The first process of that name, whose children are the others."""
    found = [p.pid for p in psutil.process_iter(["name", "ppid"]) if p.info["name"] == name]
    return [pid for pid in found if psutil.Process(pid).ppid() not in found]


def _spent(pid: int) -> float:
    total = 0.0
    try:
        process = psutil.Process(pid)
        for each in [process, *process.children(recursive=True)]:
            used = each.cpu_times()
            total += used.user + used.system + used.children_user + used.children_system
    except psutil.NoSuchProcess:
        pass
    return total


def _busy() -> float:
    used = psutil.cpu_times()
    return sum(used) - used.idle - used.iowait - used.guest - used.guest_nice

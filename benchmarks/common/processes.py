"""Stop processes that were started for one run. Benchmarks and end-to-end tests use it."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

STOP_TIMEOUT = 30.0
"""Seconds until a process is killed. A worker needs time to finish its current task."""


def end(processes: Sequence[subprocess.Popen]) -> None:
    """Terminate the processes, and kill those that do not stop. Return when all have stopped."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

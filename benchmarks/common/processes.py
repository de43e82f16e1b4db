"""Processes that were started for one run: for the benchmarks, and for tests with real workers."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

PATIENCE = 30.0
"""Seconds that they have to end by themselves: a worker has to finish what it is at."""


def end(processes: Sequence[subprocess.Popen]) -> None:
    """Ends them, gently first; all have ended when it returns."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

"""A host as in production: a database, a broker, and Celery workers in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.common import processes

ROOT = Path(__file__).resolve().parent.parent.parent
READY_SECONDS = 60.0
"""Time for a worker to start on a busy machine."""


@dataclass
class HostProcesses:
    """The running processes of one host, and the environment variables that they share.

    ``root`` is the folder of the code that they run.
    """

    home: Path
    environment: dict[str, str]
    workers: list[subprocess.Popen] = field(default_factory=list)
    root: Path = ROOT

    def manage(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
        """Run a management command."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
        return done

    def start_worker(self, *arguments: str) -> subprocess.Popen:
        """Start a Celery worker, and return when it is ready."""
        started = len(list(self.home.glob("worker-*.log")))  # counts killed workers, too
        log = self.home / f"worker-{started}.log"
        name = f"worker{started}@{uuid.uuid4().hex[:8]}"
        worker = self._start_celery(log, "worker", "-n", name, *arguments)
        wait_until(lambda: "ready." in log.read_text(errors="replace"), f"{name} ready; see {log}")
        return worker

    def start_beat(self) -> subprocess.Popen:
        """Start the scheduler of the settings."""
        return self._start_celery(self.home / "beat.log", "beat", "--pidfile", str(self.home / "beat.pid"))

    def _start_celery(self, log: Path, *arguments: str) -> subprocess.Popen:
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "example_project", *arguments, "-l", "INFO"],
                cwd=self.root,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that the process and all its children can be killed at once
            )
        self.workers.append(process)
        return process

    def kill_worker(self, worker: subprocess.Popen) -> None:
        """Send SIGKILL to a worker and all its children."""
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()

    def start_relay(self) -> subprocess.Popen:
        """Start ``outbox_relay``, which sends without Celery."""
        log = (self.home / "relay.log").open("ab")  # of all relays
        relay = subprocess.Popen(
            [sys.executable, "manage.py", "outbox_relay"],
            cwd=self.root,
            env=self.environment,
            stdout=log,
            stderr=log,
        )
        self.workers.append(relay)
        return relay

    def status(self) -> dict:
        """Return the output of ``outbox_status --json``."""
        return json.loads(self.manage("outbox_status", "--json").stdout)

    def stop(self) -> None:
        """End all processes: first with SIGTERM, then with SIGKILL."""
        processes.end(self.workers)


def wait_until(condition, description: str, seconds: float = READY_SECONDS) -> None:
    """Wait until ``condition()`` is true; fail after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {description}"
        time.sleep(0.05)


def environment(home: Path, **variables: str) -> dict[str, str]:
    """Return this process's environment with ``variables`` instead of the variables that name services."""
    services = (
        "DATABASE_URL",
        "CELERY_BROKER_URL",
        "REDIS_URL",
        "DJANGO_SETTINGS_MODULE",
        "EVERMUSE_API_URL",
    )
    kept = {key: value for key, value in os.environ.items() if key not in services}
    return kept | {"EXAMPLE_VAR_DIR": str(home), "PYTHONUNBUFFERED": "1", "C_FORCE_ROOT": "1"} | variables

"""A host as it runs in production: its own database, broker and workers, as processes."""

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
READY = 60.0


@dataclass
class Stack:
    """The environment that all processes of one host share, and those that run."""

    home: Path
    environment: dict[str, str]
    workers: list[subprocess.Popen] = field(default_factory=list)

    def manage(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
        """One management command, as a user would type it."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
        return done

    def start_worker(self, *arguments: str) -> subprocess.Popen:
        """A Celery worker; returns when it says that it is ready."""
        started = len(list(self.home.glob("worker-*.log")))  # also those that were killed since
        log = self.home / f"worker-{started}.log"
        name = f"worker{started}@{uuid.uuid4().hex[:8]}"
        command = ["-m", "celery", "-A", "example_project", "worker", "-l", "INFO", "-n", name, *arguments]
        with log.open("wb") as out:
            worker = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env=self.environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that the worker and all its children can be killed at once
            )
        self.workers.append(worker)
        wait_until(lambda: "ready." in log.read_text(errors="replace"), f"{name} ready; see {log}")
        return worker

    def kill_worker(self, worker: subprocess.Popen) -> None:
        """SIGKILL for a worker and all its children, as when the machine goes out of memory."""
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()

    def start_relay(self) -> subprocess.Popen:
        """The same pipeline without Celery."""
        log = (self.home / "relay.log").open("wb")
        relay = subprocess.Popen(
            [sys.executable, "manage.py", "outbox_relay"],
            cwd=ROOT,
            env=self.environment,
            stdout=log,
            stderr=log,
        )
        self.workers.append(relay)
        return relay

    def status(self) -> dict:
        """``outbox_status --json``."""
        return json.loads(self.manage("outbox_status", "--json").stdout)

    def stop(self) -> None:
        """Ends what was started, gently first."""
        processes.end(self.workers)


def wait_until(condition, what: str, seconds: float = READY) -> None:
    """Waits for a condition, not for luck."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)


def environment(home: Path, **variables: str) -> dict[str, str]:
    """This process's environment without what names services, and with ``variables``."""
    named = ("DATABASE_URL", "CELERY_BROKER_URL", "REDIS_URL", "DJANGO_SETTINGS_MODULE", "EVERMUSE_API_URL")
    kept = {key: value for key, value in os.environ.items() if key not in named}
    return kept | {"EXAMPLE_VAR_DIR": str(home), "PYTHONUNBUFFERED": "1", "C_FORCE_ROOT": "1"} | variables

"""The processes of a running host."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evermuse_outbox.sandbox import ApiKey, Sandbox
from tests.e2e.host_processes import ROOT, HostProcesses, environment
from tests.hosts.declarations import Host
from tests.hosts.services import SERVICES

ALWAYS_EXPECTED = (
    r"SecurityWarning: You're running the worker with superuser|records were rejected with VALIDATION_ERROR"
)
PROBLEM = re.compile(r"\b(?:WARNING|ERROR|CRITICAL)\b|Warning\b|^Traceback|Exception in thread")
"""A line of a log that needs attention."""


@dataclass
class RunningHost:
    """A host with its services and with the sandbox that it sends to."""

    host: Host
    home: Path
    sandbox: Sandbox
    processes: HostProcesses
    process: subprocess.Popen[str]

    def start(self) -> None:
        """Start a worker and the scheduler, or the relay."""
        if self.host.worker:
            self.processes.start_beat()
            self.processes.start_worker(*self.host.worker)
        else:
            self.processes.start_relay()

    def run(self, step: str, *arguments: str) -> Any:
        """Run a step of ``host_process.py`` and return its result."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps([step, *arguments]) + "\n")
        self.process.stdin.flush()
        answer = json.loads(
            self.process.stdout.readline() or '{"error": "the process of the host has ended"}'
        )
        assert "error" not in answer, f"{step}: {answer['error']}\n{self.log_of('host')}"
        return answer["result"]

    def log_of(self, name: str) -> str:
        """Return the log of a process."""
        return (self.home / f"{name}.log").read_text("utf-8", errors="replace")

    def problems(self, logs: str = "*") -> list[str]:
        """Return the lines of these logs that need attention."""
        expected = re.compile("|".join(filter(None, (ALWAYS_EXPECTED, self.host.expected_log))))
        return [
            f"{log.stem}: {line}"
            for log in sorted(self.home.glob(f"{logs}.log"))
            for line in log.read_text("utf-8", errors="replace").splitlines()
            if PROBLEM.search(line) and not expected.search(line)
        ]


@contextlib.contextmanager
def running(host: Host, home: Path) -> Iterator[RunningHost]:
    """Start the services, the sandbox and the process of a host. All of them have names and ports of their own."""
    name = uuid.uuid4().hex[:12]
    key = f"em_sk_{name}"
    variables = {
        "DJANGO_SETTINGS_MODULE": host.settings,
        "CELERY_TASK_DEFAULT_QUEUE": f"host-{name}",
        "EVERMUSE_API_KEY": key,
    }
    with contextlib.ExitStack() as stack:
        sandbox = stack.enter_context(Sandbox(keys={key: ApiKey()}, batch_seconds=0.1))
        variables["EVERMUSE_API_URL"] = sandbox.url
        for need in host.needs:
            if need in SERVICES:
                variables |= stack.enter_context(SERVICES[need].start(home, variables))
        processes = HostProcesses(home, environment(home, **variables))
        stack.callback(processes.stop)
        log = stack.enter_context((home / "host.log").open("wb"))
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.hosts.host_process"],
            cwd=ROOT,
            env=processes.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        stack.callback(process.communicate)
        yield RunningHost(host, home, sandbox, processes, process)

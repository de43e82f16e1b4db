"""A process supervisor: it forks a process for each run of a scenario, which may be killed or stopped on its way.

The supervisor has one thread and no connection, so a fork is cheap and shares nothing.
``python -m tests.crash.process_supervisor`` reads orders from stdin and writes answers to stdout, as lines of JSON.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any, NamedTuple

from .steps import Step, StepRecorder

ROOT = Path(__file__).resolve().parent.parent.parent


class Ended(NamedTuple):
    """How a process ended: its exit status (negative for a signal), its steps, and the exception that it raised."""

    status: int
    steps: list[Step]
    error: str


class ProcessSupervisor:
    """The test's side of the pipe. ``databases`` are the names of the test databases by alias."""

    def __init__(self, databases: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            cwd=ROOT,
            env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._request(databases)

    def run(self, order: dict[str, Any]) -> Ended:
        """Run a scenario to its end and return its steps."""
        return self._ended(self._request({"run": order}))

    def kill(self, order: dict[str, Any], after: int) -> Ended:
        """Run a scenario in a process that kills itself after step number ``after``."""
        return self._ended(self._request({"run": order, "last": after, "signal": signal.SIGKILL}))

    def stop(self, order: dict[str, Any], after: int) -> int | None:
        """Run a scenario in a process that stops after a step. Return its id, or None if it ended before."""
        answer = self._request({"run": order, "last": after, "signal": signal.SIGSTOP})
        stopped: int | None = answer["stopped"]
        return stopped

    def resume(self, pid: int) -> Ended:
        """Let a stopped process go on to its end."""
        return self._ended(self._request({"resume": pid}))

    def close(self) -> None:
        """End the supervisor and all processes that are still stopped."""
        self._process.communicate()

    def _request(self, order: Any) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the process supervisor has died; see its stderr"
        return json.loads(answer)

    @staticmethod
    def _ended(answer: Any) -> Ended:
        steps = [
            Step(change, is_open, [tuple(line) for line in lines])
            for change, is_open, lines in answer["steps"]
        ]
        return Ended(answer["status"], steps, answer["error"])


def main() -> None:
    """Execute orders until stdin ends."""
    _prepare(json.loads(sys.stdin.readline()))
    _write_answer("ready")
    stopped: dict[int, Any] = {}  # process id → the file for its report
    for line in sys.stdin:
        order = json.loads(line)
        if "resume" in order:
            pid, report = order["resume"], stopped.pop(order["resume"])
            os.kill(pid, signal.SIGCONT)
        else:
            pid, report = _fork(order)
        status = _wait(pid)
        if status is None:
            stopped[pid] = report
            _write_answer({"stopped": pid})
        else:
            _write_answer({"stopped": None, "status": status, **_read_report(report)})
    for pid in stopped:
        os.kill(pid, signal.SIGKILL)


def _prepare(databases: dict[str, str]) -> None:
    """Import everything that a scenario needs, once, without a connection."""
    import django
    from django.db import connections

    django.setup()
    for alias, name in databases.items():
        connections.settings[alias]["NAME"] = name
    connections.all()
    from evermuse_outbox.evermuse import Unreachable, api
    from tests.crash import scenarios  # noqa: F401

    with contextlib.suppress(Unreachable):  # the first HTTP call imports many modules
        api.Client("http://127.0.0.1:1", str, 1).batch("")
    gc.freeze()  # a garbage collection in a child would copy all of this memory


def _fork(order: dict[str, Any]) -> tuple[int, Any]:
    report = tempfile.TemporaryFile("w+")  # noqa: SIM115 -- `_read_report` closes it
    pid = os.fork()
    if not pid:
        _run_child(order, report)
    return pid, report


def _run_child(order: dict[str, Any], report: Any) -> None:
    """Run the scenario in the child, write the report, and exit."""
    error, recorder = "", StepRecorder(order.get("last"), order.get("signal", 0))
    try:
        _run_scenario(order["run"], recorder)
    except BaseException:
        error = traceback.format_exc()
    json.dump({"steps": [] if order.get("last") else recorder.steps, "error": error}, report)
    report.flush()
    os._exit(1 if error else 0)


def _run_scenario(order: dict[str, Any], recorder: StepRecorder) -> None:
    from django.db import connections

    from .environment import Environment
    from .scenarios import SCENARIOS

    scenario = SCENARIOS[order["scenario"]]
    env = Environment(scenario, order["alias"], order["url"], order["clock"])
    recorder.watch()
    with env.with_settings():
        scenario.action(env)
    recorder.record_late_commit()
    connections.close_all()


def _wait(pid: int) -> int | None:
    """Wait until the process ends and return its exit status; return None if it is stopped."""
    _, status = os.waitpid(pid, os.WUNTRACED)
    return None if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status)


def _read_report(report: Any) -> dict[str, Any]:
    report.seek(0)
    text = report.read()
    report.close()
    return json.loads(text) if text else {"steps": [], "error": ""}


def _write_answer(answer: Any) -> None:
    print(json.dumps(answer), flush=True)  # noqa: T201 -- stdout is the pipe


if __name__ == "__main__":
    main()

"""A process that bears processes: each plays one scenario and dies, or stops, where it is told.

It has one thread and no connection of its own, so that a fork costs little and shares nothing.
Run as ``python -m tests.crash.process_supervisor``; orders and answers are lines of JSON.
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

from .steps import Step, Steps

ROOT = Path(__file__).resolve().parent.parent.parent


class End(NamedTuple):
    """How a play ended: its exit status (negative for a signal), the steps that it told of, what it raised."""

    status: int
    steps: list[Step]
    error: str


class Nursery:
    """The other side of the pipe, for the tests. ``databases`` are the names of the test databases by alias."""

    def __init__(self, databases: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            cwd=ROOT,
            env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._ask(databases)

    def play(self, order: dict[str, Any]) -> End:
        """A whole play, told step by step."""
        return self._end(self._ask({"play": order}))

    def kill(self, order: dict[str, Any], after: int) -> End:
        """A play whose process kills itself after that step."""
        return self._end(self._ask({"play": order, "last": after, "signal": signal.SIGKILL}))

    def stop(self, order: dict[str, Any], after: int) -> int | None:
        """A play whose process stops itself after that step; its id, or None where it ended before."""
        stopped: int | None = self._ask({"play": order, "last": after, "signal": signal.SIGSTOP})["stopped"]
        return stopped

    def wake(self, pid: int) -> End:
        """Lets a stopped process go on to its end."""
        return self._end(self._ask({"wake": pid}))

    def close(self) -> None:
        """Ends it, and whoever is still stopped."""
        self._process.communicate()

    def _ask(self, order: Any) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the nursery has died; its last words are on stderr"
        return json.loads(answer)

    @staticmethod
    def _end(told: Any) -> End:
        steps = [
            Step(what, is_open, [tuple(line) for line in lines]) for what, is_open, lines in told["steps"]
        ]
        return End(told["status"], steps, told["error"])


def main() -> None:
    """Reads orders until there are no more."""
    _prepare(json.loads(sys.stdin.readline()))
    _tell("ready")
    stopped: dict[int, Any] = {}  # id → the file that it will tell its steps to
    for line in sys.stdin:
        order = json.loads(line)
        if "wake" in order:
            pid, told = order["wake"], stopped.pop(order["wake"])
            os.kill(pid, signal.SIGCONT)
        else:
            pid, told = _bear(order)
        status = _wait(pid)
        if status is None:
            stopped[pid] = told
            _tell({"stopped": pid})
        else:
            _tell({"stopped": None, "status": status, **_read(told)})
    for pid in stopped:
        os.kill(pid, signal.SIGKILL)


def _prepare(databases: dict[str, str]) -> None:
    """Everything that a play needs is imported once, and nothing is connected."""
    import django
    from django.db import connections

    django.setup()
    for alias, name in databases.items():
        connections.settings[alias]["NAME"] = name
    connections.all()
    from evermuse_outbox.evermuse import Unreachable, api
    from tests.crash import scenarios  # noqa: F401

    with contextlib.suppress(Unreachable):  # HTTP imports much at its first call
        api.Client("http://127.0.0.1:1", str, 1).batch("")
    gc.freeze()  # a collection in a child would copy all of this


def _bear(order: dict[str, Any]) -> tuple[int, Any]:
    told = tempfile.TemporaryFile("w+")  # noqa: SIM115 -- `_read` closes it
    pid = os.fork()
    if not pid:
        _live(order, told)
    return pid, told


def _live(order: dict[str, Any], told: Any) -> None:
    """The whole life of a child."""
    error, steps = "", Steps(order.get("last"), order.get("signal", 0))
    try:
        _play(order["play"], steps)
    except BaseException:
        error = traceback.format_exc()
    json.dump({"steps": [] if order.get("last") else steps.taken, "error": error}, told)
    told.flush()
    os._exit(1 if error else 0)


def _play(order: dict[str, Any], steps: Steps) -> None:
    from django.db import connections

    from .environment import Life
    from .scenarios import SCENARIOS

    scenario = SCENARIOS[order["scenario"]]
    life = Life(scenario, order["alias"], order["url"], order["clock"])
    steps.watch()
    with life.under():
        scenario.play(life)
    steps.settle()
    connections.close_all()


def _wait(pid: int) -> int | None:
    """The exit status; None while it is stopped."""
    _, status = os.waitpid(pid, os.WUNTRACED)
    return None if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status)


def _read(told: Any) -> dict[str, Any]:
    told.seek(0)
    text = told.read()
    told.close()
    return json.loads(text) if text else {"steps": [], "error": ""}


def _tell(answer: Any) -> None:
    print(json.dumps(answer), flush=True)  # noqa: T201 -- stdout is the pipe


if __name__ == "__main__":
    main()

"""Record the steps of a process: each moment at which it has changed something outside itself.

A step is a write, a commit, a part of a request (its head, its body, its answer) or a call of the Redis throttle.
Reads are no steps: to die after a read is the same as to die before it.
"""

from __future__ import annotations

import http.client
import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

from django.db.backends.signals import connection_created

import evermuse_outbox
from evermuse_outbox.ratelimit import RedisThrottle

PACKAGE = Path(evermuse_outbox.__file__).parent
PACKAGE_PREFIX = f"{PACKAGE}{os.sep}"

READS = ("SELECT", "SAVEPOINT", "RELEASE", "ROLLBACK", "BEGIN", "START", "PRAGMA", "SET", "SHOW", "EXPLAIN")


class Step(NamedTuple):
    """One change outside the process.

    ``is_open`` means that it is not committed yet. ``lines`` are the lines of the package that led to it, innermost
    first: each a file below ``evermuse_outbox`` and a line number.
    """

    change: str
    is_open: bool
    lines: list[tuple[str, int]]

    def __str__(self) -> str:
        file, line = self.lines[0] if self.lines else ("outside", 0)
        return f"{self.change} ({file}:{line})"


class StepRecorder:
    """Records the steps of this process, and sends it ``signal`` right after step number ``last``, from 1."""

    def __init__(self, last: int | None = None, signal: int = 0) -> None:
        self.steps: list[Step] = []
        self._uncommitted: Step | None = None
        self._last = last
        self._signal = signal

    def watch(self) -> None:
        """Record from now on, in all threads: each new database connection, HTTP and Redis."""
        connection_created.connect(self._watch_connection, weak=False)
        wire: Any = http.client.HTTPConnection
        wire.send = self._recorded(wire.send, "HTTP sent")
        wire.getresponse = self._recorded(wire.getresponse, "HTTP answered")
        for name, method in list(vars(RedisThrottle).items()):
            if callable(method) and not name.startswith("_"):
                setattr(RedisThrottle, name, self._recorded(method, f"Redis {name}"))

    def record(self, change: str, *, is_open: bool = False) -> None:
        """Record a change with the lines that led to it."""
        self.record_late_commit()
        self._add(Step(change, is_open, _lines()))

    def record_late_commit(self) -> None:
        """Record the commit of the last statement with RETURNING.

        SQLite commits such a statement when the last returned row is read, which is before the next step.
        """
        if self._uncommitted:
            step, self._uncommitted = self._uncommitted, None
            self._add(step._replace(change="COMMIT", is_open=False))

    def _add(self, step: Step) -> None:
        self.steps.append(step)
        if len(self.steps) == self._last:
            os.kill(os.getpid(), self._signal)

    def _watch_connection(self, connection: Any, **_: Any) -> None:
        if self._execute in connection.execute_wrappers:
            return
        connection.execute_wrappers.insert(0, self._execute)  # before the one that changes the text
        commit = connection._commit

        def commit_and_record() -> None:
            commit()
            if self.steps and self.steps[-1].is_open:
                self.record("COMMIT")

        connection._commit = commit_and_record

    def _execute(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        self.record_late_commit()
        result = execute(sql, params, many, context)
        words = sql.split(None, 3)
        if words[0].upper() not in READS:
            table = next((word for word in words[1:] if "_" in word), "").strip('"`')
            connection = context["connection"]
            returns_rows = connection.vendor == "sqlite" and " RETURNING " in sql
            self.record(f"{words[0]} {table}", is_open=connection.in_atomic_block or returns_rows)
            if returns_rows and not connection.in_atomic_block:
                self._uncommitted = self.steps[-1]
        return result

    def _recorded(self, method: Callable[..., Any], change: str) -> Callable[..., Any]:
        """Return ``method`` with a step at its end, also if it raises an exception."""

        @wraps(method)
        def call(*arguments: Any, **options: Any) -> Any:
            status: Any = "failed"
            try:
                result = method(*arguments, **options)
                status = getattr(result, "status", "")
            finally:
                self.record(f"{change} {status}".strip())
            return result

        return call


def _lines() -> list[tuple[str, int]]:
    lines = []
    frame: Any = sys._getframe(2)
    while frame:
        file = frame.f_code.co_filename
        if file.startswith(PACKAGE_PREFIX):
            lines.append((file.removeprefix(PACKAGE_PREFIX), frame.f_lineno))
        frame = frame.f_back
    return lines

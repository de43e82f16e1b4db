"""The steps of a process: every moment at which it has changed something outside itself.

A step is a write, a commit, a request on the wire (its head, its body, its answer) and a word with the keeper
of the pace. Reads are none: whoever dies after a read might as well have died before it.
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

HOUSE = Path(evermuse_outbox.__file__).parent
INSIDE = f"{HOUSE}{os.sep}"

READS = ("SELECT", "SAVEPOINT", "RELEASE", "ROLLBACK", "BEGIN", "START", "PRAGMA", "SET", "SHOW", "EXPLAIN")


class Step(NamedTuple):
    """``what`` has changed; ``is_open`` while it is not committed; ``lines`` of ours that led there, innermost
    first, each a file below ``evermuse_outbox`` and a line number.
    """

    what: str
    is_open: bool
    lines: list[tuple[str, int]]

    def __str__(self) -> str:
        file, line = self.lines[0] if self.lines else ("outside", 0)
        return f"{self.what} ({file}:{line})"


class Steps:
    """Counts the steps of this process from 1, and sends it ``signal`` right after the one named by ``last``."""

    def __init__(self, last: int | None = None, signal: int = 0) -> None:
        self.taken: list[Step] = []
        self._returning: Step | None = None
        self._last = last
        self._signal = signal

    def watch(self) -> None:
        """From now on, in all threads: every database connection that opens, and all of HTTP and Redis."""
        connection_created.connect(self._watch_connection, weak=False)
        wire: Any = http.client.HTTPConnection
        wire.send = self._after(wire.send, "HTTP sent")
        wire.getresponse = self._after(wire.getresponse, "HTTP answered")
        for name, ask in list(vars(RedisThrottle).items()):
            if callable(ask) and not name.startswith("_"):
                setattr(RedisThrottle, name, self._after(ask, f"Redis {name}"))

    def take(self, what: str, *, is_open: bool = False) -> None:
        """Something has changed."""
        self.settle()
        self._take(Step(what, is_open, _lines()))

    def settle(self) -> None:
        """What SQLite commits only when the last of the rows it returns is read is committed by now."""
        if self._returning:
            returned, self._returning = self._returning, None
            self._take(returned._replace(what="COMMIT", is_open=False))

    def _take(self, step: Step) -> None:
        self.taken.append(step)
        if len(self.taken) == self._last:
            os.kill(os.getpid(), self._signal)

    def _watch_connection(self, connection: Any, **_: Any) -> None:
        if self._statement in connection.execute_wrappers:
            return
        connection.execute_wrappers.append(self._statement)
        commit = connection._commit

        def commit_and_tell() -> None:
            commit()
            if self.taken and self.taken[-1].is_open:
                self.take("COMMIT")

        connection._commit = commit_and_tell

    def _statement(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        self.settle()
        result = execute(sql, params, many, context)
        words = sql.split(None, 3)
        if words[0].upper() not in READS:
            table = next((word for word in words[1:] if "_" in word), "").strip('"`')
            connection = context["connection"]
            returns = connection.vendor == "sqlite" and " RETURNING " in sql
            self.take(f"{words[0]} {table}", is_open=connection.in_atomic_block or returns)
            if returns and not connection.in_atomic_block:
                self._returning = self.taken[-1]
        return result

    def _after(self, method: Callable[..., Any], what: str) -> Callable[..., Any]:
        """``method``, and a step when it has ended, whether well or not."""

        @wraps(method)
        def step(*arguments: Any, **options: Any) -> Any:
            told: Any = "failed"
            try:
                result = method(*arguments, **options)
                told = getattr(result, "status", "")
            finally:
                self.take(f"{what} {told}".strip())
            return result

        return step


def _lines() -> list[tuple[str, int]]:
    found = []
    frame: Any = sys._getframe(2)
    while frame:
        file = frame.f_code.co_filename
        if file.startswith(INSIDE):
            found.append((file.removeprefix(INSIDE), frame.f_lineno))
        frame = frame.f_back
    return found

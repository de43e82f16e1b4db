"""Give every statement of a worker a deadline, so that a stalled statement cannot hang it.

A statement stalls if it waits for a lock that another session keeps, or if its plan is bad. After the deadline the
database ends it with an error that is classified as a conflict: the step is repeated, or left to a later run.

The deadline travels in the text of the statement, so it costs no round trip. It ends with the statement or its
transaction. So it never applies to statements of the host, not even through a pooler that shares connections.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.db import connections

from ...conf import get_settings

SHARE_OF_LEASE = 0.25
"""Share of ``LEASE`` after which a statement is ended. So an answer can be written again before its lease ends."""

NOT_TIMED = ("SAVEPOINT", "RELEASE", "ROLLBACK", "SET", "BEGIN", "START", "COMMIT")
"""First words of statements that MariaDB does not accept behind ``SET STATEMENT``. None of them waits for a lock."""

SLOW = 2.0
"""Seconds from which a statement is remembered as slow. The slowest statement of a healthy worker takes 0.1 s."""

MAX_REMEMBERED = 100
"""Slow statements that a process remembers until they are reported: the last ones."""

MAX_TEXT = 120
"""Characters of a slow statement that are remembered. The text has placeholders and no data."""

_IDLE = 0
"""Transaction status of libpq outside of a transaction."""

Execute = Callable[..., Any]


class SlowStatement(NamedTuple):
    """A statement that took long: the start of its text without parameters, and its seconds."""

    text: str
    seconds: float


_slow: defaultdict[str, deque[SlowStatement]] = defaultdict(lambda: deque(maxlen=MAX_REMEMBERED))
"""Database alias → the slow statements of this process that were not reported yet."""


def take_slow_statements(using: str) -> list[SlowStatement]:
    """Return the slow statements of this process since the last call. It remembers the last ``MAX_REMEMBERED``."""
    statements = list(_slow[using])
    _slow[using].clear()
    return statements


@contextmanager
def statement_deadlines() -> Iterator[None]:
    """Give each statement of this thread on the outbox's databases a deadline, inside the ``with`` block.

    The deadline is a quarter of ``LEASE``. SQLite needs none: its statements wait only for the write lock, at most as
    long as the option ``timeout`` of the database says. MySQL has none either, only its own timeouts for locks.
    """
    settings = get_settings()
    deadline = Deadline(settings.lease * SHARE_OF_LEASE)
    with ExitStack() as stack:
        for using in settings.databases:
            connection = connections[using]
            is_nested = any(isinstance(wrapper, Deadline) for wrapper in connection.execute_wrappers)
            if connection.vendor in ("postgresql", "mysql") and not is_nested:
                stack.enter_context(connection.execute_wrapper(deadline))
        yield


@dataclass(frozen=True, slots=True)
class Deadline:
    """An ``execute_wrapper`` of Django that sends a deadline with each statement. ``seconds`` is for each statement."""

    seconds: float

    def __call__(self, execute: Execute, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        """Run a statement with the deadline, and remember it if it is slow. Django calls this for each statement."""
        started = time.monotonic()
        try:
            return self._run(execute, sql, params, many, context)
        finally:
            seconds = time.monotonic() - started
            if seconds >= SLOW:
                _slow[context["connection"].alias].append(SlowStatement(str(sql)[:MAX_TEXT], seconds))

    def _run(self, execute: Execute, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        """Run a statement with the deadline."""
        connection = context["connection"]
        # Django itself sends the query of the version, at the first use of `mysql_is_mariadb` below.
        if many or not isinstance(sql, str) or "SELECT VERSION()" in sql:
            return execute(sql, params, many, context)
        if connection.vendor == "postgresql":
            return self._run_on_postgresql(execute, sql, params, context)
        if connection.mysql_is_mariadb and not sql.startswith(NOT_TIMED):
            sql = f"SET STATEMENT max_statement_time = {self.seconds:.3f} FOR {sql}"
        return execute(sql, params, many, context)

    def _run_on_postgresql(self, execute: Execute, sql: str, params: Any, context: dict[str, Any]) -> Any:
        """Run ``SET LOCAL`` and the statement in one message.

        It is needed once in a transaction. Outside of one, PostgreSQL runs both as one transaction.
        """
        connection = context["connection"]
        if connection.connection.info.transaction_status != _IDLE or sql.startswith(NOT_TIMED):
            return execute(sql, params, False, context)
        if params and connection.settings_dict["OPTIONS"].get("server_side_binding"):
            # The server takes several statements in one message only if they have no parameters.
            sql, params = connection.ops.compose_sql(sql, params), None
        milliseconds = max(int(self.seconds * 1000), 1)
        with _without_preparing(connection.connection):
            result = execute(f"SET LOCAL statement_timeout = {milliseconds}; {sql}", params, False, context)
        if _has_result_of_each_statement():
            context["cursor"].nextset()
        return result


@contextmanager
def _without_preparing(connection: Any) -> Iterator[None]:
    """Let psycopg 3 prepare no statement inside the ``with`` block: a prepared one cannot be two statements."""
    threshold = getattr(connection, "prepare_threshold", None)
    if threshold is None:
        yield
        return
    connection.prepare_threshold = None
    try:
        yield
    finally:
        connection.prepare_threshold = threshold


def _has_result_of_each_statement() -> bool:
    """Return whether the cursor is at the result of SET LOCAL. psycopg 2 keeps only the last result."""
    from django.db.backends.postgresql.psycopg_any import is_psycopg3

    return bool(is_psycopg3)

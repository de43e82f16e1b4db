"""Execute the steps: one at a time, by one process at a time, outside of a transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections

from .progress import read_progress
from .steps import Step, find_steps

LOCK = 0x65766D7573650001
"""Number of PostgreSQL's advisory lock. It applies in one database."""

LOCK_TIMEOUT = {"postgresql": 600.0, "mysql": 10.0}
"""Seconds that a statement waits for locks.

On PostgreSQL nothing else waits behind these statements, and each must wait for all transactions that began before it.
On MySQL and MariaDB every statement on the table waits behind them, so they give up soon.
"""

Build = Callable[[Step], None]
"""Called before a step is executed."""


class Busy(RuntimeError):
    """Another process builds indexes in this database now."""


def build(using: str, before: Build, *, lock_timeout: float | None = None) -> list[Step]:
    """Build all that is missing. Return the steps that were executed.

    A build that was interrupted leaves an index that is not valid on PostgreSQL, and nothing on other databases. It is
    dropped and built again. So this may be called again at any time.

    Args:
        using: Database alias.
        before: Called before each step.
        lock_timeout: Seconds that a statement waits for locks.

    Raises:
        Busy: Another process is building.
        RuntimeError: A transaction is open.
    """
    connection = connections[using]
    if connection.in_atomic_block:
        raise RuntimeError("Indexes cannot be built inside a transaction.")
    timeout = LOCK_TIMEOUT.get(connection.vendor, 0.0) if lock_timeout is None else lock_timeout
    with _alone(using), _session_settings(using, timeout):
        steps = find_steps(using)  # after the lock: another process may just have finished
        for step in steps:
            if connection.vendor == "postgresql" and (other := read_progress(using, step.table)):
                raise Busy(f"process {other.process} of the database builds an index of {step.table}")
            before(step)
            for statement in step.statements:
                _execute(using, statement)
        return steps


@contextmanager
def _alone(using: str) -> Iterator[None]:
    """Hold the lock that one process can hold at a time. SQLite needs none: it locks the database for each statement.

    If the process is killed, the server finishes its statement and then releases the lock.
    """
    pairs = {
        "postgresql": (f"SELECT pg_try_advisory_lock({LOCK})", f"SELECT pg_advisory_unlock({LOCK})"),
        "mysql": (
            "SELECT GET_LOCK(CONCAT('evermuse_outbox_indexes.', LEFT(DATABASE(), 30)), 0)",
            "SELECT RELEASE_LOCK(CONCAT('evermuse_outbox_indexes.', LEFT(DATABASE(), 30)))",
        ),
    }
    acquire, release = pairs.get(connections[using].vendor, ("", ""))
    if acquire and not _execute(using, acquire):
        raise Busy("another process is building indexes")
    try:
        yield
    finally:
        if release and connections[using].is_usable():
            _execute(using, release)


@contextmanager
def _session_settings(using: str, lock_timeout: float) -> Iterator[None]:
    """Set the timeouts of the session, and restore them: a pool may give the connection to other code."""
    connection: Any = connections[using]
    match connection.vendor:
        case "postgresql":
            wanted = {"lock_timeout": f"{round(lock_timeout * 1000)}ms", "statement_timeout": "0"}
            read, write = "SELECT current_setting('{}')", "SELECT set_config('{}', '{}', false)"
        case "mysql":
            wanted = {"lock_wait_timeout": str(max(round(lock_timeout), 1))}
            if connection.mysql_is_mariadb:
                wanted["max_statement_time"] = "0"
            read, write = "SELECT @@SESSION.{}", "SET SESSION {} = {}"
        case _:
            yield
            return
    before = {name: _execute(using, read.format(name)) for name in wanted}
    for name, value in wanted.items():
        _execute(using, write.format(name, value))
    try:
        yield
    finally:
        if connection.is_usable():
            for name, value in before.items():
                _execute(using, write.format(name, value))


def _execute(using: str, sql: str) -> Any:
    """Execute a statement; return the first value of its first row, if it has one."""
    with connections[using].cursor() as cursor:
        cursor.execute(sql)
        row = cursor.fetchone() if cursor.description else None
    return row[0] if row else None

"""Share the open database connections of a process between its threads.

Django keeps a connection for each thread. A sender waits for answers for most of its time, so its connection would be
idle for most of its time, too. Here, a thread releases its connection before each wait. The next thread that needs a
connection takes it. So a process has as many connections as threads that use the database at the same moment.

* With Django's pool (``OPTIONS["pool"]``), to release means ``close()``: the pool keeps the connection.
* Otherwise the open connection of the driver is put on a stack of this process, without Django's wrapper around it.
  Each thread keeps its wrapper, so a statement deadline or an instrumentation of one thread never reaches another.

A connection is never released inside of a transaction, and never if it was open before ``share_connections``:
the host may have changed its session, or a test may have wrapped it in a transaction.
"""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple

from django.db import Error as DatabaseError
from django.db import connections

from ...conf import get_settings

WARM_SECONDS = 2.0
"""Seconds for which an idle worker process keeps the connection that it used last. The ticks of beat come each second,
so a lone record then finds an open connection. To open one takes about as long as to seal the record."""

MAX_IDLE = 10.0
"""Seconds after which an unused connection is closed. The number of connections follows the load of this time."""


class _Idle(NamedTuple):
    """An open connection of the driver that no thread uses.

    Attributes:
        raw: the connection.
        close_at: when ``CONN_MAX_AGE`` ends, on the monotonic clock; None if it never ends.
        since: when it was released, on the monotonic clock.
    """

    raw: Any
    close_at: float | None
    since: float


class _Stacks:
    """The unused connections of this process by database alias, the one that was used last on top."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads = 0
        self._timer: threading.Timer | None = None
        self._idle: defaultdict[str, deque[_Idle]] = defaultdict(deque)

    def add_thread(self) -> None:
        """Count a thread that shares its connections."""
        with self._lock:
            self._threads += 1

    def remove_thread(self, *, is_worker: bool) -> None:
        """Forget a thread. If it was the last one, close all unused connections.

        A worker keeps the one of each database that was used last, for ``WARM_SECONDS``.
        """
        with self._lock:
            self._threads -= 1
            is_last = not self._threads
        if is_last:
            self._close_idle(kept=1 if is_worker else 0)
        if is_last and is_worker:
            self._start_timer(WARM_SECONDS)

    def _close_idle(self, kept: int = 0) -> None:
        """Close the unused connections except the last ``kept`` ones of each database, unless a thread shares again."""
        with self._lock:
            stacks = {} if self._threads else self._idle
            old = [
                (using, stack.popleft()) for using, stack in stacks.items() for _ in range(len(stack) - kept)
            ]
        for using, idle in old:
            _close(using, [idle])

    def _start_timer(self, seconds: float) -> None:
        with self._lock:
            if self._timer is None and any(self._idle.values()):
                self._timer = threading.Timer(seconds, self._end_timer)
                self._timer.daemon = True
                self._timer.start()

    def _end_timer(self) -> None:
        """Close the connections that were kept, or wait for longer if they were used meanwhile."""
        with self._lock:
            self._timer = None
            times = [idle.since for stack in self._idle.values() for idle in stack]
        left = max(times, default=0.0) + WARM_SECONDS - time.monotonic()
        if left > 0:
            self._start_timer(left)
        else:
            self._close_idle()

    def push(self, using: str, raw: Any, close_at: float | None) -> None:
        """Keep a connection, and close those that nothing has used for ``MAX_IDLE``."""
        now = time.monotonic()
        with self._lock:
            stack = self._idle[using]
            stack.append(_Idle(raw, close_at, now))
            old = [stack.popleft() for idle in list(stack) if idle.since < now - MAX_IDLE]
        _close(using, old)

    def pop(self, using: str) -> _Idle | None:
        """Return the connection that was used last; None if there is none."""
        with self._lock:
            stack = self._idle[using]
            return stack.pop() if stack else None

    def close(self, using: str) -> None:
        """Close the unused connections of a database alias."""
        with self._lock:
            old = list(self._idle.pop(using, ()))
        _close(using, old)


_stacks: defaultdict[int, _Stacks] = defaultdict(_Stacks)
"""Process id → its connections. A fork must neither use nor close those of its parent."""


class _ThreadState(threading.local):
    """``kept`` has, by alias, the connection that was open before this thread began to share; None outside of that."""

    kept: dict[str, Any] | None = None


_thread = _ThreadState()


@contextmanager
def share_connections(*, is_worker: bool = False) -> Iterator[None]:
    """Share the connections that this thread opens inside the ``with`` block, and release them at its end.

    A connection that is open already stays with the thread. ``is_worker`` says that the process soon needs a connection
    again. Then one stays open for ``WARM_SECONDS``.
    """
    if _thread.kept is not None:
        yield
        return
    stacks = _stacks[os.getpid()]
    stacks.add_thread()
    shared = [connections[using] for using in get_settings().databases]
    _thread.kept = {connection.alias: connection.connection for connection in shared}
    try:
        with ExitStack() as stack:
            for connection in shared:
                stack.enter_context(_shared_connect(connection))
            yield
    finally:
        try:
            release_connections()
        finally:
            _thread.kept = None
            stacks.remove_thread(is_worker=is_worker)


def release_connections() -> None:
    """Release the connections of this thread, because it is going to wait. The next statement takes one again.

    This has an effect only inside of ``share_connections``.
    """
    for using in _thread.kept or ():
        _release(using)


def release_other_pools(using: str) -> None:
    """Return this thread's connections to the pools of other databases, before it may wait for one of ``using``.

    Otherwise two threads could wait for each other's pool until ``PoolTimeout``.
    """
    for other in _thread.kept or ():
        if other != using and _has_pool(connections[other]):
            _release(other)


def drop_connections(using: str) -> None:
    """Close this thread's connection and the unused ones of this process. Use it after a lost connection."""
    with suppress(DatabaseError):  # closing a lost connection may fail, too
        connections[using].close()
    _stacks[os.getpid()].close(using)


def close_thread_connections() -> None:
    """Close this thread's database connections. Django does it only for threads that it knows."""
    connections.close_all()


def _release(using: str) -> None:
    """Release this thread's connection of a database alias, if that is possible."""
    connection: Any = connections[using]
    if not _may_release(connection):
        return
    if _has_pool(connection) or _is_too_old(connection):
        connection.close()
    elif connection.errors_occurred and not connection.is_usable():
        drop_connections(using)
    else:
        raw, connection.connection = connection.connection, None
        connection.close()  # the wrapper forgets what it knows about the connection
        _stacks[os.getpid()].push(using, raw, connection.close_at)


def _may_release(connection: Any) -> bool:
    is_kept = connection.connection is None or connection.connection is (_thread.kept or {}).get(
        connection.alias
    )
    is_in_transaction = connection.in_atomic_block or not connection.autocommit
    return not (is_kept or is_in_transaction or connection.allow_thread_sharing or _is_in_memory(connection))


@contextmanager
def _shared_connect(connection: Any) -> Iterator[None]:
    """Let the wrapper of this thread take connections of the process. Django calls its ``connect`` to open one."""
    replaced = vars(connection).get("connect")  # the test classes of Django replace it, too
    connection.connect = partial(_connect, connection, connection.connect)
    try:
        yield
    finally:
        del connection.connect
        if replaced:
            connection.connect = replaced


def _connect(connection: Any, open_new: Callable[[], None]) -> None:
    """Connect a thread's wrapper to a connection of the process. Open a new one if there is none."""
    while connection.connection is None and (idle := _stacks[os.getpid()].pop(connection.alias)):
        connection.get_connection_params()  # the wrappers of SQLite and MySQL keep some of them
        # A released connection is outside of a transaction. The wrapper may have lost another one inside of one.
        connection.connection, connection.close_at = idle.raw, idle.close_at
        connection.autocommit, connection.in_atomic_block, connection.needs_rollback = True, False, False
        connection.savepoint_ids, connection.atomic_blocks, connection.run_on_commit = [], [], []
        connection.closed_in_transaction = connection.errors_occurred = False
        if not connection.settings_dict["CONN_HEALTH_CHECKS"] or connection.is_usable():
            return
        drop_connections(connection.alias)
    open_new()


def _has_pool(connection: Any) -> bool:
    return bool(connection.settings_dict["OPTIONS"].get("pool"))


def _is_too_old(connection: Any) -> bool:
    """Return whether ``CONN_MAX_AGE`` is over. The value 0 concerns web requests, which a worker does not have."""
    has_limit = bool(connection.settings_dict["CONN_MAX_AGE"]) and connection.close_at is not None
    return has_limit and connection.close_at <= time.monotonic()


def _is_in_memory(connection: Any) -> bool:
    """Return whether it is a SQLite database that ends with its last connection."""
    return connection.vendor == "sqlite" and bool(connection.is_in_memory_db())


def _close(using: str, unused: list[_Idle]) -> None:
    for idle in unused:
        with suppress(DatabaseError), connections[using].wrap_database_errors:
            idle.raw.close()

"""Workspaces from a function of the host, for instance from its table of customers.

The function is called again while the process runs. If it fails, the workspaces that it returned last remain in use.
It runs in the thread that reads the settings, so it sees rows of the open transaction. Savepoints protect that
transaction from an error of the function.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from django.db import connections, transaction
from django.utils.module_loading import import_string

from ..foreign_text import HiddenText, error_code, get_logger, log_ids, type_name
from .options import SETTING
from .problems import Problem, find_workspace_problems
from .workspace import Workspace, merge_entries, read_workspace

logger = get_logger(__name__)

CALL_INTERVAL = 10.0
"""Seconds for which the result of a call is used. A removed workspace is used for at most this long in each process."""

UNKNOWN_INTERVAL = 1.0
"""Seconds in which the same unknown name causes no second call."""

MAX_UNKNOWN = 1_000
"""Unknown names that are remembered."""

ORIGIN = f"{SETTING}['WORKSPACES']()"
"""Path of the returned dict in messages."""

HINT = 'Use the dotted path of a function without arguments, for instance "shop.customers.read_workspaces".'

SECRET_OPTIONS = ("API_KEY", "API_KEYS", "PROXY")


@dataclass(frozen=True, slots=True)
class Reading:
    """What the calls of the function gave.

    Attributes:
        workspaces: The valid workspaces. One that has become invalid is there with its last valid settings.
        problems: Name of a workspace → what is wrong with its settings. The name is empty if the call failed.
        is_complete: Whether a call has returned a dict.
        entries: The returned settings of each workspace, to find those that have changed.
    """

    workspaces: Mapping[str, Workspace]
    problems: Mapping[str, Problem] = field(default_factory=dict)
    is_complete: bool = False
    entries: Mapping[Any, Any] = field(default_factory=dict, repr=False)


class WorkspaceFunction:
    """Call a function of the host when it is due, and keep the last good result. Threads may share it.

    No lock is held during a call, so a thread never waits for the call of another one.

    Args:
        function: The function, or its dotted path.
        raw: The settings dict of the project, from which the workspaces inherit.
        clock: Returns seconds.
    """

    def __init__(
        self,
        function: Callable[[], Any] | str,
        raw: Mapping[str, Any],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._function = function
        self._raw = raw
        self._clock = clock
        self._lock = threading.Lock()
        self._active = threading.local()
        self.latest = Reading(self.static_workspaces())
        self._call_at: float | None = None
        self._started = self._stored = 0
        self._unknown: dict[str, float] = {}

    def static_workspaces(self) -> Mapping[str, Workspace]:
        """Return the workspace that the settings dict itself defines; nothing if it has no key."""
        return {name: read_workspace(name, keys) for name, keys in merge_entries(self._raw, {}).items()}

    def load(self) -> Callable[[], Any]:
        """Return the function. Import it if the setting is its dotted path."""
        function: Callable[[], Any] = (
            import_string(self._function) if isinstance(self._function, str) else self._function
        )
        return function

    def read(self) -> Reading:
        """Return the present workspaces. Call the function if ``CALL_INTERVAL`` seconds have passed."""
        now = self._clock()
        if self._call_at is not None and now < self._call_at:
            return self.latest
        with self._lock:
            if (
                self._is_active()
                or _is_in_broken_transaction()
                or (self._call_at is not None and now < self._call_at)
            ):
                return self.latest
            self._call_at = now + CALL_INTERVAL  # meanwhile, other threads use the last result
        return self._call()

    def find(self, name: str) -> Workspace | None:
        """Call the function for a name that was unknown until now, and return its workspace; None if there is none.

        For the same name, the function is called at most once in ``UNKNOWN_INTERVAL`` seconds.
        """
        with self._lock:
            now = self._clock()
            if self._is_active() or _is_in_broken_transaction() or now < self._unknown.get(name, now):
                return self.latest.workspaces.get(name)
            if len(self._unknown) >= MAX_UNKNOWN:
                self._unknown.clear()
            self._unknown[name] = now + UNKNOWN_INTERVAL
        workspace = self._call().workspaces.get(name)
        if workspace:
            self._unknown.pop(name, None)
        return workspace

    def forget(self) -> None:
        """Call the function at the next use, also if another thread calls it now."""
        with self._lock:
            self._stored = self._started
            self._call_at = None
            self._unknown.clear()

    def _is_active(self) -> bool:
        """Return whether this thread runs the function, which itself uses the settings."""
        return getattr(self._active, "value", False)

    def _call(self) -> Reading:
        with self._lock:
            self._started += 1
            number = self._started
        self._active.value = True
        try:
            entries = _call_safely(self.load)
        finally:
            self._active.value = False
        with self._lock:
            # The call that began last knows most. An earlier one may end later, and is then without use.
            if number > self._stored:
                self._stored = number
                self._call_at = self._clock() + CALL_INTERVAL
                self._store(entries)
            return self.latest

    def _store(self, entries: Mapping[Any, Any] | Problem) -> None:
        former = self.latest
        if isinstance(entries, Problem):
            consequence = "The last result remains in use." if former.is_complete else "Nothing is delivered."
            problem = replace(entries, message=f"{entries.message} {consequence}")
            if former.problems.get("") != problem:
                logger.warning("%s", problem, extra=log_ids())
            problems = {**former.problems, "": problem}
            self.latest = Reading(former.workspaces, problems, former.is_complete, former.entries)
        elif not former.is_complete or entries != former.entries or "" in former.problems:
            self.latest = self._build(entries, former)

    def _build(self, entries: Mapping[Any, Any], former: Reading) -> Reading:
        """Return the reading of a returned dict. Only what has changed is validated."""
        valid, problems = {}, {}
        known = former.workspaces if former.is_complete else {}
        for name, keys in entries.items():
            is_same = name in former.entries and former.entries[name] == keys
            problem = former.problems.get(name) if is_same else self._find_problem(name, keys)
            if problem:
                if not is_same:
                    problem = replace(problem, message=f"{problem.message} {_describe_use(name in known)}")
                problems[name] = problem
                if not is_same:
                    logger.warning("%s", problem, extra=log_ids())
            else:
                valid[name] = keys
        workspaces: dict[str, Workspace] = {name: known[name] for name in problems if name in known}
        for name, keys in merge_entries(self._raw, valid).items():
            if name in problems:
                continue  # the default one: its settings at the top level are not all of them
            before = former.workspaces.get(name)
            is_same = name in former.entries and former.entries[name] == valid.get(name)
            workspaces[name] = before if before and is_same else read_workspace(name, keys, before)
        return Reading(workspaces, problems, True, entries)

    def _find_problem(self, name: Any, keys: Any) -> Problem | None:
        return next(find_workspace_problems(self._raw, name, keys, ORIGIN), None)


def _describe_use(is_known: bool) -> str:
    if is_known:
        return "The last valid settings of the workspace remain in use."
    return "Until this is corrected, the workspace is not used."


def find_import_problem(function: WorkspaceFunction) -> Problem | None:
    """Return why the dotted path of a function cannot be imported; None if it can."""
    try:
        return (
            None
            if callable(function.load())
            else Problem(ORIGIN[:-2], "the path is not that of a function.", HINT)
        )
    except Exception as error:
        return Problem(ORIGIN[:-2], f"the function cannot be imported: {type_name(error)}.", HINT)


def _call_safely(load: Callable[[], Callable[[], Any]]) -> dict[Any, Any] | Problem:
    """Return a copy of the dict that the function returns, with hidden keys, or what is wrong."""
    try:
        return _copy(_call(load()))
    except _NotADict as error:
        return Problem(
            f"{SETTING}['WORKSPACES']", f"the function returned {error.kind}, not a dict.", error.hint
        )
    except Exception as error:
        # Without the text of the error, because it may quote a key, which is not known yet and so not masked.
        code = error_code(error)
        return Problem(
            f"{SETTING}['WORKSPACES']",
            f"the function failed: {type_name(error)}{f' ({code})' if code else ''}.",
            "Call it in manage.py shell to see the error.",
        )


def _call(call: Callable[[], Any]) -> Any:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        with _savepoints():
            return call()
    # Django refuses queries in the thread of an event loop.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(contextvars.copy_context().run, _call_in_thread, call).result()


def _call_in_thread(call: Callable[[], Any]) -> Any:
    try:
        return call()
    finally:
        connections.close_all()  # those of this thread


@contextmanager
def _savepoints() -> Iterator[None]:
    """Set a savepoint in each open transaction, so that a failed query of the function does not end it."""
    with ExitStack() as stack:
        for connection in connections.all(initialized_only=True):
            if _is_in_transaction(connection):
                stack.enter_context(transaction.atomic(using=connection.alias))
        yield


def _is_in_transaction(connection: Any) -> bool:
    is_open: bool = connection.in_atomic_block or (
        connection.connection is not None and not connection.autocommit
    )
    return is_open


def _is_in_broken_transaction() -> bool:
    """Return whether a query would fail, because the caller has to roll a transaction back first."""
    return any(
        connection.in_atomic_block and connection.needs_rollback
        for connection in connections.all(initialized_only=True)
    )


class _NotADict(Exception):
    def __init__(self, kind: str, hint: str) -> None:
        super().__init__(kind)
        self.kind = kind
        self.hint = hint


def _copy(result: Any) -> dict[Any, Any]:
    """Return a copy, in which error reports do not show the keys as values of local variables."""
    if inspect.iscoroutine(result):
        result.close()
        raise _NotADict("a coroutine", "Use a function that is not async.")
    if not isinstance(result, Mapping):
        kind, result = type_name(result), None
        raise _NotADict(kind, "Return a dict from name to settings.")
    return {name: _hide(keys) for name, keys in result.items()}


def _hide(keys: Any) -> Any:
    if isinstance(keys, str):
        return HiddenText(keys)
    if not isinstance(keys, Mapping):
        return keys
    return {name: _hide_value(value) if name in SECRET_OPTIONS else value for name, value in keys.items()}


def _hide_value(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_hide_value(item) for item in value]
    return HiddenText(value) if isinstance(value, str) else value

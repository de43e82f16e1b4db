"""Run short transactions again when the database reports a transient error.

Without it, each deadlock or restart of the database would end a run, and an answer of Evermuse could be lost.

No lock is held between two attempts: a failed step has been rolled back before the pause. If the caller has opened a
transaction, the step runs only once, because then the complete transaction must be repeated.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, ParamSpec, TypeVar

from django.db import Error as DatabaseError
from django.db import connections

from ...conf import UnknownWorkspace
from ...foreign_text import get_logger, log_ids
from ..connections import drop_connections, release_connections, release_other_pools
from .backoff import full_jitter
from .clock import Clock
from .database_errors import DatabaseErrorKind, classify_database_error, summarise_error

logger = get_logger(__name__)

NO_TABLES_INTERVAL = 60.0
"""Seconds between two logs of missing tables."""

T = TypeVar("T")
P = ParamSpec("P")

MAX_ATTEMPTS = 5
"""Attempts for a step that a later run can repeat at no cost."""

MAX_SECONDS = 5.0
"""Seconds after which such a step is left to a later run. Some databases wait for long before they fail."""

FIRST_PAUSE, MAX_PAUSE = 0.05, 5.0
"""Seconds. The upper limit of a random pause doubles from the first value to the second."""

LEASE_MARGIN = 1.0
"""Seconds before the end of a lease at which the last attempt begins at the latest."""


def retry_on_database_error(
    using: str, clock: Clock, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Run ``step`` and return its result; repeat it a few times after a conflict or a lost connection.

    ``step`` must be safe to repeat after a rollback, and after a COMMIT with a lost answer. Raise what ``step``
    raises; raise the database error when the attempts are used up.
    """
    attempts = _Attempts(using, clock, clock.monotonic() + MAX_SECONDS, MAX_ATTEMPTS)
    return attempts.run(partial(step, *args, **kwargs))


def retry_until(
    end: datetime, using: str, clock: Clock, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Run ``step`` and return its result; repeat it until shortly before ``end``.

    Use it for an answer of Evermuse, which would be lost otherwise. It also waits for a read-only or full database.
    """
    seconds = (end - clock.now()).total_seconds() - LEASE_MARGIN
    attempts = _Attempts(using, clock, clock.monotonic() + seconds, None)
    return attempts.run(partial(step, *args, **kwargs))


@contextmanager
def isolate_database_errors(name: str) -> Iterator[None]:
    """Log a database error instead of raising it, so that work on the other databases goes on.

    The same holds for a workspace that was removed from the settings a moment ago: work on the others goes on.
    ``name`` is a database alias or a queue key, ``alias/workspace``.
    """
    try:
        yield
    except DatabaseError as error:
        log_database_error(error, name)
    except UnknownWorkspace as error:
        database, _, workspace = name.partition("/")
        ids = log_ids(database=database, workspace=workspace)
        logger.info("%s: skipped: %s", name, summarise_error(error), extra=ids)


def log_database_error(error: DatabaseError, name: str) -> None:
    """Log an error that ended a run. ``name`` is a database alias or a queue key, ``alias/workspace``.

    Missing tables are logged once a minute for each database, because every run meets them until a person acts.
    """
    database, _, workspace = name.partition("/")
    ids = log_ids(database=database, workspace=workspace or None)
    kind = classify_database_error(error)
    if kind is DatabaseErrorKind.NO_TABLES:
        if _is_due(database):
            logger.error(
                "The connection %s does not see the tables of the outbox as this version needs them, so nothing is "
                "delivered from it. Run manage.py migrate evermuse_outbox --database %s. If they exist, correct the "
                "schema (search_path), the database or the privileges of the connection. Workers go on when they see "
                "the tables (%s).",
                database,
                database,
                summarise_error(error),
                extra=ids,
            )
        return
    # An error of an unknown kind is a defect of ours or of the installation: show where it happened.
    logger.warning(
        "%s: skipped until the next run: %s", name, summarise_error(error), exc_info=kind is None, extra=ids
    )


_reported: dict[str, float] = {}
"""Database alias → when this process last logged that the tables are missing, on the monotonic clock."""


def _is_due(database: str) -> bool:
    now = time.monotonic()
    is_due = now - _reported.get(database, float("-inf")) >= NO_TABLES_INTERVAL
    if is_due:
        _reported[database] = now
    return is_due


@dataclass(frozen=True, slots=True)
class _Attempts:
    """How often, and until which time of the monotonic clock, a step may be repeated."""

    using: str
    clock: Clock
    deadline: float
    limit: int | None
    """None if only the deadline ends the attempts."""

    def run(self, step: Callable[[], T]) -> T:
        if _is_in_transaction(connections[self.using]):
            return step()
        release_other_pools(self.using)
        attempt = 0
        while True:
            attempt += 1
            try:
                return step()
            except DatabaseError as error:
                pause = full_jitter(attempt, FIRST_PAUSE, MAX_PAUSE)
                if not self._may_repeat(error, attempt, pause):
                    raise
                self._log(error, attempt)
            release_connections()
            self.clock.sleep(pause)

    def _may_repeat(self, error: DatabaseError, attempt: int, pause: float) -> bool:
        kind = classify_database_error(error)
        if kind in (DatabaseErrorKind.CONNECTION, DatabaseErrorKind.READ_ONLY):
            # A new connection may lead to a restarted server or to the one that took over.
            drop_connections(self.using)
        is_transient = kind in (DatabaseErrorKind.CONFLICT, DatabaseErrorKind.CONNECTION)
        is_waited_for = kind is DatabaseErrorKind.READ_ONLY and self.limit is None
        has_time = self.clock.monotonic() + pause <= self.deadline
        return (is_transient or is_waited_for) and attempt != self.limit and has_time

    def _log(self, error: DatabaseError, attempt: int) -> None:
        # One failure is normal. A second one in a row delays an answer of Evermuse and deserves attention.
        level = logging.WARNING if attempt == 2 and self.limit is None else logging.INFO
        ids = log_ids(database=self.using)
        logger.log(level, "retrying on the database %s: %s", self.using, summarise_error(error), extra=ids)


def _is_in_transaction(connection: Any) -> bool:
    is_manual = connection.connection is not None and not connection.autocommit
    return connection.in_atomic_block or is_manual

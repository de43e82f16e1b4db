"""Short transactions, run again where the database says that it had trouble of its own.

Nothing sleeps inside a transaction here: a step that failed has been rolled back before the pause. Inside a
transaction that the caller has opened, a step runs once, for there it is the whole that must be run again.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from django.db import Error as DatabaseError
from django.db import connections

from .backoff import full_jitter
from .database_errors import DatabaseErrorKind, classify_database_error, summarise_error

if TYPE_CHECKING:
    from .context import Clock

logger = logging.getLogger(__name__)

T = TypeVar("T")
P = ParamSpec("P")

TRIES = 5
"""How often a step is tried that a later run can just as well make up for."""

PROMPTLY = 5.0
"""Seconds after which such a step is left to a later run: some databases wait for long before they fail."""

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 5.0
"""Seconds. A pause is anything up to a ceiling that doubles from the first to the longest."""

SPARE = 1.0
"""Seconds before the end of a lease at which the last try begins at the latest."""


def retry_on_database_error(
    using: str, clock: Clock, step: Callable[P, T], *given: P.args, **named: P.kwargs
) -> T:
    """What ``step`` returns; it is tried a few times where a conflict or a lost connection ends it.

    ``step`` must be safe to run again after it was rolled back, and also after a COMMIT that nobody
    answered. Raises what it raises, a database error once the tries are used up.
    """
    tries = _Tries(using, clock, clock.monotonic() + PROMPTLY, TRIES)
    return tries.run(partial(step, *given, **named))


def retry_until(
    until: datetime, using: str, clock: Clock, step: Callable[P, T], *given: P.args, **named: P.kwargs
) -> T:
    """:func:`persist` for what would be lost otherwise: tried until shortly before ``until``, and a database
    that takes no writes is waited for, too."""
    seconds = (until - clock.now()).total_seconds() - SPARE
    tries = _Tries(using, clock, clock.monotonic() + seconds, None)
    return tries.run(partial(step, *given, **named))


@dataclass(frozen=True, slots=True)
class _Tries:
    using: str
    clock: Clock
    deadline: float
    most: int | None
    """None where an answer waits for it."""

    def run(self, step: Callable[[], T]) -> T:
        if _is_wrapped(connections[self.using]):
            return step()
        tries = 0
        while True:
            tries += 1
            try:
                return step()
            except DatabaseError as error:
                pause = full_jitter(tries, FIRST_PAUSE, LONGEST_PAUSE)
                if not self._may_pass(error, tries, pause):
                    raise
                self._tell(error, tries)
            self.clock.sleep(pause)

    def _may_pass(self, error: DatabaseError, tries: int, pause: float) -> bool:
        trouble = classify_database_error(error)
        if trouble in (DatabaseErrorKind.CONNECTION, DatabaseErrorKind.READ_ONLY):
            # The next connection may lead to a server that was restarted, or to the one that took over.
            _close(self.using)
        is_known = trouble in (DatabaseErrorKind.CONFLICT, DatabaseErrorKind.CONNECTION) or (
            trouble and self.most is None
        )
        return bool(is_known) and tries != self.most and self.clock.monotonic() + pause <= self.deadline

    def _tell(self, error: DatabaseError, tries: int) -> None:
        # Once is everyday life. Twice in a row, where an answer waits for it, is worth a look.
        level = logging.WARNING if tries == 2 and self.most is None else logging.INFO
        logger.log(level, "the database %s is asked again: %s", self.using, summarise_error(error))


def _is_wrapped(connection: Any) -> bool:
    by_hand = connection.connection is not None and not connection.autocommit
    return connection.in_atomic_block or by_hand


def _close(using: str) -> None:
    with contextlib.suppress(DatabaseError):  # a connection that is lost may refuse even that
        connections[using].close()

"""Choose the crash points: the steps after which a process is killed or paused."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from .scenario import Scenario
from .steps import Step

PLACE_LINES = 5
"""Number of innermost lines of the package that tell one place of the code from another."""


class CrashPoints:
    """Chooses crash points, and remembers them so that no equal one is chosen again."""

    def __init__(self) -> None:
        self._known: set[Any] = set()

    def choose(self, scenario: Scenario, alias: str, steps: list[Step]) -> Iterator[int]:
        """Yield the steps, from 1, after which ``scenario`` is killed on that database.

        Of a main scenario that is every step. Of the others it is each step that no scenario has reached before and,
        on SQLite, each step from Evermuse's answer on. Of the writes of one transaction, which are invisible before
        the commit, it is only the last one, except for main scenarios on SQLite.
        """
        is_sqlite, is_answered = alias == "default", False
        for number, (step, following) in enumerate(itertools.pairwise([*steps, None]), start=1):
            assert step
            is_last_write = not (step.is_open and following and following.is_open)
            if not is_last_write and not (scenario.is_main and is_sqlite):
                continue
            is_answered |= bool(following) and following.change.startswith("HTTP answered")
            is_new_place = self._is_new_place(alias, step)
            is_new_path = self._is_new(alias, *_path(scenario, steps[:number]))
            if is_new_path and (is_new_place or scenario.is_main or (is_sqlite and is_answered)):
                yield number

    def choose_between_transactions(self, alias: str, steps: list[Step]) -> Iterator[int]:
        """Yield the steps, from 1, after which a paused process blocks no other; each place of the code once."""
        for number, step in enumerate(steps[:-1], start=1):
            if not step.is_open and self._is_new_place(alias, step):
                yield number

    def _is_new_place(self, alias: str, step: Step) -> bool:
        return self._is_new(alias, step.change, *step.lines[:PLACE_LINES])

    def _is_new(self, *key: Any) -> bool:
        is_new = key not in self._known
        self._known.add(key)
        return is_new


def _path(scenario: Scenario, steps: list[Step]) -> Iterator[Any]:
    """Yield what tells one crash point from another: the steps before it and, after a request, the preparation."""
    yield from ((step.change, *step.lines) for step in steps)
    if any(step.change.startswith("HTTP") for step in steps):
        yield from (scenario.prepare, repr(scenario.settings), repr(scenario.sandbox))

"""Where to kill: after every step, but where nobody could tell it from a kill that was already played."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from .scenario import Scenario
from .steps import Step

PLACE = 5
"""So many of our lines that led to a step say which step of the code it is."""


class Points:
    """Chooses points, and remembers what was chosen."""

    def __init__(self) -> None:
        self._known: set[Any] = set()

    def of(self, scenario: Scenario, alias: str, steps: list[Step]) -> Iterator[int]:
        """The steps, from 1, after which ``scenario`` is killed on that database.

        Of a main scenario every step; of the others, those that no scenario has come to before, and on SQLite
        everything from the answer of Evermuse on. Of the writes of one transaction, which nobody sees
        before it commits, only the last, but for the main scenarios on SQLite.
        """
        is_light, is_answered = alias == "default", False
        for number, (step, following) in enumerate(itertools.pairwise([*steps, None]), start=1):
            assert step
            is_last_write = not (step.is_open and following and following.is_open)
            if not is_last_write and not (scenario.main and is_light):
                continue
            is_answered |= bool(following) and following.what.startswith("HTTP answered")
            is_new_place = self._is_new_place(alias, step)
            is_new_way = self._is_new(alias, *_way(scenario, steps[:number]))
            if is_new_way and (is_new_place or scenario.main or (is_light and is_answered)):
                yield number

    def between_transactions(self, alias: str, steps: list[Step]) -> Iterator[int]:
        """The steps after which a process can be paused for long without holding anybody back; each place
        in the code once.
        """
        for number, step in enumerate(steps[:-1], start=1):
            if not step.is_open and self._is_new_place(alias, step):
                yield number

    def _is_new_place(self, alias: str, step: Step) -> bool:
        return self._is_new(alias, step.what, *step.lines[:PLACE])

    def _is_new(self, *what: Any) -> bool:
        is_new = what not in self._known
        self._known.add(what)
        return is_new


def _way(scenario: Scenario, steps: list[Step]) -> Iterator[Any]:
    """What tells a point from others: how it got there, and once Evermuse heard of it, from where."""
    yield from ((step.what, *step.lines) for step in steps)
    if any(step.what.startswith("HTTP") for step in steps):
        yield from (scenario.before, repr(scenario.settings), repr(scenario.sandbox))

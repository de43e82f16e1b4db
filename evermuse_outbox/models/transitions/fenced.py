"""A change of state that names its source states, and the QuerySet that applies it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, TypeVar

from django.db import models

from ..settled import notify_batch

M = TypeVar("M", bound=models.Model)

ANY = "any"
"""Source of a transition that may start in any state."""

NO_ROW = "(no row)"
"""Source or target where the row does not exist."""


class Transition(NamedTuple):
    """The states that a change starts from, and the state it leads to."""

    sources: tuple[str, ...]
    target: str

    def is_legal(self, before: str, after: str) -> bool:
        """Return whether this transition leads from ``before`` to ``after``."""
        return after == self.target and (before in self.sources or ANY in self.sources)

    def source_condition(self) -> models.Q:
        """Return the condition on ``state`` that holds before the change."""
        states = [state for state in self.sources if state != NO_ROW]
        if ANY in states:
            return models.Q()
        return models.Q(state=states[0]) if len(states) == 1 else models.Q(state__in=states)


class UnexpectedState(Exception):
    """A row that the transaction has locked is not in the state that the change starts from.

    The caller's transaction must be rolled back.
    """


class StateQuerySet(models.QuerySet[M]):
    """A QuerySet of a model with a column ``state``."""

    transitions: ClassVar[Mapping[str, Transition]] = {}

    def _change_state(self, method: str, **columns: Any) -> int:
        """Update the rows that are in a source state of the transition; return how many were updated."""
        transition = self.transitions[method]
        return self.filter(transition.source_condition()).update(state=transition.target, **columns)

    def _settle_row(self, method: str, row: M, **columns: Any) -> bool:
        """Update a batch that is in a source state, and send its signal. Return False if it is in another state."""
        if not self.filter(pk=row.pk)._change_state(method, **columns):
            return False
        notify_batch(self.db, row, self.transitions[method].target)
        return True

    def _change_locked(self, method: str, pk: Any, **columns: Any) -> None:
        """Change a row that this transaction has locked; raise UnexpectedState if its state does not fit."""
        if not self.filter(pk=pk)._change_state(method, **columns):
            sources = ", ".join(self.transitions[method].sources)
            raise UnexpectedState(f"{method}: {self.model._meta.verbose_name} {pk} is not {sources}")

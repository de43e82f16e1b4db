"""An explicit-state model checker: visit every state that can be reached, and look for broken properties."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from .protocol import Protocol, State


class Result(NamedTuple):
    """What a check has found. ``trace`` is the shortest way to the first broken property, as names of actions."""

    states: int
    steps: int
    violations: list[str]
    trace: list[str]


def check(protocol: Protocol, progress: Callable[[int], object] | None = None) -> Result:
    """Visit every reachable state, breadth first.

    Two kinds of properties are checked. *Safety*: no state breaks a property of ``Protocol.violations``. *Nothing waits
    forever*: from every state, a final one can be reached.

    Args:
        protocol: the model.
        progress: is called with the number of states that were visited so far.
    """
    initial = protocol.initial()
    came_from: dict[State, tuple[State, str] | None] = {initial: None}
    before: dict[State, list[State]] = {}
    final, waiting, steps = [], deque([initial]), 0
    while waiting:
        state = waiting.popleft()
        if progress:
            progress(len(came_from))
        if violations := protocol.violations(state):
            return Result(len(came_from), steps, violations, _trace(came_from, state))
        if protocol.is_final(state):
            final.append(state)
        for name, after in protocol.steps(state):
            steps += 1
            before.setdefault(after, []).append(state)
            if after not in came_from:
                came_from[after] = (state, name)
                waiting.append(after)
    stuck = _first_stuck(came_from, before, final)
    if stuck is None:
        return Result(len(came_from), steps, [], [])
    return Result(len(came_from), steps, ["no final state can be reached any more"], _trace(came_from, stuck))


def _first_stuck(
    visited: dict[State, tuple[State, str] | None], before: dict[State, list[State]], final: list[State]
) -> State | None:
    """Return the first visited state from which no final state can be reached."""
    can_end, waiting = set(final), deque(final)
    while waiting:
        for earlier in before.get(waiting.popleft(), ()):
            if earlier not in can_end:
                can_end.add(earlier)
                waiting.append(earlier)
    return next((state for state in visited if state not in can_end), None)


def _trace(came_from: dict[State, tuple[State, str] | None], state: State) -> list[str]:
    names = []
    while origin := came_from[state]:
        state, name = origin
        names.append(name)
    return names[::-1]

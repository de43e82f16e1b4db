"""The description of a scenario. The scenarios are in :mod:`tests.crash.scenarios`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evermuse_outbox.sandbox import Fault

from .environment import Action, Environment


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What happens before, in and after the process that dies.

    Attributes:
        action: what the dying process does.
        prepare: creates the rows before it.
        faults: what the next POSTs or GETs meet.
        repair: ends a fault that does not end by itself, before workers start again.
        expected: the states of all records at the end, in the order of enqueueing; or a function that checks them.
        settings: keys of ``EVERMUSE_OUTBOX``.
        sandbox: arguments of the ``Sandbox``.
        may_repeat: Evermuse may get a good record more than once, under another key.
        is_purging: records are deleted, so they cannot be compared with those of Evermuse.
        is_paced: the throttle is the one of the settings; else requests never wait.
        is_main: killed after every step on every database and, on SQLite, after each write of a transaction, too.
        is_paused: also run by a worker that is paused, and goes on after others took over.
    """

    action: Action
    prepare: Action = lambda env: env.enqueue(1, 2, 3)
    faults: Sequence[Fault] = ()
    repair: Action = lambda env: None
    expected: str | Callable[[Environment, list[str]], object] = "delivered delivered delivered"
    settings: Mapping[str, Any] = field(default_factory=dict)
    sandbox: Mapping[str, Any] = field(default_factory=dict)
    may_repeat: bool = False
    is_purging: bool = False
    is_paced: bool = False
    is_main: bool = False
    is_paused: bool = False

    @property
    def name(self) -> str:
        """The name of its function."""
        return self.action.__name__


SCENARIOS: dict[str, Scenario] = {}


def scenario(**arguments: Any) -> Callable[[Action], Action]:
    """Register a function as the ``action`` of a :class:`Scenario` with these arguments."""

    def add(action: Action) -> Action:
        assert action.__name__ not in SCENARIOS, f"there is a scenario {action.__name__} already"
        SCENARIOS[action.__name__] = Scenario(action=action, **arguments)
        return action

    return add

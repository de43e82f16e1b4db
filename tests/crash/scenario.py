"""What a scenario is. They stand in :mod:`tests.crash.scenarios`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evermuse_outbox.sandbox import Fault

from .environment import Life, Play


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One piece of the pipeline's life.

    - ``before`` prepares the rows; then Evermuse meets the next POSTs or GETs with ``faults``.
    - ``play`` is what the dying process does.
    - ``mend`` ends the trouble that was not over by itself, before workers start again.
    - ``ends``: the states of all records at the end, in the order of enqueueing; or a check of them.
    - ``settings``: keys of ``EVERMUSE_OUTBOX``; ``sandbox``: arguments of the ``Sandbox``.
    - ``again``: Evermuse may rightly get a good record more than once, under another key.
    - ``purges``: rows go, so that they can no longer be compared with what Evermuse has.
    - ``paced``: the keeper of the pace is the one of the settings (else everybody may go at once).
    - ``main``: dies at every step on every database, and on SQLite after each write of a transaction, too.
    - ``wakes``: also played by a worker that is only paused, and wakes when others have taken over.
    """

    play: Play
    mend: Play = lambda life: None
    before: Play = lambda life: life.enqueue(1, 2, 3)
    faults: Sequence[Fault] = ()
    ends: str | Callable[[Life, list[str]], object] = "delivered delivered delivered"
    settings: Mapping[str, Any] = field(default_factory=dict)
    sandbox: Mapping[str, Any] = field(default_factory=dict)
    again: bool = False
    purges: bool = False
    paced: bool = False
    main: bool = False
    wakes: bool = False

    @property
    def name(self) -> str:
        """The name of its function."""
        return self.play.__name__


SCENARIOS: dict[str, Scenario] = {}


def scenario(**arguments: Any) -> Callable[[Play], Play]:
    """Makes a function the ``play`` of a :class:`Scenario` with these arguments."""

    def add(play: Play) -> Play:
        assert play.__name__ not in SCENARIOS, f"there is a scenario {play.__name__} already"
        SCENARIOS[play.__name__] = Scenario(play=play, **arguments)
        return play

    return add

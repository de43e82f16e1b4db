"""The pauses between two looks at a database, so that looks take a small share of a core however slow they are."""

from __future__ import annotations

from collections import defaultdict, deque
from enum import Enum, auto

LOOK_INTERVAL = 0.025
"""Minimum seconds between two looks at a database. A lone record waits for half of it on average."""

FULL_LOOK_INTERVAL = 0.2
"""Seconds after which a look also searches for batches that are due. Before that, it only searches for new records."""

LOOK_SHARE = 25
"""A pause is at least this many times as long as a look of its kind. So looks take at most about 4 % of a core."""

MAX_PAUSE = 1.0
"""Maximum seconds between two looks: the time between two ticks of Celery beat."""

RECENT_LOOKS = 8
"""Looks of a kind of which the shortest says what a look takes. A look is much longer if it waits for a processor or
opens a connection. Its length then says nothing about the next one, and a pause for it would delay all records."""


class Look(Enum):
    """What a look searched for."""

    QUICK = auto()
    """A pending record of any workspace, and there was none."""
    PENDING = auto()
    """The same, and then the workspaces with work."""
    FULL = auto()
    """The workspaces with work, at once."""


class Pace:
    """When to look next at one database."""

    def __init__(self) -> None:
        self._recent: defaultdict[Look, deque[float]] = defaultdict(lambda: deque(maxlen=RECENT_LOOKS))
        self._full_look_at: float | None = None

    def is_full_look_due(self, now: float) -> bool:
        """Return whether the next look has to search for everything."""
        return self._full_look_at is None or now >= self._full_look_at

    def pause_after(self, look: Look, started: float, ended: float) -> float:
        """Return the seconds until the next look.

        A full look delays only the next full look. New records are found meanwhile.
        """
        self._recent[look].append(ended - started)
        pause = min(LOOK_SHARE * min(self._recent[look]), MAX_PAUSE)
        if look is not Look.QUICK:
            self._full_look_at = started + max(FULL_LOOK_INTERVAL, pause)
        if look is Look.FULL:
            pause = min(pause, LOOK_SHARE * min(self._recent[Look.QUICK], default=0.0))
        return max(LOOK_INTERVAL, pause)

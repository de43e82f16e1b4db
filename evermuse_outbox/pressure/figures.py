"""The figures of the pressure, and the error of a record that is refused because of it."""

from __future__ import annotations

from dataclasses import dataclass

from ..evermuse import EvermuseError

SHORT = 9.95
"""Seconds. A shorter wait is shown in tenths of a second, such as the waits that the pace of a backfill compares."""


@dataclass(frozen=True, slots=True)
class Pressure:
    """How long a record of a workspace will probably wait until it is sent, if it is enqueued now.

    Attributes:
        seconds: The wait at the rate limit, and until the circuit breaker closes. None if it is not known.
        requests: Requests that are sent before, about.
        records: Pending records, about.
        reason: What the record waits for, in words; empty if it does not wait.
    """

    seconds: float | None
    requests: int = 0
    records: int = 0
    reason: str = ""

    def is_above(self, seconds: float) -> bool:
        """Return whether the wait is longer than ``seconds``. An unknown wait counts as longer."""
        return self.seconds is None or self.seconds > seconds

    def __str__(self) -> str:
        if self.seconds is None:
            wait = "for an unknown time"
        else:
            wait = f"about {self.seconds:,.{int(0 < self.seconds < SHORT)}f} s"
        return f"A new record waits {wait}" + (f": {self.reason}" if self.reason else ".")


class OutboxFull(EvermuseError):
    """A new record would wait longer than ``REJECT_ABOVE`` allows, so it was not inserted.

    Attributes:
        workspace: the name of the workspace.
        pressure: how long the record would wait, and why.
        limit: the setting, in seconds.
    """

    def __init__(self, workspace: str, pressure: Pressure, limit: float) -> None:
        self.workspace, self.pressure, self.limit = workspace, pressure, limit
        super().__init__(
            f"The outbox of the workspace {workspace!r} is full, because REJECT_ABOVE is {limit:g} s. {pressure} "
            "Enqueue the record later, or raise REJECT_ABOVE."
        )

"""How long records are kept after their end, for each final state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ...foreign_text import safe_repr
from .values import InvalidValue, Number, suggest

DEFAULT_DAYS = 14

_read_days = Number(1 / 24, 36_500, "days")


@dataclass(frozen=True, slots=True)
class Retention:
    """Days for which records of each final state are kept; ``rejected`` is None if they are kept for ever."""

    delivered: float = DEFAULT_DAYS
    superseded: float = DEFAULT_DAYS
    discarded: float = DEFAULT_DAYS
    expired: float = DEFAULT_DAYS
    rejected: float | None = None

    @classmethod
    def of(cls, days: float | Retention) -> Retention:
        """Return a retention of ``days`` for all states but rejected. A retention is returned unchanged."""
        return days if isinstance(days, cls) else cls(days, days, days, days)  # type: ignore[arg-type]

    def days(self, state: str | None) -> float | None:
        """Return the days of a value of ``closed_as``: None is a delivered record. The result None means for ever."""
        days: float | None = getattr(self, state or "delivered")
        return days

    @property
    def longest(self) -> float:
        """The longest time for which a record is kept that is not kept for ever."""
        return max(days for state in STATES if (days := self.days(state)) is not None)


STATES = tuple(field.name for field in fields(Retention))
"""The final states of a record."""


def read_retention(value: Any) -> Retention:
    """Return the retention of each state from a number of days, or from a dict of state → days."""
    if not isinstance(value, Mapping):
        return Retention.of(_read_days(value))
    for state in value:
        if state not in STATES:
            raise InvalidValue(
                f"{safe_repr(state)} is not a final state of a record.", suggest(state, STATES)
            )
    days: dict[str, Any] = {state: _read_days_of(state, given) for state, given in value.items()}
    return Retention(**days)


def _read_days_of(state: str, days: Any) -> float | None:
    if state == "rejected" and days is None:
        return None
    try:
        result: float = _read_days(days)
    except InvalidValue as error:
        raise InvalidValue(f"{state}: {error.message}", error.hint) from None
    return result


def read_payload_retention(value: Any) -> float | None:
    """Return the days for which payloads of delivered records are kept; None if as long as the records."""
    if value is None:
        return None
    result: float = Number(0, 36_500, "days")(value)
    return result

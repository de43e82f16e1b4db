"""Drawings of the overview as numbers for SVG elements. Pure: no query and no HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ...insight import Incident

WIDTH = 1000.0
"""Width of a drawing in units of its SVG."""

HEIGHT = 60.0
"""Height of the plot of deliveries, in the same units."""

MIN_LENGTH = 4.0
"""Minimum length of a bar, in the same units. A short incident and a minute with few records then stay visible."""

LANE = 14.0
"""Height of the lane of one incident, in the same units."""

MAX_LANES = 30
"""Incidents that are drawn. The table lists the others, too."""

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle, and what it stands for."""

    x: float
    y: float
    width: float
    height: float
    tone: str
    label: str


def draw_deliveries(counts: Sequence[int]) -> list[Bar]:
    """Return one bar for each minute, the oldest first. ``label`` is the number of records."""
    step, highest = WIDTH / max(len(counts), 1), max(counts, default=0)
    bars = []
    for number, count in enumerate(counts):
        height = round(max(count / highest * HEIGHT, 1.5), 1) if count else 0.0
        bars.append(
            Bar(round(number * step, 1), HEIGHT - height, round(step - 2, 1), height, "good", f"{count:,}")
        )
    return bars


def draw_incidents(incidents: Sequence[Incident], now: datetime) -> list[Bar]:
    """Return one bar for each incident, each in a lane of its own, on an axis of 24 hours that ends ``now``."""
    start = now - DAY
    bars = []
    for number, incident in enumerate(incidents[:MAX_LANES]):
        begin, end = _position(incident.started_at, start), _position(incident.ended_at or now, start)
        length = max(end - begin, MIN_LENGTH)
        tone = "care" if incident.ended_at else "bad"
        y = number * LANE + 2
        bars.append(Bar(min(begin, WIDTH - length), y, round(length, 1), LANE - 4, tone, incident.label))
    return bars


def draw_waiting(p50: float, p90: float, longest: float, scale: float) -> list[Bar]:
    """Return the bars of a distribution of waiting times, the longest first, so that shorter ones lie on it.

    ``scale`` is the time that fills the width.
    """
    parts = (("calm", longest), ("care", p90), ("busy", p50))
    return [
        Bar(0.0, 0.0, round(WIDTH * min(seconds / scale, 1.0), 1) if scale else 0.0, 10.0, tone, "")
        for tone, seconds in parts
    ]


def _position(at: datetime, start: datetime) -> float:
    return round(min(max((at - start) / DAY, 0.0), 1.0) * WIDTH, 1)

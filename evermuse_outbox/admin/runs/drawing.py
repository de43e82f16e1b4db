"""The plot of the progress of a run, as points of an SVG. Pure: no query and no HTML."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

WIDTH, HEIGHT = 1000.0, 120.0
"""Size of the plot in units of its SVG."""


class Plot(NamedTuple):
    """Two lines as the ``points`` of SVG elements, with the times of the first and the last point."""

    ended: str
    total: str
    begin: float
    end: float


def draw_progress(history: Sequence[Sequence[float]]) -> Plot | None:
    """Return the plot of a history, a list of time, ended records and all records; None with fewer than two points."""
    if len(history) < 2:
        return None
    begin, end = history[0][0], history[-1][0]
    length, highest = max(end - begin, 1.0), max(max(total for _, _, total in history), 1)

    def points(column: int) -> str:
        return " ".join(
            f"{(point[0] - begin) / length * WIDTH:.1f},{HEIGHT - point[column] / highest * HEIGHT:.1f}"
            for point in history
        )

    return Plot(points(1), points(2), begin, end)

"""Print the tables of a benchmark, and write its figures and a plot to ``benchmarks/results/``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import machine

RESULTS = Path(__file__).parent.parent / "results"


class Report:
    """The report of one run. Call ``table`` for each table, and ``save`` at the end."""

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        """Print the facts about the machine. ``name`` is the name of the files."""
        self.name = name
        self.raw: dict[str, Any] = {}
        self._facts: dict[str, Any] = {
            "benchmark": name,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "options": options,
            "machine": machine.facts(),
        }
        self._tables: list[dict[str, Any]] = []
        print(machine.describe(self._facts["machine"]), flush=True)

    def service(self, name: str, version: str) -> None:
        """Print and store the version of a server, such as the database."""
        self._facts.setdefault("services", {})[name] = version
        print(f"{name}: {version}", flush=True)

    def table(self, title: str, headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Print and store a table. It is printed in Markdown, so that it can be pasted into documents."""
        self._tables.append({"title": title, "headers": list(headers), "rows": [list(row) for row in rows]})
        print(f"\n{title}\n\n{markdown(headers, rows)}", flush=True)

    def note(self, text: str) -> None:
        """Print and store a sentence that explains the tables."""
        self._facts.setdefault("notes", []).append(text)
        print(f"\n{text}", flush=True)

    def save(self, draw: Callable[[Any], None] | None = None, size: tuple[float, float] = (8, 4.5)) -> None:
        """Write ``NAME.json``, and ``NAME.png`` if ``draw`` is given.

        Args:
            draw: Function that draws the plot on a matplotlib figure.
            size: Width and height of the plot, in inches.
        """
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{self.name}.json"
        content = self._facts | {"tables": self._tables, "raw": self.raw}
        path.write_text(json.dumps(content, indent=1, default=str) + "\n")
        print(f"\nfigures: {_relative(path)}")
        if draw:
            print(f"plot: {_relative(self._plot(draw, size))}")

    def _plot(self, draw: Callable[[Any], None], size: tuple[float, float]) -> Path:
        from matplotlib.figure import Figure  # imported here because the import takes about a second

        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        path = RESULTS / f"{self.name}.png"
        figure.savefig(path, dpi=110)
        return path


def markdown(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a Markdown table with aligned columns."""
    cells = [[*map(str, headers)], *([*map(_cell, row)] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headers))]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    rule = "| " + " | ".join("-" * width for width in widths) + " |"
    return "\n".join([lines[0], rule, *lines[1:]])


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least ``share`` (0 to 1) of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, min(len(ordered) - 1, -int(-share * len(ordered) // 1) - 1))]


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _relative(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)

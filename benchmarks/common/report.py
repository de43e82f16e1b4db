"""What a benchmark leaves: tables on the console, raw figures and a plot in ``benchmarks/results/``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import machine

RESULTS = Path(__file__).parent.parent / "results"


class Report:
    """One run: ``table`` as results come, ``save`` at the end."""

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        self.name = name
        self.raw: dict[str, Any] = {}
        self._told: dict[str, Any] = {
            "benchmark": name,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "options": options,
            "machine": machine.facts(),
        }
        self._tables: list[dict[str, Any]] = []
        print(machine.told(self._told["machine"]), flush=True)

    def service(self, name: str, version: str) -> None:
        """The version of a server that took part."""
        self._told.setdefault("services", {})[name] = version
        print(f"{name}: {version}", flush=True)

    def table(self, title: str, headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Prints a table (in Markdown, to be quoted as it is) and keeps it."""
        self._tables.append({"title": title, "headers": list(headers), "rows": [list(row) for row in rows]})
        print(f"\n{title}\n\n{markdown(headers, rows)}", flush=True)

    def note(self, text: str) -> None:
        """A sentence beside the tables."""
        self._told.setdefault("notes", []).append(text)
        print(f"\n{text}", flush=True)

    def save(self, draw: Callable[[Any], None] | None = None, size: tuple[float, float] = (8, 4.5)) -> None:
        """Writes ``NAME.json``; with ``draw``, which is given a matplotlib figure, also ``NAME.png``."""
        RESULTS.mkdir(exist_ok=True)
        written = RESULTS / f"{self.name}.json"
        told = self._told | {"tables": self._tables, "raw": self.raw}
        written.write_text(json.dumps(told, indent=1, default=str) + "\n")
        print(f"\nraw figures: {_shown(written)}")
        if draw:
            print(f"plot: {_shown(self._plot(draw, size))}")

    def _plot(self, draw: Callable[[Any], None], size: tuple[float, float]) -> Path:
        from matplotlib.figure import Figure  # late: it takes a second

        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        path = RESULTS / f"{self.name}.png"
        figure.savefig(path, dpi=110)
        return path


def markdown(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table with its columns in line."""
    cells = [[*map(str, headers)], *([*map(_cell, row)] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headers))]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    rule = "| " + " | ".join("-" * width for width in widths) + " |"
    return "\n".join([lines[0], rule, *lines[1:]])


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` (0 to 1) of ``values`` do not pass."""
    ordered = sorted(values)
    return ordered[max(0, min(len(ordered) - 1, -int(-share * len(ordered) // 1) - 1))]


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)

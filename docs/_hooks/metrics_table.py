"""Write the table of metrics from their definitions, in place of ``<!-- metrics -->``."""

from __future__ import annotations

from typing import Any

PLACEHOLDER = "<!-- metrics -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the placeholder of the page."""
    return markdown.replace(PLACEHOLDER, table()) if PLACEHOLDER in markdown else markdown


def table() -> str:
    """Return one row for each metric."""
    # Imported here: the hook of the commands configures Django first.
    from evermuse_outbox.metrics import METRICS

    rows = [
        f"| `{name}` | {metric.kind} | {', '.join(f'`{label}`' for label in metric.labels)} | {metric.help} |"
        for name, metric in METRICS.items()
    ]
    return "\n".join(["| metric | type | labels | meaning |", "| --- | --- | --- | --- |", *rows])

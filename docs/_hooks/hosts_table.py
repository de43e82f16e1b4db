"""Write the table of hosts from the files of ``tests/hosts/projects``, in place of ``<!-- hosts -->``."""

from __future__ import annotations

from typing import Any

PLACEHOLDER = "<!-- hosts -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the placeholder of the page."""
    return markdown.replace(PLACEHOLDER, table()) if PLACEHOLDER in markdown else markdown


def table() -> str:
    """Return one row for each host."""
    from tests.hosts.declarations import find_hosts

    rows = [
        f"| `{host.name}` | {host.summary} | {', '.join(f'`{need}`' for need in host.needs)} |"
        for host in find_hosts()
    ]
    return "\n".join(["| host | what is special | needs |", "| --- | --- | --- |", *rows])

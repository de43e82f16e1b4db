"""Write the tables of settings from ``evermuse_outbox/conf/options.py``, in place of ``<!-- settings: NAME -->``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from evermuse_outbox.conf import OPTIONS, WORKSPACE_OPTIONS, Option

GROUPS = {
    "api": WORKSPACE_OPTIONS,
    "general": {name: option for name, option in OPTIONS.items() if name not in WORKSPACE_OPTIONS},
}
PLACEHOLDER = re.compile(r"<!-- settings: (\w+) -->")

HEAD = "| setting | default | allowed | meaning |\n| --- | --- | --- | --- |\n"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace each placeholder of the page with its table."""
    return PLACEHOLDER.sub(lambda match: table_of(GROUPS[match[1]]), markdown)


def table_of(options: Mapping[str, Option]) -> str:
    """Return a Markdown table with one row for each option."""
    return HEAD + "\n".join(row_of(name, option) for name, option in options.items())


def row_of(name: str, option: Option) -> str:
    """Return the row of one option; its name is the anchor of the row."""
    anchor = f'<span id="{name.lower()}"></span>'
    return f"| {anchor}`{name}` | {shown(option.default)} | {option.allowed or '–'} | {option.description} |"


def shown(default: Any) -> str:
    """Return a default as a host would write it in its settings."""
    if default is None:
        return "none"
    if isinstance(default, float) and default.is_integer():
        default = int(default)
    text = str(list(default)) if isinstance(default, tuple) else repr(default)
    return "`" + text.replace("'", '"') + "`"

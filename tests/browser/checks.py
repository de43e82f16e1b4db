"""The checks of ``checks.js``, run in the page that is open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .chromium import Chromium

SOURCE = (Path(__file__).parent / "checks.js").read_text("utf-8")

SCOPE = "#content"
"""The part of a page that is the outbox's; the rest is Django's."""


def check(browser: Chromium, name: str, scope: str = SCOPE) -> Any:
    """Return what a check of ``checks.js`` found in a part of the page."""
    source = SOURCE.rstrip().rstrip(";")
    return browser.run(f"{source}.{name}({json.dumps(scope)})")

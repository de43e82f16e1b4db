"""Leave out the notes for readers of the source files: the site has what they tell where to find.

Such a note is a line that begins with ``> In this file``.
"""

from __future__ import annotations

import re
from typing import Any

NOTE = re.compile(r"^> In this file.*\n\n?", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Remove the notes of a page."""
    return NOTE.sub("", markdown)

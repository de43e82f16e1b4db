"""Output of the commands: each text passes the gate for foreign text, so that it cannot control the terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.core.management.base import OutputWrapper

from ..foreign_text import clean_text


class GatedOutput(OutputWrapper):
    """Django's output, except that each call writes exactly one line without control characters and secrets.

    Colours are added after the gate: give the style as the second argument.
    """

    def write(  # type: ignore[override]  # Django has these arguments, too
        self, msg: Any = "", style_func: Callable[[str], str] | None = None, ending: str | None = None
    ) -> None:
        """Write one line."""
        text = clean_text(str(msg).removesuffix("\n"))
        super().write(text, style_func, ending)

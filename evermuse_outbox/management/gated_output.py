"""Output of the commands: each text passes the gate for foreign text, so that it cannot control the terminal.

A terminal or a pipe may have another encoding than UTF-8. Characters that it lacks are escaped.
"""

from __future__ import annotations

import codecs
import json
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
        text = escape(clean_text(str(msg).removesuffix("\n")), getattr(self._out, "encoding", None))
        super().write(text, style_func, ending)


def escape(text: str, encoding: str | None) -> str:
    """Return the text with escapes, as JSON has them, for the characters that the encoding of the output lacks."""
    try:
        return text.encode(encoding, ESCAPE).decode(encoding) if encoding else text
    except LookupError:  # Python does not know the encoding
        return text


def _escape_characters(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


ESCAPE = "evermuse_outbox.escape"
"""Name of the handler of encoding errors, for ``str.encode`` and for streams."""

codecs.register_error(ESCAPE, _escape_characters)

"""Prepare docstrings for Markdown: Sphinx roles and ``::`` become plain code."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:py:)?(?:func|class|meth|mod|data|attr|exc|obj):`[~!.]?([^`<]+)`")
LITERAL_BLOCK = re.compile(r"(?m)^(?:::|(.*\S)::)$")


class Docstrings(griffe.Extension):
    """A griffe extension, run on each object that the reference shows."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of one object."""
        if obj.docstring is not None:
            text = ROLE.sub(lambda match: f"`{match[1].rsplit('.', 1)[-1]}`", obj.docstring.value)
            obj.docstring.value = LITERAL_BLOCK.sub(lambda match: f"{match[1]}:" if match[1] else "", text)

"""Read the fenced code blocks of Markdown pages, and the commands and outputs in console blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<info>[^`\n]*)$")
TITLE = re.compile(r'title="([^"]*)"')
FILE = re.compile(r"# (?P<path>[\w./-]+\.\w+)(?P<is_part>, at the end)?\n")


class Block(NamedTuple):
    """A fenced block: its page, the line of its fence, its language, its title and its text."""

    page: str
    line: int
    language: str
    title: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


class Command(NamedTuple):
    """A command of a console block, and the lines of output that are shown for it."""

    text: str
    output: tuple[str, ...]


def read_blocks(page: Path, root: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page in their order.

    Raises:
        ValueError: A fence is not closed.
    """
    opened: re.Match[str] | None = None
    lines: list[str] = []
    started = 0
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        fence = FENCE.match(line)
        if opened is None:
            opened, lines, started = fence, [], number
        elif fence and fence["fence"] == opened["fence"] and not fence["info"].strip():
            info = opened["info"].strip()
            title = TITLE.search(info)
            language = info.split(maxsplit=1)[0] if info else ""
            text = dedent("\n".join(lines)) + "\n"
            yield Block(str(page.relative_to(root)), started, language, title[1] if title else "", text)
            opened = None
        else:
            lines.append(line)
    if opened is not None:
        raise ValueError(f"{page}:{started}: the fence is not closed")


def read_commands(block: Block) -> list[Command]:
    r"""Return the commands of a console block. A line that ends with ``\`` is continued on the next line."""
    commands: list[Command] = []
    for line in re.sub(r"\\\n *", "", block.text).splitlines():
        if line.startswith("$ "):
            commands.append(Command(line.removeprefix("$ "), ()))
        elif commands:
            commands[-1] = commands[-1]._replace(output=(*commands[-1].output, line))
        else:
            raise ValueError(f"{block}: output before the first command: {line!r}")
    return commands


CHANGING = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"  # a time of day with a date
    r"|\d\d:\d\d:\d\d"
    r"|(?<=batch_)[0-9a-f]{32}"
    r"|\d[\d,]*(?= bytes)"
)
"""What differs between two runs."""


def output_pattern(line: str) -> re.Pattern[str]:
    """Return what a shown line of output matches: times, ids and sizes may differ, and ``…`` stands for any text."""
    kept = re.split(f"(…|{CHANGING.pattern})", line.strip())
    texts, gaps = kept[::2], kept[1::2]
    parts = [re.escape(texts[0])]
    for gap, text in zip(gaps, texts[1:], strict=True):
        parts += [".*" if gap == "…" else r"[\w :,-]+", re.escape(text)]
    return re.compile("".join(parts))


def missing_line(expected: tuple[str, ...], output: str) -> str | None:
    """Return the first expected line that ``output`` does not contain in this order; None if it has all of them.

    Other lines between them are allowed, because Django and Celery print more than a page shows.
    """
    lines = iter(output.splitlines())
    for line in expected:
        if line.strip() in ("", "…"):
            continue
        pattern = output_pattern(line)
        if not any(pattern.search(printed) for printed in lines):
            return line
    return None

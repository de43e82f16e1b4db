"""CONTRIBUTING.md and SECURITY.md name files, make targets and identifiers that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("CONTRIBUTING.md", "SECURITY.md")


def code_spans(page):
    """Return the inline code and the lines of the code blocks of a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        span for pair in re.findall(r"`([^`\n]+)`|^\$ (.+)$", text, re.MULTILINE) for span in pair if span
    ]


@pytest.mark.parametrize("page", PAGES)
def test_files_and_folders_exist(page):
    named = {
        span
        for span in code_spans(page)
        if re.fullmatch(r"[\w.]+/[\w./]*|[\w.-]+\.(?:md|py|yml|toml|lock)", span)
    }
    spans = " ".join(code_spans(page))
    named |= set(re.findall(r"\b(?:tests|evermuse_outbox)/[\w./]+\.py", spans))
    missing = {name for name in named if not (ROOT / name).exists() and not is_found_by_name(name)}
    assert missing == set()


def is_found_by_name(name):
    """Return whether a bare file name, such as ``__init__.py``, is in the package."""
    return "/" not in name and any((ROOT / "evermuse_outbox").rglob(name))


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page):
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / page).read_text(encoding="utf-8"))
    assert {target for target in targets if not (ROOT / target).exists()} == set()


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = {
        target for span in code_spans("CONTRIBUTING.md") for target in re.findall(r"\bmake ([a-z]+)", span)
    }
    assert named
    assert {target for target in named if not re.search(rf"^{target}:", makefile, re.MULTILINE)} == set()


def test_identifiers_exist():
    """Names such as ``BatchQuerySet`` and ``check_storage`` are words of the code."""
    code = "\n".join(
        path.read_text(encoding="utf-8")
        for folder in ("evermuse_outbox", "tests")
        for path in (ROOT / folder).rglob("*.py")
        if path != Path(__file__)
    )
    named = {span.removesuffix("()") for span in code_spans("CONTRIBUTING.md")}
    named = {name for name in named if re.fullmatch(r"[A-Za-z]\w*(?:_\w+)+|[A-Z][a-z]+[A-Z]\w+", name)}
    assert len(named) > 10
    assert {name for name in named if not re.search(rf"\b{name}\b", code)} == set()

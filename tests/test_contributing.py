"""CONTRIBUTING.md and SECURITY.md name files, make targets and identifiers that exist, each where the page says."""

from __future__ import annotations

import re
from functools import cache
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
        target for span in code_spans("CONTRIBUTING.md") for target in re.findall(r"\bmake ([a-z-]+)", span)
    }
    assert named
    assert {target for target in named if not re.search(rf"^{target}:", makefile, re.MULTILINE)} == set()


IDENTIFIER = re.compile(r"(_?[A-Za-z]\w*(?:_\w+)+|_[a-z]\w+|[A-Z][a-z]+[A-Z]\w+|[A-Z]{3,})(?:$|\(|\[)")
"""A span that begins with a name such as ``check_storage``, ``_causes``, ``BatchQuerySet`` or ``TRANSITIONS``."""

PATH = re.compile(r"[\w.]+/[\w./]*")


def steps(text):
    """Return the list items, table rows and paragraphs of a page, each on one line, without code blocks."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    blocks = re.split(r"\n\s*\n|\n(?=\s*(?:\d+\.|[*-]) |\|)", text)
    return [" ".join(block.split()) for block in blocks if block.strip()]


def identifiers(text):
    """Return the names of the code in the inline code of ``text``."""
    spans = re.findall(r"`([^`]+)`", text)
    return {match[1] for span in spans if (match := IDENTIFIER.match(span))}


def named_places(step):
    """Yield each identifier of a step with the files of which at least one must contain it.

    ``NAME in PATH`` means that path. Another name may be in any file of the step, or anywhere if it names no file.
    """
    start = 0
    located = set()
    for match in re.finditer(r" in `([^`]+)`", step):
        if PATH.fullmatch(match[1]):
            sentence = re.split(r"\.\s", step[start : match.start()])[-1]
            for name in identifiers(sentence):
                located.add(name)
                yield name, [match[1]]
            start = match.end()
    files = [span for span in re.findall(r"`([^`]+)`", step) if PATH.fullmatch(span)]
    for name in identifiers(step) - located:
        yield name, files or ["evermuse_outbox", "tests"]


def words_of(place):
    """Return the words in a file, or in all Python files of a folder except this one."""
    path = ROOT / place
    sources = path.rglob("*.py") if path.is_dir() else [path]
    return {
        word
        for source in sources
        if source != Path(__file__)
        for word in re.findall(r"\w+", source.read_text(encoding="utf-8"))
    }


def misplaced_identifiers(text):
    """Return the identifiers of a page that are in none of the files that their step names."""
    words = cache(words_of)
    places = {(name, tuple(files)) for step in steps(text) for name, files in named_places(step)}
    return {(name, files) for name, files in places if not any(name in words(file) for file in files)}


def test_identifiers_are_in_the_files_that_their_step_names():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert sum(len(identifiers(step)) for step in steps(text)) > 50
    assert misplaced_identifiers(text) == set()


@pytest.mark.parametrize(
    ("step", "misplaced"),
    [
        ("Add it to `load_contract` in `evermuse_outbox/sandbox/contract.py`.", set()),
        ("Add it to `load_contract` in `evermuse_outbox/sandbox/store.py`.", {"load_contract"}),
        ("1. `load_contract` is\n   `evermuse_outbox/sandbox/contract.py`.\n2. `BatchState` is code.", set()),
        ("| `BatchState` | `evermuse_outbox/sandbox/contract.py` |", {"BatchState"}),
        (
            "`BatchState` in `evermuse_outbox/models/batch_states.py`, with `evermuse_outbox/checks/workspaces.py`",
            set(),
        ),
        (
            "`BatchState` in `evermuse_outbox/checks/workspaces.py`, with `evermuse_outbox/models/batch_states.py`",
            {"BatchState"},
        ),
        ("See `TRANSITIONS` and `missing" + "_name()`.", {"missing" + "_name"}),
        ("`_project" + "_gone[contract]` in `evermuse_outbox/models/batch.py`", {"_project" + "_gone"}),
    ],
)
def test_an_identifier_in_another_file_is_reported(step, misplaced):
    assert {name for name, _ in misplaced_identifiers(step)} == misplaced

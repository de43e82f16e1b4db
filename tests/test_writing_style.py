"""The writing style of CONTRIBUTING.md, checked in the package, its documentation and its names.

Three rules are checked in docstrings, comments and pages: no word of the project's former private vocabulary, no
pronoun for a person where a thing is meant, and no sentence that is too long. A fourth rule is for names in the code.
A rule that reports a false positive gets an exception here, with an example in the tests below.
"""

from __future__ import annotations

import ast
import inspect
import io
import re
import tokenize
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parent.parent
CODE = ("evermuse_outbox", "example_project", "benchmarks", "tests", "docs/_hooks", "docs/model")
PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "docs")

MAX_WORDS = 30
"""Words in one sentence. The style asks for 25; the rest is for code, numbers and lists inside of a sentence."""

PRIVATE_WORDS = re.compile(
    r"\b(?:kick(?:s|ed|ing)?|crews?|census(?:es)?|agendas?|look-?outs?|knock(?:s|ed|ing)?|keepers?|ailments?"
    r"|nursery|nurseries|stretch(?:es)?|sweeps?|(?:a|an|the|its|each|every|one|per|of) visits?)\b",
    re.IGNORECASE,
)
"""Words that have a standard term: wake-up, sender pool, group scan, run queue, pool monitor, permit, listing page."""

PERSONS = re.compile(r"\b(?:who|whom|whoever|whomever|nobody|somebody|everybody|anybody)\b", re.IGNORECASE)

REAL_PEOPLE = re.compile(
    r"\b(?:persons?|people|users?|operators?|engineers?|readers?|developers?|contributors?|maintainers?|authors?"
    r"|customers?|agents?|colleagues?|staff|anyone|someone|everyone|those),? (?:who|whom)\b"
    r"|\bwho (?:did|acted|asked for it|it is for|should use)\b",
    re.IGNORECASE,
)
"""Phrases in which the pronoun means a person."""

PRIVATE_NAMES = re.compile(
    r"kicks?|crews?|census|agenda|lookout|knocks?|keeper|ailments?|nursery|stretch|stretches|sweeps?"
)
"""Parts of names, after a name is split at ``_`` and at capital letters."""

VAGUE_NAMES = re.compile(
    r"told|said|own|some|one|most|news|whole|straight|mine|what|found|who|whoever|nobody|somebody"
)
"""Names that say nothing of the domain. Only a whole name counts: ``one_per_group`` is fine."""


class Passage(NamedTuple):
    """A paragraph, list item or block of comments, on one line, without code."""

    path: Path
    line: int
    text: str


# --- what is read --------------------------------------------------------------------------------------


def files(roots: tuple[str, ...], suffix: str) -> list[Path]:
    """Return the files with that suffix, without migrations, which are history, and this file with its bad examples."""
    matches = [
        path
        for root in roots
        for path in ([ROOT / root] if (ROOT / root).is_file() else sorted((ROOT / root).rglob(f"*{suffix}")))
        if path.suffix == suffix
        and path != Path(__file__).resolve()
        and not any(part.endswith("migrations") for part in path.parts)
    ]
    assert matches, f"no {suffix} in {roots}"
    return matches


@cache
def passages() -> tuple[Passage, ...]:
    """Return every passage of the code and of the pages."""
    code = [
        passage for path in files(CODE, ".py") for passage in passages_of_code(path, path.read_text("utf-8"))
    ]
    pages = [
        passage for path in files(PAGES, ".md") for passage in passages_of_page(path, path.read_text("utf-8"))
    ]
    return (*code, *pages)


def passages_of_code(path: Path, source: str) -> Iterator[Passage]:
    """Yield the paragraphs of the docstrings, the messages and the blocks of comments of a Python module."""
    done: set[ast.AST] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(ast.Constant(str(text)) as docstring):
                done.add(docstring)
                line = node.lineno + len(text) - len(text.lstrip("\n"))
                yield from paragraphs(path, line, without_code(inspect.cleandoc(text)))
            case ast.JoinedStr(parts):
                done.update(parts)
                yield from messages(path, node.lineno, parts)
            case ast.Constant() if node not in done:
                yield from messages(path, node.lineno, [node])
    yield from comments(path, source)


def messages(path: Path, line: int, parts: Sequence[ast.expr]) -> Iterator[Passage]:
    """Yield a string of three words or more that stands on one line: a message for a log, an error or a page."""
    values = [part.value if isinstance(part, ast.Constant) else "VALUE" for part in parts]
    text = "".join(value for value in values if isinstance(value, str))
    if "\n" not in text and len(text.split()) > 2:
        yield from passage(path, line, [text])


def without_code(docstring: str) -> str:
    """Return the docstring without lines that begin with ``>>>`` and without indented blocks after an empty line."""
    lines = []
    is_code = is_after_blank = False
    for line in docstring.splitlines():
        is_code = line.startswith(">>>") or (line.startswith("    ") and (is_code or is_after_blank))
        is_after_blank = not line.strip()
        lines.append("" if is_code else line)
    return "\n".join(lines)


def comments(path: Path, source: str) -> Iterator[Passage]:
    """Yield the comments; those on adjacent lines, with no code before them, are one block."""
    block: list[str] = []
    first = last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT or re.match(r"#\s*(?:!|noqa|type:|pragma)", token.string):
            continue
        is_alone = not token.line[: token.start[1]].strip()
        if not (is_alone and block and token.start[0] == last + 1):
            yield from paragraphs(path, first, "\n".join(block))
            block, first = [], token.start[0]
        block.append(token.string.removeprefix("#").removeprefix(" "))
        # The line after a comment behind code belongs to something else.
        last = token.start[0] if is_alone else 0
    yield from paragraphs(path, first, "\n".join(block))


def passages_of_page(path: Path, source: str) -> Iterator[Passage]:
    """Yield the paragraphs and list items of a Markdown page, without front matter, code blocks and tables."""
    source = re.sub(r"\A---\n.*?\n---\n", lambda match: "\n" * match[0].count("\n"), source, flags=re.DOTALL)
    source = re.sub(r"<!--.*?-->", lambda match: "\n" * match[0].count("\n"), source, flags=re.DOTALL)
    kept = []
    fence = ""
    for line in source.splitlines():
        mark = re.match(r"\s*(```+|~~~+)", line)
        if mark and (not fence or mark[1].startswith(fence)):
            fence = "" if fence else mark[1]
            kept.append("")
        else:
            kept.append("" if fence or line.lstrip().startswith(("|", "!!!", "???", ":::", "#")) else line)
    yield from paragraphs(path, 1, "\n".join(kept))


def paragraphs(path: Path, line: int, text: str) -> Iterator[Passage]:
    """Yield the paragraphs, list items and entries of a section (``Args:`` …) of a text."""
    block: list[str] = []
    first = line
    for number, raw in enumerate(text.splitlines(), line):
        starts_item = re.match(r"\s*(?:[-*+·]|\d+[.)])\s|\s*\**\w+(?: \([^)]*\))?:\s", raw)
        if not raw.strip() or starts_item:
            yield from passage(path, first, block)
            block = []
        if raw.strip():
            first = number if not block else first
            block.append(raw.strip())
    yield from passage(path, first, block)


def passage(path: Path, line: int, block: list[str]) -> Iterator[Passage]:
    """Yield the block as one line, with placeholders for code, addresses and quoted words."""
    text = " ".join(block)
    text = re.sub(r"!?\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])", r"\1", text)
    text = re.sub(r"[\"“]\w+[\"”]", "WORD", text)
    text = re.sub(r":\w+:`[^`]*`|(`+)(?:(?!\1).)+\1|https?://\S+", "CODE", text)
    if text:
        yield Passage(path, line, text)


# --- the rules -----------------------------------------------------------------------------------------


def private_words(text: str) -> list[str]:
    """Return the private words in a passage."""
    return PRIVATE_WORDS.findall(text)


def things_as_people(text: str) -> list[str]:
    """Return the pronouns for persons in a passage, except where a person is meant."""
    return PERSONS.findall(REAL_PEOPLE.sub("", text))


def long_sentences(text: str) -> list[str]:
    """Return the sentences of a passage that are too long; a colon or semicolon ends a sentence, too."""
    sentences = re.split(r"(?<=[.!?:;])[*_)\"”’']*\s", text)
    return [sentence for sentence in sentences if len(re.findall(r"\w\S*", sentence)) > MAX_WORDS]


def names(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and name of everything that a module defines: functions, classes, parameters, variables, fields."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.lineno, node.name
            case ast.arg():
                yield node.lineno, node.arg
            case ast.Name(ctx=ast.Store()):
                yield node.lineno, node.id
            case ast.Attribute(ctx=ast.Store()):
                yield node.lineno, node.attr


def is_bad_name(name: str) -> bool:
    """Return whether a name is vague or has a private word in it."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    is_vague = VAGUE_NAMES.fullmatch(name.strip("_").lower())
    return bool(is_vague) or any(PRIVATE_NAMES.fullmatch(part.lower()) for part in parts)


def report(rule) -> list[str]:
    """Return a line for each place where a passage breaks the rule."""
    return [
        f"{found.path.relative_to(ROOT)}:{found.line}: {match!r} in {found.text[:160]!r}"
        for found in passages()
        for match in rule(found.text)
    ]


# --- the project ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [private_words, things_as_people, long_sentences])
def test_prose_keeps_the_style(rule):
    violations = report(rule)
    assert not violations, "\n".join(["", *violations])


def test_names_are_nouns_and_verbs_of_the_domain():
    bad = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in files(CODE[:1], ".py")
        for line, name in names(path.read_text("utf-8"))
        if is_bad_name(name)
    ]
    assert not bad, "\n".join(["", *bad])


# --- the rules themselves ------------------------------------------------------------------------------

LONG = " ".join(["word"] * (MAX_WORDS + 1))


def texts(source: str, *, page: bool = False) -> list[str]:
    read = passages_of_page if page else passages_of_code
    return [found.text for found in read(ROOT / "x", source)]


@pytest.mark.parametrize(
    "text", ["The crew sends.", "It kicks the workers.", "a look-out", "ends the visit", "Keeper"]
)
def test_a_private_word_is_found(text):
    assert private_words(text)


@pytest.mark.parametrize(
    "text", ["Visit the admin.", "a housekeeper", "Return the screw.", "CODE wakes the workers."]
)
def test_other_words_are_not_private(text):
    assert private_words(text) == []


@pytest.mark.parametrize(
    "text", ["the batch who waits", "Nobody holds it.", "Whoever locks it", "the worker with whom"]
)
def test_a_pronoun_for_a_thing_is_found(text):
    assert things_as_people(text)


@pytest.mark.parametrize(
    "text", ["Users who may view records", "a person who wrote it", "It records who did it."]
)
def test_a_pronoun_for_a_person_is_allowed(text):
    assert things_as_people(text) == []


def test_a_long_sentence_is_found():
    assert long_sentences(f"Short. {LONG}. Short.") == [f"{LONG}."]
    assert long_sentences(LONG.removeprefix("word ")) == []
    assert long_sentences(f"{LONG[:60]}: {LONG[60:]}") == []


def test_docstrings_and_comments_are_read():
    source = '''
"""Module.

Second
paragraph.
"""
LIMIT = 1
"""Of a constant."""
x = "no message"  # behind code
y = f"a message {x} here"
# a block
# of two lines

def run():
    """Return.

    Args:
        first: one
            and more
        second: two

    Run it:

        whoever --has-read-this

    >>> nobody()
    """
    # noqa: X100
'''
    assert sorted(texts(source)) == [
        "Args:",
        "Module.",
        "Of a constant.",
        "Return.",
        "Run it:",
        "Second paragraph.",
        "a block of two lines",
        "a message VALUE here",
        "behind code",
        "first: one and more",
        "second: two",
    ]


def test_pages_are_read_without_code_tables_and_headings():
    source = """---
title: nobody
---
# Who
One
line with `who` and [a link](https://who.invalid).

```python
who = 1
```

| who |
| --- |

- item one
  goes on
- item two
<!-- who -->
"""
    assert texts(source, page=True) == ["One line with CODE and a link.", "- item one goes on", "- item two"]


@pytest.mark.parametrize("name", ["kick", "SenderCrew", "_agenda", "told", "_own", "last_sweep"])
def test_a_bad_name_is_found(name):
    assert is_bad_name(name)


@pytest.mark.parametrize("name", ["one_per_group", "owner", "is_private", "HTTPError", "stretchable"])
def test_other_names_are_good(name):
    assert not is_bad_name(name)


def test_every_kind_of_name_is_read():
    source = "class A:\n    b = 1\ndef c(d, *e, **f):\n    g = h = 1\n    self.i = 1\n    for j in k: pass\n"
    assert sorted(name for _, name in names(source)) == ["A", "b", "c", "d", "e", "f", "g", "h", "i", "j"]

"""Every code block of README and docs is compiled, parsed or executed. An unknown language is an error."""

from __future__ import annotations

import ast
import configparser
import importlib
import inspect
import json
import re
import subprocess
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from functools import cache
from types import SimpleNamespace

import pytest
import sqlparse
import yaml

from evermuse_outbox import InvalidRecord
from evermuse_outbox.conf import find_problems
from evermuse_outbox.evermuse.records import CONTRACTS, validate
from tests.documentation.blocks import Block, read_blocks, read_commands
from tests.documentation.commands import ROOT, options_of, problem_of

pytestmark = pytest.mark.long

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
BLOCKS = [block for page in PAGES for block in read_blocks(page, ROOT)]
ELIDED = re.compile(r"(?<=\{)(?:\.\.\.|…), ")
"""The beginning of a dict that a page leaves out. Python has no such syntax."""


WITHOUT_EFFECTS = {"evermuse_outbox.records", "evermuse_outbox.schedule", "datetime", "decimal", "uuid"}
"""Blocks that import nothing else are executed."""


@cache
def tree_of(block: Block) -> ast.Module:
    source = ELIDED.sub("", block.text)
    try:
        return ast.parse(source)
    except IndentationError:
        return ast.parse("if True:\n" + source)  # a part of a function or of a dict


def check_python(block: Block) -> None:
    tree = tree_of(block)
    code = compile(tree, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "evermuse_outbox":
                    importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "evermuse_outbox":
            for alias in node.names:
                import_name(node.module or "", alias.name)
        elif isinstance(node, ast.Dict):
            check_record(literal_of(node))
        elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "EVERMUSE_OUTBOX":
            check_settings(node.value)
    check_attributes(tree)
    if imported_modules(tree) <= WITHOUT_EFFECTS and not code.co_flags & inspect.CO_COROUTINE:
        with suppress(NameError):  # a name of the host
            exec(code, {"__name__": "page"})


def imported_modules(tree: ast.Module) -> set[str]:
    found = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    return {*found, *(node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))}


def literal_of(node: ast.Dict) -> object:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None  # it contains a variable


def check_record(value: object) -> None:
    """Check that a record which a page shows in full is valid in one of the contracts."""
    if not isinstance(value, dict) or "_type" not in value:
        return
    errors = []
    for contract in CONTRACTS:
        try:
            validate(value, contract=contract)
        except InvalidRecord as error:
            errors.append(f"{contract}: {error}")
    assert len(errors) < len(CONTRACTS), errors


def check_json(block: Block) -> None:
    check_record(json.loads(block.text))


def import_name(module: str, name: str) -> object:
    found = importlib.import_module(module)
    return getattr(found, name) if hasattr(found, name) else importlib.import_module(f"{module}.{name}")


def check_attributes(tree: ast.Module) -> None:
    """Check that ``outbox.NAME`` exists wherever a block imports ``outbox`` from the package."""
    imported = {
        alias.asname or alias.name: import_name(node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("evermuse_outbox")
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in imported:
            value = imported[node.value.id]
            if type(value).__name__ == "module":
                assert hasattr(value, node.attr), f"{node.value.id}.{node.attr} does not exist"


ENVIRONMENT = {
    "PROXY": "http://proxy.example:3128",
    "REDIS_URL": "redis://127.0.0.1",
    "URL": "https://api.evermuse.com",
}
"""End of the name of a variable → its value. The other variables have a key."""


class Anything(SimpleNamespace):
    """Stands for django-environ and ``os.environ``: each name has its default, or a text."""

    def __call__(self, name: str, default: object = None) -> object:
        texts = (text for end, text in ENVIRONMENT.items() if name.endswith(end))
        return next(texts, "em_sk_from_the_environment") if default is None else default

    __getitem__ = __call__

    def __getattr__(self, name: str) -> Anything:
        return self


class Names(dict[str, object]):
    """Names that a settings file may use. A function of the page itself is any callable."""

    def __missing__(self, name: str) -> object:
        return Anything()


def check_settings(value: ast.expr) -> None:
    """Evaluate a settings dict and check that the app accepts it."""
    source = ast.unparse(value)
    evaluated = eval(source, Names(env=Anything(), os=Anything(), timedelta=timedelta))
    assert list(find_problems(evaluated)) == []


def check_console(block: Block) -> None:
    for command in read_commands(block):
        assert (problem := problem_of(command.text)) is None, problem


def check_shell(block: Block) -> None:
    done = subprocess.run(["bash", "-n"], input=block.text, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def check_ini(block: Block) -> None:
    parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(block.text)
    assert parser.sections()


def check_yaml(block: Block) -> None:
    assert list(yaml.safe_load_all(block.text))


def check_nginx(block: Block) -> None:
    text = re.sub(r"#.*", "", block.text)
    assert text.count("{") == text.count("}")
    assert re.search(r"[;{}]\s*\Z", text)
    assert all(line.rstrip().endswith((";", "{", "}")) for line in text.splitlines() if line.strip())


def check_dockerfile(block: Block) -> None:
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", block.text, flags=re.MULTILINE))
    known = r"(?:FROM|RUN|COPY|ADD|ENV|ARG|WORKDIR|USER|CMD|ENTRYPOINT|EXPOSE|HEALTHCHECK|LABEL|VOLUME|STOPSIGNAL) "
    assert all(re.match(known, line) for line in text.splitlines() if line.strip())


def check_sql(block: Block) -> None:
    assert all(statement.get_type() != "UNKNOWN" for statement in sqlparse.parse(block.text))


CHECKS = {
    "python": check_python,
    "console": check_console,
    "bash": check_shell,
    "sh": check_shell,
    "json": check_json,
    "yaml": check_yaml,
    "toml": lambda block: tomllib.loads(block.text),
    "ini": check_ini,
    "nginx": check_nginx,
    "dockerfile": check_dockerfile,
    "sql": check_sql,
    "text": lambda block: None,  # diagrams and output
}
"""How each language is checked."""


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_of_the_documentation_is_right(block):
    assert block.language in CHECKS, (
        f"{block}: no check for the language {block.language!r}; add one to CHECKS"
    )
    try:
        CHECKS[block.language](block)
    except Exception as error:
        pytest.fail(f"{block}: {type(error).__name__}: {error}")


COMMAND_IN_TEXT = re.compile(r"`(?:python )?(?:manage\.py )?((?:outbox|evermuse)_[a-z]+)((?: [^`\n]*)?)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_the_text_have_these_options(page):
    from django.core.management import get_commands

    for name, arguments in COMMAND_IN_TEXT.findall(page.read_text()):
        if name in get_commands():
            for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", arguments):
                assert option in options_of(name), f"{name} has no option {option}"
        else:
            assert not arguments, f"there is no command {name}"


WRONG = {
    "a syntax error": ("python", "x = ("),
    "a name that does not exist": ("python", "from evermuse_outbox import outboxes"),
    "a function that does not exist": (
        "python",
        "from evermuse_outbox import outbox\noutbox.enqueue_all([])",
    ),
    "a setting that does not exist": ("python", 'EVERMUSE_OUTBOX = {"API_KEYS": "x"}'),
    "a value that a setting refuses": ("python", 'EVERMUSE_OUTBOX = {..., "LINGER": -1}'),
    "an option that does not exist": ("console", "$ python manage.py outbox_status --recrod 1"),
    "a command that does not exist": ("console", "$ python manage.py outbox_statuses"),
    "a target that does not exist": ("console", "$ make demos"),
    "an unknown program": ("console", "$ true && pyton manage.py check"),
    "output without a command": ("console", "Drained: 1 delivered."),
    "an argument that does not exist": (
        "python",
        "from evermuse_outbox.records import Email\nEmail(mail='a')",
    ),
    "a record that is not valid": ("python", 'x = {"_type": "message", "data": {}}'),
    "a record in JSON that is not valid": ("json", '{"_type": "message"}'),
    "JSON with a comment": ("json", "{} // nothing"),
    "YAML with a wrong indentation": ("yaml", "a: b: c"),
    "TOML without a value": ("toml", "a ="),
    "a section without brackets": ("ini", "a = b"),
    "nginx without a semicolon": ("nginx", "proxy_pass http://web"),
    "an unknown instruction": ("dockerfile", "FORM python:3.13"),
    "SQL with a wrong keyword": ("sql", "SELCT 1"),
    "a quote that is not closed": ("bash", "echo 'a"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_block_is_found(name):
    language, text = WRONG[name]
    with pytest.raises((Exception, AssertionError)):
        CHECKS[language](Block("page.md", 1, language, "", f"{text}\n"))


def test_every_language_with_a_check_is_shown_to_fail():
    assert {language for language, _ in WRONG.values()} | {"sh", "text"} == set(CHECKS)


def test_an_open_fence_and_a_block_without_a_language_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\nx = 1\n")
    with pytest.raises(ValueError, match=r"page.md:1: the fence is not closed"):
        list(read_blocks(page, tmp_path))
    page.write_text("1. One:\n\n    ```\n    x\n    ```\n")
    (block,) = read_blocks(page, tmp_path)
    assert (block.language, block.text) == ("", "x\n")
    assert isinstance(CHECKS, Mapping)
    assert "" not in CHECKS

"""Check the shell commands of the pages: the programs are known, and the options of ``manage.py`` exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from django.core.management import get_commands, load_command_class
from django.core.management.base import CommandError, CommandParser

ROOT = Path(__file__).resolve().parents[2]

OTHER_PROGRAMS = frozenset(
    (
        ".",
        "apt-get",
        "brew",
        "bash",
        "cat",
        "cd",
        "celery",
        "chmod",
        "cp",
        "curl",
        "createdb",
        "dropdb",
        "django-admin",
        "docker",
        "echo",
        "export",
        "git",
        "gunicorn",
        "jq",
        "kill",
        "kubectl",
        "ls",
        "mariadb",
        "mariadb-dump",
        "mkdir",
        "mv",
        "openssl",
        "pg_dump",
        "pg_restore",
        "pip",
        "pipx",
        "pre-commit",
        "printf",
        "psql",
        "pytest",
        "redis-cli",
        "systemctl",
        "uvicorn",
        "watch",
        "zcat",
    )
)
"""Programs of other projects. Their arguments are not checked."""

PLACEHOLDER = re.compile(r"[A-Z][A-Z_]*")
"""A word such as ID or NAME, in place of which a reader writes a value."""


def problem_of(command: str) -> str | None:
    """Return what is wrong with a command line; None if it can be run as it is shown."""
    try:
        words = list(_split(command))
    except ValueError as error:
        return str(error)
    for call in _calls(words):
        if problem := _problem_of_call(call):
            return problem
    return None


def _split(command: str) -> Iterator[str]:
    lexer = shlex.shlex(command, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    return iter(lexer)


def _calls(words: list[str]) -> Iterator[list[str]]:
    """Yield each program with its arguments, without redirections and variables before it."""
    call: list[str] = []
    for word in [*words, ";"]:
        if word[0] in "|&;":
            while call and re.match(r"\w+=", call[0]):
                del call[0]
            if call:
                yield call
            call = []
        else:
            call.append(word)


def _problem_of_call(call: list[str]) -> str | None:
    if call[0].endswith("python") and call[1:2] == ["manage.py"]:
        call = call[1:]
    if call[0].endswith("manage.py"):
        return _problem_of_management(call[1:])
    if call[0] == "make":
        return _problem_of_make(call[1:])
    if call[0].endswith(("python", "python3")):
        return None
    if "/" in call[0]:
        return None if call[0][0] in "/." else f"{call[0]} is no known program"
    return None if call[0] in OTHER_PROGRAMS else f"{call[0]} is no known program: add it to OTHER_PROGRAMS"


def _problem_of_make(arguments: list[str]) -> str | None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    unknown = [word for word in arguments if "=" not in word and word not in targets]
    return f"make has no target {unknown[0]}" if unknown else None


def _problem_of_management(arguments: list[str]) -> str | None:
    if not arguments:
        return "manage.py without a command"
    name, *rest = arguments
    if name not in get_commands():
        return f"there is no command {name}"
    if not get_commands()[name].startswith("evermuse_outbox"):
        return None
    until_redirection = []
    for word in rest:
        if word[0] in "<>":
            break
        until_redirection.append(word)
    try:
        parser_of(name).parse_args(
            ["7" if PLACEHOLDER.fullmatch(word) else word for word in until_redirection]
        )
    except (CommandError, SystemExit) as error:
        return f"{name}: {error}"
    return None


@cache
def parser_of(name: str) -> CommandParser:
    """Return the parser of a command of this app. An error in the arguments is a CommandError."""
    command = load_command_class("evermuse_outbox", name)
    command._called_from_command_line = False
    return command.create_parser("manage.py", name)


def options_of(name: str) -> set[str]:
    """Return the long and short options of a command of this app."""
    return {option for action in parser_of(name)._actions for option in action.option_strings}

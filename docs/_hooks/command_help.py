"""Write the reference of the management commands from their parsers, in place of ``<!-- command: NAME -->``."""

from __future__ import annotations

import re
from argparse import Action, ArgumentParser
from typing import Any

import django
from django.conf import settings
from django.core.management import load_command_class
from django.core.management.base import BaseCommand

PLACEHOLDER = re.compile(r"<!-- command: (\w+) -->")


def on_startup(**_: Any) -> None:
    """Configure Django: the commands import models."""
    if not settings.configured:
        settings.configure(
            INSTALLED_APPS=["evermuse_outbox"],
            DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        )
        django.setup()


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace each placeholder of the page with the help of that command."""
    return PLACEHOLDER.sub(lambda match: help_of(match[1]), markdown)


def help_of(name: str) -> str:
    """Return the description, the options and the examples of a command as Markdown."""
    command = load_command_class("evermuse_outbox", name)
    parser = command.create_parser("manage.py", name)
    parts = [" ".join(command.help.split()), options_of(parser), examples_of(parser)]
    return "\n\n".join(part for part in parts if part)


def options_of(parser: ArgumentParser) -> str:
    """Return a table of the options that the command adds to those of Django."""
    common = {action.dest for action in BaseCommand().create_parser("manage.py", "")._actions}
    rows = [row_of(action) for action in parser._actions if action.dest not in common]
    return "| option | meaning |\n| --- | --- |\n" + "\n".join(rows) if rows else ""


def row_of(action: Action) -> str:
    """Return the row of one option."""
    values = action.metavar if isinstance(action.metavar, tuple) else (action.metavar,)
    if action.choices and not action.metavar:
        values = (
            ("ALIAS",) if action.dest == "database" else ("{" + ",".join(map(str, action.choices)) + "}",)
        )
    elif action.nargs == 0:
        values = ()
    elif not action.metavar:
        values = (action.dest.upper(),)
    usage = " ".join([", ".join(action.option_strings), *map(str, values)])
    return f"| `{usage}` | {(action.help or '') % vars(action)} |"


def examples_of(parser: ArgumentParser) -> str:
    """Return the examples at the end of the help as a code block."""
    return f"```text\n{parser.epilog.rstrip()}\n```" if parser.epilog else ""

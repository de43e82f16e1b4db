"""Options about runs and labels that commands share."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from ...evermuse import InvalidRecord
from ...foreign_text import clean_text
from ...models import OutboxRun
from ...runs import Run, RunPlan, check_labels, check_run_name
from .. import USAGE


def add_run_options(parser: ArgumentParser, default: str) -> None:
    """Add the options of a command that makes a run; ``default`` describes the name without ``--run``."""
    parser.add_argument(
        "--run", metavar="NAME", help=f"name of the run that the records join (default: {default})"
    )
    parser.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="label of the records, which is not sent; may be repeated",
    )
    parser.add_argument(
        "--keep-run-open",
        action="store_true",
        help="do not close the run at the end: further records will join it",
    )


def read_run_plan(options: dict[str, Any], default: str) -> RunPlan:
    """Return the run that the options describe.

    Raises:
        CommandError: A name or a label is not allowed.
    """
    try:
        labels = check_labels(dict(map(read_label, options["label"])))
        return RunPlan(check_run_name(options["run"] or default), labels, options["keep_run_open"])
    except InvalidRecord as error:
        raise CommandError(clean_text(error, keep_lines=True), returncode=USAGE) from None


def read_label(text: str) -> tuple[str, str]:
    """Return the name and the value of ``NAME=VALUE``."""
    name, equals, value = text.partition("=")
    if not equals:
        raise CommandError(f"--label {text!r}: write it as NAME=VALUE.", returncode=USAGE)
    return name, value


def describe_run(run: Run | None) -> str:
    """Return how to look at a run; an empty text without one."""
    return f" Run #{run.id}, {run.name}: manage.py outbox_run {run.id} shows how far it is." if run else ""


def find_run_id(using: str, text: str, workspace: str | None = None) -> int | None:
    """Return the id of the latest run with a name, or of the run with a number, such as ``17`` or ``#17``."""
    rows = OutboxRun.objects.using(using).order_by("-pk").values_list("pk", flat=True)
    if workspace:
        rows = rows.filter(workspace=workspace)
    number = text.removeprefix("#")
    named = rows.filter(name=text).first()
    if named is None and number.isdecimal() and len(number) < 19:
        return rows.filter(pk=int(number)).first()
    return named

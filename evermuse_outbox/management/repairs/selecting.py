"""Options that select records, and their conversion to a ``RecordFilter``."""

from __future__ import annotations

import re
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator, Mapping
from typing import Any

from django.core.management.base import CommandError

from ...conf import get_settings
from ...operations import RecordFilter, select_records
from .. import USAGE, read_time_ago
from ..runs import find_run_id, read_label

NO_RUN = -1
"""The id in a filter for a run that the database does not have. It selects nothing."""

EXPLAINED_IDS = 5
"""Ids of which the output shows why they are not selected."""


def add_selection(parser: ArgumentParser, *, with_errors: bool = True) -> None:
    """Add the options that select records. With several, a record must meet all of them."""
    group = parser.add_argument_group(
        "selection", "With several of these options, a record must meet all of them."
    )
    group.add_argument("ids", nargs="*", type=read_id, metavar="ID", help="ids of records, such as 17 or #17")
    group.add_argument("--workspace", metavar="NAME", default="", help="name of the workspace")
    group.add_argument("--type", metavar="TYPE", default="", help="the _type of the records")
    group.add_argument("--product", metavar="ID", default="", help="the _product_id of the records")
    group.add_argument(
        "--group", nargs=2, metavar=("TYPE", "PRODUCT"), help="short for --type TYPE --product PRODUCT"
    )
    group.add_argument("--batch", type=read_id, metavar="ID", help="records of this batch")
    group.add_argument("--identity", metavar="UUID", default="", help="all versions of one record")
    group.add_argument(
        "--older-than", metavar="AGE", help="enqueued before: an age such as 2h or 3d, or a time"
    )
    group.add_argument(
        "--newer-than", metavar="AGE", help="enqueued after: an age such as 2h or 3d, or a time"
    )
    group.add_argument("--run", metavar="NAME", default="", help="records of this run, by its name or number")
    group.add_argument("--label", metavar="NAME=VALUE", default="", help="records with this label")
    if with_errors:
        group.add_argument("--error-code", metavar="CODE", default="", help="rejected with this code")
        group.add_argument(
            "--error-text", metavar="TEXT", default="", help="rejected with this text in the message"
        )
        group.add_argument("--failed-again", action="store_true", help="rejected more than once")
    group.add_argument("--all", action="store_true", help="no condition: everything in the state")


def read_selection(options: Mapping[str, Any], using: str, state: str) -> RecordFilter:
    """Return the filter that the options describe.

    Raises:
        CommandError: They select everything without ``--all``, or contradict each other.
    """
    kind, product = options["group"] or (options["type"], options["product"])
    chosen = RecordFilter(
        state=state,
        workspace=options["workspace"],
        type=kind,
        product_id=product,
        error_code=options.get("error_code", ""),
        error_text=options.get("error_text", ""),
        older_than=read_time_ago(options["older_than"], using),
        newer_than=read_time_ago(options["newer_than"], using),
        batch=options["batch"],
        identity=options["identity"],
        failed_again=options.get("failed_again", False),
        ids=tuple(options["ids"]),
        run=(find_run_id(using, options["run"]) or NO_RUN) if options["run"] else None,
        label="=".join(read_label(options["label"])) if options["label"] else "",
    )
    if chosen.is_empty and not options["all"]:
        raise CommandError(f"This selects all {chosen}. Add a condition, or --all.", returncode=USAGE)
    if options["all"] and not chosen.is_empty:
        raise CommandError("--all and a condition contradict each other.", returncode=USAGE)
    return chosen


def explain_nothing(selection: RecordFilter, using: str) -> Iterator[str]:
    """Yield why a filter can select nothing: an unknown workspace, unknown ids, or records in another state."""
    known = get_settings().workspaces
    if selection.workspace and selection.workspace not in known:
        yield f"No workspace {selection.workspace!r} in the settings; known: {', '.join(sorted(known))}."
    if selection.run == NO_RUN:
        yield "There is no such run in this database; manage.py outbox_run lists the runs."
    ids = selection.ids[:EXPLAINED_IDS]
    records = {row.pk: row for row in select_records(using, ids=ids)} if ids else {}
    for pk in ids:
        record = records.get(pk)
        yield f"Record #{pk} is {record.get_state_display()}." if record else f"There is no record #{pk}."


def read_id(text: str) -> int:
    """Return an id; the pages print it as ``#17``."""
    if not re.fullmatch(r"#?\d{1,18}", text):
        raise ArgumentTypeError(f"{text!r} is no id; use a number such as 17")
    return int(text.removeprefix("#"))

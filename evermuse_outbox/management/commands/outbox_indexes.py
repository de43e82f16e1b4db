"""``manage.py outbox_indexes``: build the indexes of large tables online, after ``migrate``."""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

from django.core.management.base import CommandError
from django.db import DatabaseError, connections
from tqdm import tqdm

from ...foreign_text import describe_error
from ...indexing import (
    Busy,
    Step,
    build,
    expected_indexes,
    find_steps,
    read_progress,
    unwanted_indexes,
)
from ...models import OutboxRecord
from .. import CommandWithExamples, add_database, databases_of

NOT_BUILT, INTERRUPTED = 3, 130
"""Exit statuses. 0 is success, 1 an error of the database, and 2 a wrong option."""

TERMINAL_INTERVAL, LOG_INTERVAL = 0.5, 30.0
"""Seconds between two looks at the progress: for a bar on a terminal, or for a line in a log."""


class Command(CommandWithExamples):
    help = (
        "Build the indexes that the models declare and the database lacks, and validate constraints that were added "
        "without a check of older rows. Run it after `migrate`, at any time: records are enqueued and sent meanwhile. "
        "Only SQLite blocks writes. An interrupted build is begun again by the next start. Indexes of a feature are "
        "built only if the feature is in use. The exit status is 0 if nothing is left to do, 1 after an error of the "
        "database, and 130 after Ctrl-C. It is 3 if another process is building now, or with --check if something "
        "is left to do."
    )

    examples = (
        "examples:\n"
        "  manage.py outbox_indexes              build what is missing, and show the progress\n"
        "  manage.py outbox_indexes --list       show all indexes and whether they are built\n"
        "  manage.py outbox_indexes --dry-run    print the statements, and execute none\n"
        "  manage.py outbox_indexes --check      end with 3 if something is left to do\n"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        modes = parser.add_mutually_exclusive_group()
        modes.add_argument("--list", action="store_true", help="show all indexes and whether they are built")
        modes.add_argument("--dry-run", action="store_true", help="print the statements, and execute none")
        modes.add_argument(
            "--check", action="store_true", help="change nothing; end with 3 if something is left to do"
        )
        parser.add_argument(
            "--lock-timeout",
            type=float,
            metavar="SECONDS",
            help="how long a statement waits for locks (default: 600 on PostgreSQL, where nothing waits behind it; "
            "10 on MySQL and MariaDB)",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        add_database(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        databases = databases_of(options)
        for using in databases:
            OutboxRecord.rows.using(using).values("pk").first()  # fails if the tables do not exist
        if options["list"]:
            self._list([entry for using in databases for entry in _entries(using)], options["json"])
        elif options["dry_run"] or options["check"]:
            self._show(databases, options)
        else:
            self._build(databases, options)

    def _list(self, entries: list[dict[str, str]], is_json: bool) -> None:
        if is_json:
            self.stdout.write(json.dumps({"indexes": entries}))
            return
        for entry in entries:
            line = (
                f"{entry['database']}: {entry['kind']} {entry['name']} of {entry['table']}: {entry['state']}"
            )
            self.stdout.write(line)

    def _show(self, databases: Any, options: dict[str, Any]) -> None:
        """Print what is left to do."""
        left = [(using, step) for using in databases for step in find_steps(using)]
        if options["json"]:
            self.stdout.write(json.dumps({"steps": [_as_json(using, step) for using, step in left]}))
        else:
            for using, step in left:
                self.stdout.write(f"-- {using}: {step.kind} {step.name}, {step.problem}")
                for statement in step.statements:
                    self.stdout.write(f"{statement};")
            if not left:
                self.stdout.write("Nothing is left to do.", self.style.SUCCESS)
        if left and options["check"]:
            sys.exit(NOT_BUILT)

    def _build(self, databases: Any, options: dict[str, Any]) -> None:
        done: list[tuple[str, Step]] = []
        for using in databases:
            try:
                with _Display(self, using, quiet=options["json"]) as display:
                    steps = build(using, display.begin, lock_timeout=options["lock_timeout"])
            except Busy as error:
                text = f"{using}: {error}. Start this command again later, to be sure."
                raise CommandError(text, returncode=NOT_BUILT) from error
            except KeyboardInterrupt:
                text = f"{using}: interrupted. Start this command again to continue."
                raise CommandError(text, returncode=INTERRUPTED) from None
            except (DatabaseError, RuntimeError) as error:
                text = f"{using}: {describe_error(error)}. {REMEDY}"
                raise CommandError(text) from error
            done += [(using, step) for step in steps]
        if options["json"]:
            self.stdout.write(json.dumps({"done": [_as_json(using, step) for using, step in done]}))
        elif done:
            self.stdout.write("Everything is built and valid.", self.style.SUCCESS)
        else:
            self.stdout.write("Nothing is left to do.", self.style.SUCCESS)


REMEDY = (
    "What was built before stays. Start this command again to continue. If it waited too long for a lock, end long "
    "transactions first, or use --lock-timeout."
)


class _Display:
    """Shows what is built, and how far it is: a bar on a terminal, a line from time to time otherwise."""

    def __init__(self, command: Command, using: str, *, quiet: bool) -> None:
        self.command, self.using, self.quiet = command, using, quiet
        self.step: Step | None = None
        self.begun = 0.0
        self._ended = Event()
        self._thread = Thread(target=self._watch, name="progress", daemon=True)

    def __enter__(self) -> _Display:
        if connections[self.using].vendor != "sqlite":  # its progress cannot be read
            self._thread.start()
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        if kind is None:
            self._finish()

    def begin(self, step: Step) -> None:
        """Announce a step."""
        self._finish()
        self.step, self.begun = step, time.monotonic()
        if not self.quiet:
            verb = "validates the constraint" if step.kind == "constraint" else "builds the index"
            more = ", which blocks writes" if connections[self.using].vendor == "sqlite" else ""
            self.command.stdout.write(f"{self.using}: {verb} {step.name} of {step.table}{more} …")

    def _finish(self) -> None:
        if self.step and not self.quiet:
            seconds = time.monotonic() - self.begun
            self.command.stdout.write(f"{self.using}: {step_name(self.step)} is ready after {seconds:.1f} s.")
        self.step = None

    def _watch(self) -> None:
        """Show the progress until the command ends. A database error ends the display, and not the build."""
        is_terminal = sys.stderr.isatty()
        interval = TERMINAL_INTERVAL if is_terminal else LOG_INTERVAL
        try:
            with _bar() as bar:
                while not self._ended.wait(interval):
                    self._look(bar, is_terminal)
        except DatabaseError as error:
            self.command.stderr.write(f"The progress cannot be read: {describe_error(error)}")
        finally:
            connections[self.using].close()

    def _look(self, bar: tqdm[Any], is_terminal: bool) -> None:
        step = self.step
        progress = read_progress(self.using, step.table) if step else None
        if step is None or progress is None:
            return
        if is_terminal:
            bar.set_description_str(step.name, refresh=False)
            bar.set_postfix_str(progress.phase, refresh=False)
            bar.n = progress.percent or 0.0
            bar.refresh()
        elif not self.quiet:
            percent = "" if progress.percent is None else f"{progress.percent:.0f} %, "
            self.command.stderr.write(f"{step.name}: {percent}{progress.phase}")


@contextmanager
def _bar() -> Iterator[tqdm[Any]]:
    layout = "{desc}: {percentage:3.0f} %|{bar}| {elapsed} {postfix}"
    with tqdm(total=100.0, disable=None, file=sys.stderr, bar_format=layout, leave=False) as bar:
        yield bar


def step_name(step: Step) -> str:
    """Return the kind and the name of a step."""
    return f"{step.kind} {step.name}"


def _entries(using: str) -> Iterator[dict[str, str]]:
    """Yield each index that is expected or that a feature could need, and each constraint that is not valid."""
    left = {step.name: step for step in find_steps(using)}
    for each in expected_indexes(using):
        step = left.pop(each.name, None)
        yield _entry(using, "index", each.name, each.table, step.problem if step else "built")
    for step in left.values():
        yield _entry(using, step.kind, step.name, step.table, step.problem)
    for entry in unwanted_indexes(using):
        table = f"evermuse_outbox_{entry.model.lower()}"
        state = f"not needed; it is built if {entry.condition}"
        yield _entry(using, "index", entry.index.name, table, state)


def _entry(using: str, kind: str, name: str, table: str, state: str) -> dict[str, str]:
    return {"database": using, "kind": kind, "name": name, "table": table, "state": state}


def _as_json(using: str, step: Step) -> dict[str, Any]:
    entry = _entry(using, step.kind, step.name, step.table, step.problem)
    return entry | {"statements": list(step.statements)}

"""``manage.py outbox_import``: enqueue the records of a file of JSON lines."""

from __future__ import annotations

import json
import os
import sys
import uuid
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from django.core.management.base import CommandError
from tqdm import tqdm

from ...conf import DEFAULT_WORKSPACE, get_settings
from ...delivery.context import statement_deadlines
from ...foreign_text import clean_text
from ...models import Decision
from ...operations.importing import (
    BadLinesFile,
    Import,
    ImportRefused,
    TooManyBadLines,
    Totals,
    check_lines,
    import_lines,
)
from ...runs import default_run_name
from ...wakeup import wake_workers
from .. import (
    CommandWithExamples,
    add_reason,
    add_single_database,
    database_of,
)
from ..runs import add_run_options, describe_run, read_run_plan

HAS_BAD_LINES, TOO_MANY_BAD_LINES, IS_ANOTHER_FILE, INTERRUPTED = 3, 4, 5, 130
"""Exit statuses. 0 is success, 1 any other error, and 2 a wrong option."""

STDIN = "-"
UNNAMED = "standard input"
"""Beginning of the name of an import from standard input without ``--name``."""

SHOWN_ERRORS = 5
"""Bad lines that a dry run prints."""


class Command(CommandWithExamples):
    help = (
        "Enqueue the records of a file with one JSON object in each line (NDJSON), with the field names of the API. "
        "The records are inserted in chunks of up to 1,000 lines. If the command is interrupted, even by a power cut, "
        "start it again with the same file: it continues after the last chunk, and imports nothing twice. "
        "Lines that are no valid record go to another file, with their numbers and errors. The exit status is 0 if all "
        "lines were imported, 3 if some were bad, and 4 if more than --max-errors were bad. It is 5 if the file is not "
        "the one whose import was interrupted, 130 after Ctrl-C, and 1 after any other error."
    )

    examples = (
        "examples:\n"
        "  manage.py outbox_import records.ndjson --dry-run     only validate the lines\n"
        "  manage.py outbox_import records.ndjson               import them; repeat it after an interruption\n"
        "  zcat old.ndjson.gz | manage.py outbox_import - --name old --workspace emea\n"
        "                                                       read standard input; --name makes it resumable\n"
        "  manage.py outbox_import records.ndjson --max-errors 0 --json\n"
        "                                                       stop at the first bad line; print the result as JSON\n"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", metavar="FILE", help="the file, or - for standard input")
        parser.add_argument(
            "--workspace",
            metavar="NAME",
            default=DEFAULT_WORKSPACE,
            help="workspace that sends the records (default: %(default)s)",
        )
        parser.add_argument(
            "--name",
            help="name by which an interrupted import is found again (default: the absolute path of the file)",
        )
        parser.add_argument(
            "--bad-lines",
            metavar="FILE",
            help="file for the bad lines (default: FILE.bad, or stdin.bad)",
        )
        parser.add_argument(
            "--max-errors",
            type=int,
            metavar="N",
            default=1_000,
            help="stop after more than N bad lines; -1 for no limit (default: %(default)s)",
        )
        parser.add_argument(
            "--restart",
            action="store_true",
            help="import the file again from its beginning; its records become new versions",
        )
        parser.add_argument("--dry-run", action="store_true", help="validate the lines and change nothing")
        parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
        add_run_options(parser, "import of FILE")
        add_reason(parser)
        add_single_database(parser)

    @statement_deadlines()
    def handle(self, *args: Any, **options: Any) -> None:
        job = _job_of(options)
        if options["dry_run"]:
            self._check(job, options)
            return
        if options["restart"]:
            job.restart()
        self._import(job, options)

    def _import(self, job: Import, options: dict[str, Any]) -> None:
        bad_lines = BadLinesFile(_bad_lines_path(options))
        if options["restart"]:
            bad_lines.path.unlink(missing_ok=True)
        start = self._last = Totals()
        try:
            start = self._run(job, options, bad_lines)
        except KeyboardInterrupt:
            self._note_run(job, options)
            self._fail(options, self._last, "interrupted", _how_to_continue(job, self._last), INTERRUPTED)
        except TooManyBadLines:
            self._note_run(job, options)
            text = f"Stopped: {self._last.bad_lines:,} lines are bad, see {bad_lines.path}."
            text = f"{text} {_how_to_continue(job, self._last)}"
            self._fail(options, self._last, "too many bad lines", text, TOO_MANY_BAD_LINES)
        except ImportRefused as error:
            text = f"{error.message} To import it from its beginning: --restart, or another --name"
            self._fail(options, self._last, "another file", text, IS_ANOTHER_FILE)
        except FileExistsError:
            text = f"{bad_lines.path} exists already. Move it, or name another file with --bad-lines."
            raise CommandError(text) from None
        finally:
            bad_lines.close()
        self._note_run(job, options)
        self._finish(options, self._last, "imported", _describe_result(job, start, self._last, bad_lines))

    def _run(self, job: Import, options: dict[str, Any], bad_lines: BadLinesFile) -> Totals:
        """Import the file. Return where it began."""
        start = Totals()
        with _opened(options["file"]) as (stream, size), _bar(size) as bar:
            for number, totals in enumerate(import_lines(job, stream, bad_lines)):
                if number == 0:
                    start, bar.initial = totals, totals.position  # the rate is that of this start
                self._last = totals
                _show(bar, totals)
                wake_workers(job.using, job.workspace)
        return start

    def _note_run(self, job: Import, options: dict[str, Any]) -> None:
        """Note the run for the JSON object."""
        run = job.run_plan.find(job.using, job.workspace)
        options["run_id"] = run.id if run else None

    def _check(self, job: Import, options: dict[str, Any]) -> None:
        totals, printed = Totals(), 0
        bad_lines = BadLinesFile(_bad_lines_path(options)) if options["bad_lines"] else None
        with _opened(options["file"]) as (stream, size), _bar(size) as bar:
            for totals, chunk in check_lines(job, stream):
                _show(bar, totals)
                if bad_lines:
                    bad_lines.write(chunk.bad)
                for line in chunk.bad[: SHOWN_ERRORS - printed]:
                    printed += 1
                    bar.write(f"line {line.line:,}: {clean_text(line.error)}", file=sys.stderr)
                if 0 <= options["max_errors"] < totals.bad_lines:
                    text = f"Stopped: {totals.bad_lines:,} of the first {totals.lines:,} lines are bad."
                    self._fail(options, totals, "too many bad lines", text, TOO_MANY_BAD_LINES)
        if bad_lines:
            bad_lines.close()
        text = f"{totals.records:,} of {totals.lines:,} lines can be imported, {totals.bad_lines:,} are bad."
        self._finish(options, totals, "checked", f"{text} Nothing was changed.")

    def _finish(self, options: dict[str, Any], totals: Totals, result: str, text: str) -> None:
        """Print the result. End with another status than 0 if there are bad lines."""
        if totals.bad_lines:
            self._fail(options, totals, result, text, HAS_BAD_LINES)
        self.stdout.write(_as_json(options, totals, result) if options["json"] else text)

    def _fail(self, options: dict[str, Any], totals: Totals, result: str, text: str, status: int) -> NoReturn:
        if options["json"]:
            self.stdout.write(_as_json(options, totals, result))
        raise CommandError(text, returncode=status)


def _job_of(options: dict[str, Any]) -> Import:
    settings = get_settings()
    if options["workspace"] not in settings.workspaces:
        known = ", ".join(sorted(settings.workspaces))
        raise CommandError(f"No workspace {options['workspace']!r} in the settings; known: {known}.")
    is_stdin = options["file"] == STDIN
    name = options["name"] or (unnamed() if is_stdin else str(Path(options["file"]).resolve()))
    return Import(
        using=database_of(options),
        workspace=options["workspace"],
        contract=settings.workspace(options["workspace"]).contract,
        name=name,
        decision=Decision(reason=options["reason"]),
        max_bad_lines=options["max_errors"] if options["max_errors"] >= 0 else None,
        run=read_run_plan(options, default_run_name(f"import of {name}")),
    )


def unnamed() -> str:
    """Return a new name for an import from standard input: two streams are two imports."""
    return f"{UNNAMED} {uuid.uuid4().hex[:8]}"


def _bad_lines_path(options: dict[str, Any]) -> Path:
    if options["bad_lines"]:
        return Path(options["bad_lines"])
    return Path("stdin.bad" if options["file"] == STDIN else f"{options['file']}.bad")


@contextmanager
def _opened(name: str) -> Iterator[tuple[BinaryIO, int | None]]:
    """Open the file; yield it with its size, which is None if it is not known."""
    if name == STDIN:
        yield sys.stdin.buffer, None
        return
    path = Path(name)
    if not path.exists() or path.is_dir() or not os.access(path, os.R_OK):
        raise CommandError(f"{name} is not a file that can be read.")
    with path.open("rb") as file:
        yield file, path.stat().st_size or None  # a pipe has no size


@contextmanager
def _bar(size: int | None) -> Iterator[tqdm[Any]]:
    """Show the progress with rate and time left, if standard error is a terminal."""
    with tqdm(total=size, unit="B", unit_scale=True, disable=None, file=sys.stderr) as bar:
        yield bar


def _show(bar: tqdm[Any], totals: Totals) -> None:
    bar.n = totals.position
    bar.set_postfix({"records": f"{totals.records:,}", "bad": totals.bad_lines}, refresh=False)
    bar.refresh()


def _describe_result(job: Import, start: Totals, end: Totals, bad_lines: BadLinesFile) -> str:
    text = f"Imported {end.records - start.records:,} records into {job.workspace}."
    if start.lines:
        text += f" {start.lines:,} lines were imported before; to import them again: --restart."
    if end.bad_lines:
        text += f" {end.bad_lines:,} lines are bad: see {bad_lines.path}"
    run = job.run_plan.find(job.using, job.workspace)
    return f"{text}{describe_run(run)}" if text.endswith(".") or not run else f"{text}.{describe_run(run)}"


def _how_to_continue(job: Import, totals: Totals) -> str:
    named = f" with --name '{job.name}'" if job.name.startswith(UNNAMED) else ""
    return (
        f"{totals.records:,} records are imported. Start the same command again{named} to continue after "
        f"line {totals.lines:,}."
    )


def _as_json(options: dict[str, Any], totals: Totals, result: str) -> str:
    return json.dumps(
        {
            "result": result,
            "records": totals.records,
            "lines": totals.lines,
            "bad_lines": totals.bad_lines,
            "bytes": totals.position,
            "run": options.get("run_id"),
            "bad_lines_file": str(_bad_lines_path(options)) if totals.bad_lines else None,
        }
    )

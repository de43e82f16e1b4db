"""``manage.py outbox_backfill``: enqueue the records of the rows that a model has already."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from django.apps import apps
from django.core.exceptions import FieldError, ValidationError
from django.core.management.base import CommandError
from django.db.models import CompositePrimaryKey
from tqdm import tqdm

from ... import jobs
from ...backfill import (
    BackfillEnded,
    BadRow,
    Plan,
    Progress,
    TooManyBadRows,
    begin,
    check,
    find_unfinished,
    run,
    run_plan_of,
)
from ...conf import get_settings
from ...delivery.context import statement_deadlines
from ...foreign_text import clean_text
from ...model_records import declaration_of, declared
from ...models import Decision, OperationState, OutboxOperation
from ...operations import NotPossible
from ...pressure import read_pressure
from .. import (
    USAGE,
    CommandWithExamples,
    add_reason,
    add_single_database,
    database_of,
)
from ..runs import add_run_options, describe_run, read_run_plan

HAS_BAD_ROWS, TOO_MANY_BAD_ROWS, ENDED, INTERRUPTED = 3, 4, 5, 130
"""Exit statuses. 0 is success, 1 any other error, and 2 a wrong option."""

SHOWN_ERRORS = 5
"""Bad rows that are printed. The others are counted by the kind of their error."""


class Command(CommandWithExamples):
    help = (
        "Enqueue the records of the rows that a model has already, as its declaration makes them. The records go "
        "through a low-priority lane: the backfill uses what live traffic leaves of the rate limit. If the command is "
        "interrupted, even by a power cut, start it again with the same options: it continues after the last chunk. "
        "Ctrl-C pauses it. The page of its job in the admin pauses, continues and cancels it, too. Rows without a "
        "valid record are left out and reported. The exit status is 0 if all rows were handled, 3 if some were bad, "
        "and 4 if more than --max-errors were bad. It is 5 if another process has taken it over or a person has "
        "cancelled it, 130 after Ctrl-C, and 1 after any other error."
    )

    examples = (
        "examples:\n"
        "  manage.py outbox_backfill support.Ticket --dry-run      convert and validate all rows, change nothing\n"
        "  manage.py outbox_backfill support.Ticket                enqueue them; repeat it after an interruption\n"
        "  manage.py outbox_backfill support.Ticket --where status=open --since 2025-01-01\n"
        "                                                          only some rows\n"
        "  manage.py outbox_backfill support.Ticket --pause        pause the backfill that runs elsewhere\n"
        "  manage.py outbox_backfill support.Ticket --status       show how far it is\n"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("model", metavar="APP.MODEL", help="a model with a declaration of its records")
        parser.add_argument(
            "--where",
            action="append",
            default=[],
            metavar="LOOKUP=VALUE",
            help="only rows that match, as in filter(), for instance status=open or pk__lte=5000; may be repeated",
        )
        parser.add_argument(
            "--since", metavar="TIME", help="only rows whose event_at is at that date or time, or later"
        )
        parser.add_argument(
            "--missing", action="store_true", help="skip rows of which the outbox has a record, in any state"
        )
        parser.add_argument(
            "--batch",
            type=int,
            default=1_000,
            metavar="N",
            help="maximum number of rows that are locked in one transaction (default: %(default)s)",
        )
        parser.add_argument(
            "--max-errors",
            type=int,
            metavar="N",
            default=1_000,
            help="stop after more than N bad rows; 0 stops at the first, -1 is no limit (default: %(default)s)",
        )
        parser.add_argument(
            "--bad-rows", metavar="FILE", help="append each bad row to this file, as a JSON object in a line"
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="convert and validate the rows, and change nothing"
        )
        parser.add_argument("--sample", type=int, metavar="N", help="with --dry-run: only the first N rows")
        parser.add_argument(
            "--restart",
            action="store_true",
            help="begin again; the records become new versions of the same ones",
        )
        parser.add_argument(
            "--pause", action="store_true", help="pause the backfill that runs in another process"
        )
        parser.add_argument("--status", action="store_true", help="show how far an unfinished backfill is")
        parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
        add_run_options(parser, "backfill of the rows")
        add_reason(parser)
        add_single_database(parser, "--using")

    @statement_deadlines()
    def handle(self, *args: Any, **options: Any) -> None:
        plan = _plan_of(options)
        if options["pause"] or options["status"]:
            self._control(plan, options)
        elif options["dry_run"]:
            self._check(plan, options)
        else:
            self._run(plan, options)

    def _control(self, plan: Plan, options: dict[str, Any]) -> None:
        """Pause the job of an unfinished backfill, or show it."""
        job = find_unfinished(plan)
        if job is None:
            raise CommandError(f"No backfill of {plan.name} in {plan.using} is unfinished.")
        if options["pause"]:
            try:
                jobs.pause(job, "Paused with --pause.")
            except NotPossible as error:
                raise CommandError(error.message) from error
        state = f"Job #{job.pk}, {job.selection}, is {job.get_state_display()}: {job.done:,} of {job.total:,} rows."
        pressure = read_pressure(plan.using, get_settings().workspace(job.workspace))
        text = f"{state} {pressure}"
        self.stdout.write(_as_json(job.state, _progress_of(job)) if options["json"] else text)

    def _run(self, plan: Plan, options: dict[str, Any]) -> None:
        if options["restart"] and (earlier := find_unfinished(plan)):
            jobs.cancel(earlier, "It was started again with --restart.")
        job, last = begin(plan), Progress()
        start = job.done
        try:
            with _bar(job.total, job.done) as bar:
                for last, bad in run(plan, job):
                    self._show(bar, last, bad, options)
        except KeyboardInterrupt:
            _pause(plan, job)
            self._fail(
                options,
                last,
                "interrupted",
                f"Job #{job.pk} is paused. {_how_to_continue(last)}",
                INTERRUPTED,
            )
        except TooManyBadRows:
            _pause(plan, job)
            text = f"Stopped: {last.bad:,} rows are bad. {_how_to_continue(last)}"
            self._fail(options, last, "too many bad rows", text, TOO_MANY_BAD_ROWS)
        except BackfillEnded as error:
            self._fail(options, last, "ended", error.message, ENDED)
        text = f"Enqueued {last.enqueued:,} records of {last.done:,} rows: {plan.name}, job #{job.pk}."
        if start:
            text += f" {start:,} rows were handled by earlier starts."
        made = run_plan_of(plan, job).find(plan.using, job.workspace)
        options["run_id"] = made.id if made else None
        text += describe_run(made)
        self._finish(options, last, "enqueued", text)

    def _check(self, plan: Plan, options: dict[str, Any]) -> None:
        last = Progress()
        try:
            with _bar(None, 0) as bar:
                for last, bad in check(plan, options["sample"]):
                    bar.total = last.total
                    self._show(bar, last, bad, options)
        except TooManyBadRows:
            text = f"Stopped: {last.bad:,} of the first {last.done:,} rows are bad."
            self._fail(options, last, "too many bad rows", text, TOO_MANY_BAD_ROWS)
        text = f"{last.enqueued:,} of {last.done:,} rows would be enqueued, and {last.skipped:,} skipped."
        self._finish(options, last, "checked", f"{text} Nothing was changed.")

    def _show(self, bar: tqdm[Any], progress: Progress, bad: list[BadRow], options: dict[str, Any]) -> None:
        """Update the bar, and report bad rows."""
        bar.n = progress.done
        bar.set_postfix_str(progress.waits_for or f"bad: {progress.bad:,}", refresh=False)
        bar.update(0)
        shown = max(SHOWN_ERRORS - (progress.bad - len(bad)), 0)
        for row in bad[:shown]:
            bar.write(f"row {clean_text(row.pk)}: {clean_text(row.error)}", file=sys.stderr)
        if bad and options["bad_rows"]:
            with Path(options["bad_rows"]).open("a", encoding="utf-8") as file:
                file.writelines(json.dumps({"pk": row.pk, "error": row.error}) + "\n" for row in bad)

    def _finish(self, options: dict[str, Any], progress: Progress, result: str, text: str) -> None:
        """Print the result. End with another status than 0 if there are bad rows."""
        if progress.bad:
            self._fail(options, progress, result, f"{text} {progress.bad:,} rows are bad.", HAS_BAD_ROWS)
        self.stdout.write(_as_json(result, progress, options.get("run_id")) if options["json"] else text)

    def _fail(
        self, options: dict[str, Any], progress: Progress, result: str, text: str, status: int
    ) -> NoReturn:
        if options["json"]:
            self.stdout.write(_as_json(result, progress, options.get("run_id")))
            raise CommandError(text, returncode=status)
        for kind, entry in progress.errors.items():
            more = ", …" if entry["count"] > SHOWN_ERRORS else ""
            pks = ", ".join(entry["ids"][:SHOWN_ERRORS])
            self.stdout.write(f"{entry['count']:,} rows: {kind} (rows {pks}{more})")
        raise CommandError(text, returncode=status)


def _plan_of(options: dict[str, Any]) -> Plan:
    """Return what the options describe.

    Raises:
        CommandError: The model has no declaration, or a filter is wrong.
    """
    try:
        model = apps.get_model(options["model"])
    except (LookupError, ValueError) as error:
        raise CommandError(
            f"No model {options['model']!r}. Write it as APP.MODEL.", returncode=USAGE
        ) from error
    declaration = declaration_of(model)
    if declaration is None or declaration.model is not model:
        known = ", ".join(sorted(each.model._meta.label for each in declared())) or "none"
        text = f"{model._meta.label} has no declaration of its records (see record_of). Models with one: {known}."
        raise CommandError(text, returncode=USAGE)
    if isinstance(model._meta.pk, CompositePrimaryKey):
        raise CommandError(f"{model._meta.label} has a composite primary key, which a backfill cannot read.")
    if options["batch"] < 1:
        raise CommandError("--batch must be at least 1.", returncode=USAGE)
    filters = dict(map(_read_filter, options["where"]))
    if options["since"]:
        if not declaration.event_at:
            raise CommandError("--since needs a declaration with event_at; use --where.", returncode=USAGE)
        filters[f"{declaration.event_at}__gte"] = options["since"]
    plan = Plan(
        declaration=declaration,
        using=database_of(options),
        filters=filters,
        decision=Decision(reason=options["reason"]),
        batch=options["batch"],
        skips_known=options["missing"],
        max_bad_rows=options["max_errors"] if options["max_errors"] >= 0 else None,
    )
    plan = replace(plan, run=read_run_plan(options, plan.run_plan.name))
    try:
        plan.rows().exists()
    except (FieldError, ValidationError, ValueError) as error:
        text = " ".join(error.messages) if isinstance(error, ValidationError) else clean_text(error)
        raise CommandError(f"--where or --since: {text}", returncode=USAGE) from error
    return plan


def _read_filter(text: str) -> tuple[str, str]:
    lookup, equals, value = text.partition("=")
    if not equals or not lookup:
        raise CommandError(f"--where {text!r}: write it as LOOKUP=VALUE.", returncode=USAGE)
    return lookup, value


def _pause(plan: Plan, job: OutboxOperation) -> None:
    OutboxOperation.objects.using(plan.using).pause(job.pk, "The command has ended; start it again to go on.")


def _progress_of(job: OutboxOperation) -> Progress:
    return Progress(
        job.pk,
        job.total,
        job.changed,
        job.refused,
        job.failed,
        is_paused=job.state == OperationState.PAUSED,
        errors=job.expected,
    )


@contextmanager
def _bar(total: int | None, done: int) -> Iterator[tqdm[Any]]:
    """Show the progress with rows per second and time left, if standard error is a terminal."""
    with tqdm(total=total, initial=done, unit=" rows", disable=None, file=sys.stderr) as bar:
        yield bar


def _how_to_continue(progress: Progress) -> str:
    return (
        f"{progress.done:,} of {progress.total:,} rows are handled. Start the same command again to continue."
    )


def _as_json(result: str, progress: Progress, run_id: int | None = None) -> str:
    return json.dumps(
        {
            "result": result,
            "job": progress.job or None,
            "run": run_id,
            "rows": progress.total,
            "enqueued": progress.enqueued,
            "skipped": progress.skipped,
            "bad_rows": progress.bad,
            "errors": progress.errors,
        }
    )
